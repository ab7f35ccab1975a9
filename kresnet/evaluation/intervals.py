"""The confidence interval of a proportion."""

from __future__ import annotations

import math

from kresnet import checks


def wilson(correct: int, examples: int, z: float = 1.959964) -> tuple[float, float]:
    """Returns Wilson's score interval for an accuracy, which is reliable near 0 and 1 too.

    Args:
        correct: number of correct examples, 0 to `examples`.
        examples: number of independent examples, at least 1.
        z: half-width of the interval in standard deviations of a normal distribution. The default gives 95 %.

    Returns:
        The lower and the upper bound, in [0, 1].

    Raises:
        ValueError: if there are no examples, or more correct ones than examples.

    Source: Wilson 1927, Journal of the American Statistical Association 22(158).
    """
    checks.integer("examples", examples)
    checks.require(0 <= correct <= examples, "`correct` must be in 0 to `examples`", correct=correct, examples=examples)
    accuracy = correct / examples
    centre = accuracy + z * z / (2 * examples)
    half_width = z * math.sqrt(accuracy * (1 - accuracy) / examples + z * z / (4 * examples * examples))
    scale = 1 + z * z / examples
    return max(0.0, (centre - half_width) / scale), min(1.0, (centre + half_width) / scale)
