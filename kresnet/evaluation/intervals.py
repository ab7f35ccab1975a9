"""How sure a share is."""

from __future__ import annotations

import math

from kresnet import checks


def wilson(correct: int, examples: int, z: float = 1.959964) -> tuple[float, float]:
    """Returns the confidence interval of a share of independent examples, in [0, 1]; it holds near 0 and 1 too.

    Args:
        correct: successes, 0 to `examples`.
        examples: trials, at least 1.
        z: standard deviations of a normal distribution; the default is for 95 %.

    Raises:
        ValueError: if there are no examples, or more successes than examples.

    Source: Wilson 1927, Journal of the American Statistical Association 22(158).
    """
    checks.integer("examples", examples)
    checks.require(0 <= correct <= examples, "`correct` must be in 0 to `examples`", correct=correct, examples=examples)
    share = correct / examples
    middle = share + z * z / (2 * examples)
    half = z * math.sqrt(share * (1 - share) / examples + z * z / (4 * examples * examples))
    scale = 1 + z * z / examples
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)
