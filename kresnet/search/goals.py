"""What a search wants: accuracy for a cost, as one number; limits; and the networks that nothing else beats."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from kresnet import checks

COSTS = {"latency_ms": "ms", "macs": "multiply-adds", "parameters": "parameters", "peak_bytes": "bytes at the peak"}


@dataclasses.dataclass(frozen=True)
class Goal:
    """What networks are rewarded for, and what they must not exceed.

    Attributes:
        targets: by the name of a cost ("latency_ms", "macs", "parameters", "peak_bytes"), what it should be.
        exponents: MnasNet's w below and above the target. (-0.07, -0.07): twice the latency is worth 5 % more accuracy,
            in proportion. (0, -1): a cost below the target is worth nothing, and above it costs much.
        limits: by the name of a cost, what it must not exceed. A network that does is not trained.

    Raises:
        ValueError: if there is no such cost, or a number makes no sense.

    Source: Tan et al. 2019, arXiv:1807.11626, equations 2 and 3.
    """

    targets: Mapping[str, float] = dataclasses.field(default_factory=dict)
    exponents: tuple[float, float] = (-0.07, -0.07)
    limits: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in {**self.targets, **self.limits}.items():
            checks.choice("targets and limits", name, COSTS)
            checks.number(name, value, 1e-9, 1e18, "a positive number")
        ok = isinstance(self.exponents, tuple | list) and len(self.exponents) == 2
        checks.require(ok, "`exponents` are w below and above the target", exponents=self.exponents)
        for exponent in self.exponents:
            checks.number("exponents", exponent, -10, 1e-12, "in [-10, 0]")

    @property
    def costs(self) -> tuple[str, ...]:
        """The names of the costs that count, in the order of `COSTS`."""
        return tuple(name for name in COSTS if name in self.targets or name in self.limits)

    @property
    def axes(self) -> tuple[str, ...]:
        """The names of the costs against which the accuracy is drawn: those that count, or else the multiply-adds."""
        return self.costs or ("macs",)

    def reward(self, accuracy: float, costs: Mapping[str, float]) -> float:
        """Returns the accuracy times (cost / target) ** w for each target."""
        below, above = self.exponents
        for name, target in self.targets.items():
            ratio = costs[name] / target
            accuracy *= ratio ** (below if ratio <= 1 else above)
        return accuracy

    def allows(self, costs: Mapping[str, float]) -> bool:
        """Tells whether costs are within the limits."""
        return all(costs[name] <= limit for name, limit in self.limits.items())


def front(rows: Sequence[Any], names: Sequence[str]) -> list[Any]:
    """Returns the Pareto set: rows that no other beats in accuracy or a cost without being worse in another.

    Args:
        rows: each with an `accuracy` and `costs`, a mapping.
        names: of the costs that count.

    Returns:
        The rows of the set, those of the highest accuracy first; of equal ones, the first.
    """

    def numbers(row: Any) -> tuple[float, ...]:
        return (-row.accuracy, *(row.costs[name] for name in names))

    ordered, kept = sorted(rows, key=numbers), []
    for row in ordered:
        # What beats a row comes before it, and is itself beaten only by what beats the row too.
        if not any(all(a <= b for a, b in zip(numbers(other), numbers(row), strict=True)) for other in kept):
            kept.append(row)
    return kept
