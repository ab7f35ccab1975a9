"""Padding that Keras lacks."""

from __future__ import annotations

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="kresnet")
class EdgePadding2D(keras.layers.ZeroPadding2D):
    """Pads by repeating the outermost pixels, by at most one pixel on each side. Args: as `keras.layers.ZeroPadding2D`.

    Before a 3x3 max pooling this has the effect of PyTorch's padding with minus infinity, but with finite numbers: each
    repeated pixel lies only in windows that contain its original.
    """

    nearest = 0  # which row, counted from the edge, is repeated

    def call(self, inputs):
        (top, bottom), (left, right) = self.padding
        return self._padded(self._padded(inputs, 1, top, bottom), 2, left, right)

    def _padded(self, x, axis: int, before: int, after: int):
        # Slices, since ops.pad(mode="symmetric") becomes an operator that XNNPACK lacks.
        nearest = 0 if x.shape[axis] == 1 else self.nearest  # a single row is its own reflection
        rows = (slice(None),) * axis
        first, last = x[*rows, nearest : nearest + 1], x[*rows, -1 - nearest : -nearest or None]
        parts = [first] * before + [x] + [last] * after
        return ops.concatenate(parts, axis=axis) if len(parts) > 1 else x


@keras.saving.register_keras_serializable(package="kresnet")
class ReflectPadding2D(EdgePadding2D):
    """Pads by reflecting the pixels at the outermost ones, which are not repeated, by at most one pixel on each side.

    Args: as `keras.layers.ZeroPadding2D`.
    """

    nearest = 1
