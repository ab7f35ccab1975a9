"""The page of a search: all networks by accuracy and cost, the Pareto set, and each one's stages. It loads nothing."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from kresnet import __version__
from kresnet.files import replacing
from kresnet.inference import predictors
from kresnet.search.goals import COSTS, Goal, front
from kresnet.search.journal import Trial
from kresnet.search.picture import Tick, linear, logarithmic
from kresnet.search.space import Space

FILE = "report.html"
PAGES = [Path(__file__).parent / "pages", Path(predictors.__file__).parent / "pages"]  # the second holds style.css
_FORMS = {
    "latency_ms": ("latency", "ms", 1.0, "{:.2f} ms"),
    "macs": ("multiply-adds", "MMACs", 1e6, "{:.1f} MMACs"),
    "parameters": ("parameters", "thousands", 1e3, "{:.1f} thousand parameters"),
    "peak_bytes": ("memory at the peak", "MiB", 2**20, "{:.2f} MiB"),
}


class Dot(NamedTuple):
    """A network's circle, at fractions of the axes."""

    trial: Trial
    x: float
    y: float
    kind: str  # "front", "whole", or "given" for one that was given up


def shown(name: str, value: float) -> str:
    """Formats a cost."""
    _, _, unit, form = _FORMS[name]
    return form.format(value / unit)


def write(path: Path, space: Space, goal: Goal, trials: Sequence[Trial], settings: Mapping[str, Any]) -> None:
    """Writes the page.

    Args:
        path: of the file, which is written completely or not at all.
        space, goal, settings: of the search. The goal's axes are drawn; the Pareto set is of them and the accuracy.
        trials: those that ended.
    """
    whole = [trial for trial in trials if trial.whole]
    best = front(whole, goal.axes)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("search.html").render(
        panels=[_panel(name, trials, best) for name in goal.axes] if trials else [],
        front=best,
        best=max(whole, key=lambda trial: trial.reward) if whole else None,
        trials=sorted(trials, key=lambda trial: -trial.reward),
        stages={trial.number: stages(space, trial) for trial in best},
        costs=[(name, *_FORMS[name][:2]) for name in COSTS if trials and name in trials[0].costs],
        shown=shown,
        goal=goal,
        settings=settings,
        version=__version__,
        date=datetime.date.today(),
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _panel(name: str, trials: Sequence[Trial], best: Sequence[Trial]) -> dict[str, Any]:
    title, unit, scale, _ = _FORMS[name]
    x, x_ticks = logarithmic([max(trial.costs[name], 1e-9) / scale for trial in trials])
    y, y_ticks = linear([100 * trial.accuracy for trial in trials])
    numbers = {trial.number for trial in best}
    dots = [
        Dot(
            trial,
            x(max(trial.costs[name], 1e-9) / scale),
            y(100 * trial.accuracy),
            "front" if trial.number in numbers else "whole" if trial.whole else "given",
        )
        for trial in trials
    ]
    dots.sort(key=lambda dot: ("given", "whole", "front").index(dot.kind))  # the front is drawn over the others
    ticks: dict[str, list[Tick]] = {"x_ticks": x_ticks, "y_ticks": y_ticks}
    return {"name": name, "title": title, "unit": unit, "dots": dots, **ticks}


def stages(space: Space, trial: Trial) -> tuple[list[str], list[list[Any]]]:
    """Returns the columns and rows of a table: a network's stages, or its choices, where its spec has no stages."""
    spec = space.spec(trial.point)
    if hasattr(spec, "table"):
        columns = ["stage", "expansion", "channels", "blocks", "stride", "kernel", "squeeze"]
        return columns, [
            [i, row.t, row.c, row.n, row.s, row.k, row.se or "none"] for i, row in enumerate(spec.stages(), 2)
        ]
    if hasattr(spec, "depths"):
        rows = [
            [
                i,
                spec.depths[i - 2],
                spec.widths[i - 2],
                spec.expansion,
                spec.groups,
                spec.se_reduction or "none",
                spec.stem,
            ]
            for i in range(2, 2 + len(spec.depths))
        ]
        return ["stage", "blocks", "width", "expansion", "groups", "squeeze", "stem"], rows
    return ["choice", "option"], [[name, str(option)] for name, option in trial.point.items()]
