"""Searches over compound scaling: the coefficients for a small network, and the largest phi within a budget."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from kresnet import checks
from kresnet.deploy.export import export
from kresnet.graph.cost import cost
from kresnet.models.scaling import CompoundScaling

__all__ = ["Candidate", "CompoundScaling", "grid_search", "largest"]


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A network that `grid_search` tried: its coefficients, what it costs, and the user's score."""

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
    """Finds the coefficients for a small network: the paper's step 1, phi = 1.

    Args:
        builder: one of ours.
        score: the more, the better, for a network; it usually trains it.
        budget: what alpha * beta**2 * gamma**2 is to be, above 1.
        step: between the values of each coefficient, from 1 upwards.
        tolerance: by what fraction of `budget` the product may miss it.
        journal: a file that keeps every score as it comes, so that a search that was ended goes on where it was.
        **arguments: further ones of the builder.

    Returns:
        The candidates, best first. After Ctrl-C, those that were scored.

    Raises:
        ValueError: if no coefficients are within the tolerance, or the journal is another search's.
    """
    from rich.progress import track

    checks.number("budget", budget, 1.000001, 1000, "a number above 1 (and under 1000)")
    checks.number("step", step, 0.001, 10, "a number in [0.001, 10)")
    checks.number("tolerance", tolerance, 0, 1, "a fraction in [0, 1)")
    grid = list(_grid(budget, step, tolerance))
    checks.require(
        len(grid) > 0, "No coefficients are within the tolerance", budget=budget, step=step, tolerance=tolerance
    )
    done = _read_journal(journal)
    checks.require(set(done) <= set(grid), "The journal is that of another search", journal=str(journal))
    try:
        for point in track([point for point in grid if point not in done], "Searching"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the budget need not be 2
                model = builder(phi=1, **dict(zip(("alpha", "beta", "gamma"), point, strict=True)), **arguments)
            costs = cost(model)
            done[point] = Candidate(*point, costs.macs, costs.params, float(score(model)))
            if journal is not None:
                with open(journal, "a") as file:
                    file.write(json.dumps(dataclasses.asdict(done[point])) + "\n")
    except KeyboardInterrupt:
        warnings.warn(f"Interrupted: {len(done)} of {len(grid)} candidates were scored", stacklevel=2)
    return sorted(done.values(), key=lambda candidate: candidate.score, reverse=True)


def _grid(budget: float, step: float, tolerance: float):
    counts = [range(int((budget * (1 + tolerance)) ** (1 / power) / step) + 1) for power in (1, 2, 2)]
    for counted in itertools.product(*counts):
        alpha, beta, gamma = (round(1 + count * step, 6) for count in counted)
        if abs(alpha * beta**2 * gamma**2 - budget) <= tolerance * budget + 1e-9:
            yield alpha, beta, gamma


def _read_journal(journal: Any) -> dict[tuple[float, float, float], Candidate]:
    if journal is None or not Path(journal).exists():
        return {}
    done = {}
    lines = Path(journal).read_text().splitlines(keepends=True)
    for number, line in enumerate(lines):
        try:
            candidate = Candidate(**json.loads(line))
        except (json.JSONDecodeError, TypeError):
            if number == len(lines) - 1 and not line.endswith("\n"):  # the one that a kill cut short is scored again
                Path(journal).write_text("".join(lines[:-1]))
                break
            raise ValueError(f"Line {number + 1} is not a journal's. Received: journal={str(journal)!r}") from None
        done[candidate.alpha, candidate.beta, candidate.gamma] = candidate
    return done


def largest(
    builder: Callable[..., keras.Model],
    *,
    macs: float | None = None,
    params: float | None = None,
    tflite_bytes: float | None = None,
    **arguments: Any,
) -> float:
    """Returns the largest phi, to two decimals, whose network keeps within every limit that is given.

    Args:
        builder: one of ours.
        macs: multiply-adds for an image, at the size that phi gives.
        params: parameters, trainable or not.
        tflite_bytes: size of the float32 `.tflite` file. Each step exports a network, so it takes minutes.
        **arguments: further ones of the builder, such as `classes` or `alpha`.

    Raises:
        ValueError: if no limit is given, or even phi = -10 breaks one.
    """
    limits = {"macs": macs, "params": params, "tflite_bytes": tflite_bytes}
    limits = {name: limit for name, limit in limits.items() if limit is not None}
    checks.require(len(limits) > 0, "Give at least one limit", macs=macs, params=params, tflite_bytes=tflite_bytes)

    # Bytes, by networks: a hundredth of phi often changes nothing, and an export takes seconds.
    exported: dict[str, int] = {}

    def fits(hundredths: int) -> bool:
        model = builder(phi=hundredths / 100, **arguments)
        costs = cost(model)
        sizes = {"macs": costs.macs, "params": costs.params}
        if any(sizes[name] > limit for name, limit in limits.items() if name in sizes):
            return False
        if tflite_bytes is None:
            return True
        if (network := model.to_json()) not in exported:
            exported[network] = _tflite_bytes(model)
        return exported[network] <= tflite_bytes

    low = 0  # steps of 1 first, so that no network much larger than the limits is ever built
    while not fits(low):
        low -= 100
        checks.require(low >= -1000, "Even the smallest network breaks a limit", **limits)
    high = low + 100
    while high <= 2000 and fits(high):
        low, high = high, high + 100
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low / 100


def _tflite_bytes(model: keras.Model) -> int:
    with tempfile.TemporaryDirectory() as folder:
        return export(model, Path(folder) / "model.tflite", latency=False).stat().st_size
