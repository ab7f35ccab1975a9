"""Searches over compound scaling: for the best coefficients, and for the largest phi within a budget."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras

from kresnet import checks
from kresnet.deploy.export import export
from kresnet.graph.cost import cost
from kresnet.models.scaling import CompoundScaling
from kresnet.search.goals import Goal
from kresnet.search.space import Space

__all__ = ["Candidate", "CompoundScaling", "grid_search", "largest"]


Point = tuple[float, float, float]  # alpha, beta, gamma


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A network that `grid_search` tried.

    Attributes:
        alpha, beta, gamma: its coefficients of depth, width and resolution.
        macs: multiply-adds per image.
        params: parameters, trainable or not.
        score: what the caller's function returned.
    """

    alpha: float
    beta: float
    gamma: float
    macs: int
    params: int
    score: float


def grid_search(
    builder: Callable[..., keras.Model],
    score: Callable[[keras.Model], float],
    budget: float = 2.0,
    step: float = 0.05,
    *,
    tolerance: float = 0.05,
    journal: str | os.PathLike | None = None,
    **arguments: Any,
) -> list[Candidate]:
    """Searches a grid for the best coefficients at phi = 1, usually of a small network.

    Args:
        builder: a kresnet builder, or a function that takes the same arguments.
        score: returns how good a network is; the higher, the better. It usually trains the network.
        budget: the target of alpha * beta**2 * gamma**2, above 1.
        step: distance between neighbouring values of each coefficient, which start at 1.
        tolerance: largest relative difference between that product and `budget`, in [0, 1).
        journal: a file to which each score is written at once, so that an interrupted search can resume.
        **arguments: further arguments of the builder.

    Returns:
        The candidates, best first. After Ctrl-C, those scored so far.

    Raises:
        ValueError: if no coefficients are within the tolerance, or the journal belongs to another search.

    Source: Tan and Le 2019, arXiv:1905.11946, section 3.3, step 1.
    """
    from rich.progress import track

    checks.number("budget", budget, 1.000001, 1000, "a number above 1 (and under 1000)")
    checks.number("step", step, 0.001, 10, "a number in [0.001, 10)")
    checks.number("tolerance", tolerance, 0, 1, "a fraction in [0, 1)")
    grid = list(_grid(builder, budget, step, tolerance))
    checks.require(
        len(grid) > 0, "No coefficients are within the tolerance", budget=budget, step=step, tolerance=tolerance
    )
    scored = _read_journal(journal)
    checks.require(set(scored) <= set(grid), "The journal belongs to another search", journal=str(journal))
    try:
        for point in track([point for point in grid if point not in scored], "Searching"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # compound scaling warns about a product other than 2
                model = builder(phi=1, **dict(zip(("alpha", "beta", "gamma"), point, strict=True)), **arguments)
            costs = cost(model)
            scored[point] = Candidate(*point, costs.macs, costs.params, float(score(model)))
            if journal is not None:
                with open(journal, "a") as file:
                    file.write(json.dumps(dataclasses.asdict(scored[point])) + "\n")
    except KeyboardInterrupt:
        warnings.warn(f"Interrupted: {len(scored)} of {len(grid)} candidates were scored", stacklevel=2)
    return sorted(scored.values(), key=lambda candidate: candidate.score, reverse=True)


def _grid(builder: Callable[..., keras.Model], budget: float, step: float, tolerance: float) -> Iterator[Point]:
    """Yields the points (alpha, beta, gamma) of the grid that are within the tolerance."""

    def within(point: Mapping[str, float]) -> bool:
        alpha, beta, gamma = point.values()
        return abs(alpha * beta**2 * gamma**2 - budget) <= tolerance * budget + 1e-9

    counts = {"alpha": 1, "beta": 2, "gamma": 2}
    counts = {name: int((budget * (1 + tolerance)) ** (1 / power) / step) + 1 for name, power in counts.items()}
    choices = {name: [round(1 + i * step, 6) for i in range(count)] for name, count in counts.items()}
    for point in Space(functools.partial(builder, phi=1), choices, valid=within).every():
        yield tuple(point.values())


def _read_journal(journal: str | os.PathLike | None) -> dict[Point, Candidate]:
    """Returns the candidates that a journal holds; none if there is no such file yet."""
    if journal is None or not Path(journal).exists():
        return {}
    scored = {}
    lines = Path(journal).read_text().splitlines(keepends=True)
    for number, line in enumerate(lines):
        try:
            candidate = Candidate(**json.loads(line))
        except (json.JSONDecodeError, TypeError):
            if number == len(lines) - 1 and not line.endswith("\n"):  # cut short by a kill: scored again
                Path(journal).write_text("".join(lines[:-1]))
                break
            raise ValueError(f"Line {number + 1} is not a candidate. Received: journal={str(journal)!r}") from None
        scored[candidate.alpha, candidate.beta, candidate.gamma] = candidate
    return scored


def largest(
    builder: Callable[..., keras.Model],
    *,
    macs: float | None = None,
    params: float | None = None,
    tflite_bytes: float | None = None,
    **arguments: Any,
) -> float:
    """Returns the largest phi, to two decimals, whose network is within every given limit.

    Args:
        builder: a kresnet builder.
        macs: most multiply-adds per image, at the input size that belongs to phi.
        params: most parameters, trainable or not.
        tflite_bytes: largest size of the float32 `.tflite` file. Networks are exported to measure it, which takes
            minutes.
        **arguments: further arguments of the builder, such as `classes` or `alpha`.

    Raises:
        ValueError: if no limit is given, or even the network of phi = -10 exceeds one.
    """
    limits = {"macs": macs, "params": params, "tflite_bytes": tflite_bytes}
    limits = {name: limit for name, limit in limits.items() if limit is not None}
    checks.require(len(limits) > 0, "Give at least one limit", macs=macs, params=params, tflite_bytes=tflite_bytes)

    counted = {name: limit for name, limit in (("macs", macs), ("parameters", params)) if limit is not None}
    goal = Goal(limits=counted)
    # By the network's layers, which a hundredth of phi often leaves as they are: an export takes seconds.
    exported_bytes: dict[str, int] = {}

    def fits(hundredths: int) -> bool:
        model = builder(phi=hundredths / 100, **arguments)
        costs = cost(model)
        if not goal.allows({"macs": costs.macs, "parameters": costs.params}):
            return False
        if tflite_bytes is None:
            return True
        if (layers := _layers(model)) not in exported_bytes:
            exported_bytes[layers] = _tflite_bytes(model)
        return exported_bytes[layers] <= tflite_bytes

    low = 0  # in hundredths; first in steps of 1, so that no network far above the limits is built
    while not fits(low):
        low -= 100
        checks.require(low >= -1000, "Even the smallest network exceeds a limit", **limits)
    high = low + 100
    while high <= 2000 and fits(high):
        low, high = high, high + 100
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low / 100


def _layers(model: keras.Model) -> str:
    """Returns the model as JSON without its description, in which phi's exact multipliers stand."""
    network = json.loads(model.to_json())
    network["config"].pop("kresnet_config", None)
    return json.dumps(network)


def _tflite_bytes(model: keras.Model) -> int:
    with tempfile.TemporaryDirectory() as folder:
        return export(model, Path(folder) / "model.tflite", latency=False).stat().st_size
