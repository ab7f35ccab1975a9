"""How far a file's numbers may be from its network's before it is refused."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from kresnet import checks

TOLERANCES = {None: 1e-4, "float16": 1e-2}
# Two roundings of the same network differ as one does from no rounding, within a factor of 2 where it was measured.
ROUNDINGS = 8


@dataclasses.dataclass(frozen=True)
class Limits:
    """How far a file's outputs may be from its network's.

    Attributes:
        tolerance: largest difference between their numbers, in standard deviations of the network's; at least 0, may
            be infinite.
        agreement: smallest fraction of images, in [0, 1], on which both must choose the same class. A file is refused
            only if the images show that it has less: if the 95 % confidence interval of its fraction lies below.
        rounding: whether numbers that differ by more than `tolerance` pass if rounding alone explains it, and the file
            has an agreement of this. None: they do not.
    """

    tolerance: float
    agreement: float
    rounding: float | None = None

    def __post_init__(self):
        checks.require(self.tolerance >= 0, "`tolerance` must be at least 0", tolerance=self.tolerance)
        for share in (self.agreement, *([] if self.rounding is None else [self.rounding])):
            checks.number("agreement", share, 0, np.nextafter(1, 2), "a fraction in [0, 1]")

    def check(
        self,
        numbers: dict[str, Any],
        name: str,
        explain: Callable[[], str] = lambda: "",
        rounding: Callable[[], dict[str, float] | None] = lambda: None,
        stacklevel: int = 2,
    ) -> None:
        """Compares what was measured with the limits, and warns where the images are too few to tell.

        Args:
            numbers: from `proof.prove` or `proof.compare`; what `rounding` returns is added.
            name: what messages call the file.
            explain: called only if the file is too far off; says where that comes from.
            rounding: called only if the numbers differ by more than the tolerance; see `rounding.measure`.
            stacklevel: of the warning, as in `warnings.warn`: 2 for the caller.

        Raises:
            ValueError: if the file is too far from its network.
        """
        wrong = self._numbers(numbers, rounding)
        asked = self.agreement if wrong or "rounding" not in numbers else max(self.agreement, self.rounding)
        share = numbers.get("top1_agreement")
        cures = ""
        if share and share["value"] < asked:
            low, high = share["interval95"]
            text = (
                f"it chooses the network's class for {share['value']:.1%} of {share['images']} images "
                f"(95 % interval: {low:.1%} to {high:.1%})"
            )
            if high < asked:
                wrong, cures = [*wrong, f"{text}, not {asked:.1%}"], _CURES if self.agreement else ""
            elif not wrong:
                warnings.warn(
                    f"{name}: {text}, which are too few to tell whether it does for {asked:.1%}: more would.",
                    stacklevel=stacklevel,
                )
        if wrong:
            parts = (f"{name} is not written: {' and '.join(wrong)}.", explain(), cures)
            raise ValueError(" ".join(part for part in parts if part))

    def _numbers(self, numbers: dict[str, Any], rounding: Callable[[], dict[str, float] | None]) -> list[str]:
        """Returns what is wrong with a file's numbers, in one line or none."""
        difference = (numbers.get("logits") or numbers["outputs"])["largest_of_deviation"]
        if difference <= self.tolerance:
            return []
        text = f"its numbers differ by up to {difference:.2g} of their deviation (tolerance: {self.tolerance:g}"
        found = None if self.rounding is None else rounding()
        if not found:
            return [f"{text})"]
        numbers["rounding"] = found
        alone = found["weights"] + found["sums"]
        as_it_should = found["file"] <= max(TOLERANCES[None], ROUNDINGS * found["sums"])
        if as_it_should and difference <= TOLERANCES[None] + ROUNDINGS * alone:
            return []
        return [f"{text}; rounding alone: {alone:.2g})"]


_CURES = (
    "What helps: more images, to calibrate with and to measure on; `kresnet.quantize_aware` (--quantize-aware), which "
    "trains the network to compute so; or a lower `agreement` (--agreement)."
)
