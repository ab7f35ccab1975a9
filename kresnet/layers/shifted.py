"""A convolution under JAX on a CPU as the sum of what each value of its kernel multiplies.

XLA has no kernels there for depthwise convolutions and for the gradients of grouped ones, and runs its general one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras import ops


def sums_are_quicker(inputs: Any) -> bool:
    """Tells whether JAX runs on a CPU, and in a dtype whose sums need not be rounded once only."""
    wide = keras.backend.standardize_dtype(inputs.dtype) in ("float32", "float64")
    return wide and _is_jax_on_a_cpu()


def shifted(
    x: Any, window: Sequence[int], strides: Sequence[int], dilations: Sequence[int], padding: str
) -> Iterator[tuple[int, int, Any]]:
    """Yields (row, column) of each of a convolution's kernel values, and what that multiplies of x, channels last."""
    sides = [_side(*numbers, padding) for numbers in zip(x.shape[1:3], window, strides, dilations, strict=True)]
    x = ops.pad(x, ((0, 0), *(pads for _, pads in sides), *[(0, 0)] * (len(x.shape) - 3)))
    rows, columns = (
        [slice(start := i * dilation, start + (count - 1) * stride + 1, stride) for i in range(size)]
        for (count, _), size, stride, dilation in zip(sides, window, strides, dilations, strict=True)
    )
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            yield i, j, x[:, row, column]


def _side(pixels: int, window: int, stride: int, dilation: int, padding: str) -> tuple[int, tuple[int, int]]:
    """Returns how many values an axis of the output has, and the padding before and behind."""
    reach = (window - 1) * dilation + 1
    if padding == "valid":
        return (pixels - reach) // stride + 1, (0, 0)
    count = -(-pixels // stride)
    missing = max((count - 1) * stride + reach - pixels, 0)
    return count, (missing // 2, missing - missing // 2)


def _is_jax_on_a_cpu() -> bool:
    if keras.backend.backend() != "jax":
        return False
    import jax

    return jax.default_backend() == "cpu"
