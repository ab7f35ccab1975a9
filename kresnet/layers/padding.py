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

    def call(self, inputs):
        # Slices, since ops.pad(mode="symmetric") becomes an operator that XNNPACK lacks.
        (top, bottom), (left, right) = self.padding
        rows = [inputs[:, :1]] * top + [inputs] + [inputs[:, -1:]] * bottom
        x = ops.concatenate(rows, axis=1) if len(rows) > 1 else inputs
        columns = [x[:, :, :1]] * left + [x] + [x[:, :, -1:]] * right
        return ops.concatenate(columns, axis=2) if len(columns) > 1 else x
