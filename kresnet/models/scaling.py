"""Compound scaling: phi, alpha, beta, gamma. Tan and Le 2019, arXiv:1905.11946, section 3.3."""

from __future__ import annotations

import dataclasses
import math
import warnings

from kresnet import checks


@dataclasses.dataclass(frozen=True)
class CompoundScaling:
    """How much deeper, wider and finer a network becomes, from one number.

    Args:
        phi: about how many times to double the MACs, in [-10, 20]; 0 leaves the network as it is.
        alpha: depth's coefficient, at least 1.
        beta: width's coefficient, at least 1.
        gamma: resolution's coefficient, at least 1. A warning says if alpha * beta**2 * gamma**2 is not near 2.

    Raises:
        ValueError: if a coefficient is under 1, or a number out of its range.
    """

    phi: float
    alpha: float = 1.2
    beta: float = 1.1
    gamma: float = 1.15

    def __post_init__(self):
        checks.number("phi", self.phi, -10, 20.000001, "a number in [-10, 20]")
        for name in ("alpha", "beta", "gamma"):
            checks.number(name, getattr(self, name), 1, 10, "a coefficient of at least 1 (and under 10)")
        if not 1.8 <= self.base <= 2.2:
            text = f"alpha * beta**2 * gamma**2 is {self.base:.3f}: a step of phi multiplies the MACs by that, not by 2"
            warnings.warn(text, stacklevel=3)

    @property
    def base(self) -> float:
        """Factor by which a step of phi multiplies the MACs: alpha * beta**2 * gamma**2."""
        return self.alpha * self.beta**2 * self.gamma**2

    @property
    def depth(self) -> float:
        """Multiplier of the blocks."""
        return self.alpha**self.phi

    @property
    def width(self) -> float:
        """Multiplier of the channels."""
        return self.beta**self.phi

    @property
    def resolution(self) -> float:
        """Multiplier of the input's height and width."""
        return self.gamma**self.phi

    @property
    def flops(self) -> float:
        """Multiplier of the MACs (and FLOPs), before blocks, channels and pixels are rounded."""
        return self.base**self.phi

    def pixels(self, size: int, stride: int) -> int:
        """Returns the scaled height or width in pixels: the nearest multiple of the stride."""
        return size if self.resolution == 1 else max(1, round(size * self.resolution / stride)) * stride


def multiplied_depth(blocks: int, multiplier: float) -> int:
    """Returns `multiplier` times as many blocks, rounded up; at least 1."""
    # The product's own rounding (5 * 1.2 = 6.000000000000001) must not add a block.
    return max(1, math.ceil(round(blocks * multiplier, 6)))


def make_divisible(channels: float, divisor: int = 8, keep: float = 0.0) -> int:
    """Returns the multiple of `divisor` nearest to `channels`; at least `divisor`, and at least `keep * channels`."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= keep * channels else rounded + divisor
