"""Convolution whose output channels each take some of the input channels, by a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kresnet import checks


@keras.saving.register_keras_serializable(package="kresnet")
class SparseConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` that has weights only where a table connects an output channel with an input channel.

    It convolves with a whole kernel that is zero elsewhere, which a converter folds into one of an ordinary
    convolution. Its own `kernel` is (height, width, connections).

    Args:
        filters, kernel_size: as in `keras.layers.Conv2D`.
        connections: for each output channel, the numbers from 0 of the input channels that it takes, at least one.
        **kwargs: as `keras.layers.Conv2D`, without `groups`; `data_format="channels_last"` only.

    Raises:
        ValueError: if the table does not have a row of different channels for each of the filters.

    Source: LeCun et al. 1998, "Gradient-Based Learning Applied to Document Recognition", section II.B, table I.
    """

    def __init__(self, filters: int, kernel_size: Any, connections: Sequence[Sequence[int]], **kwargs: Any):
        super().__init__(filters, kernel_size, **kwargs)
        self.connections = [list(row) for row in connections]
        checks.require(
            len(self.connections) == filters and all(row and len({*row}) == len(row) for row in self.connections),
            "`connections` must have a row of different input channels for each filter",
            connections=connections,
            filters=filters,
        )

    def build(self, input_shape):
        channels = input_shape[-1]
        known = all(0 <= channel < channels for row in self.connections for channel in row)
        checks.require(known, f"`connections` names input channels below {channels}", connections=self.connections)
        whole, count = (*self.kernel_size, channels, self.filters), sum(map(len, self.connections))
        self._place = np.zeros((count, channels * self.filters), "float32")
        ends = [(channel, i) for i, row in enumerate(self.connections) for channel in row]
        for connection, (channel, i) in enumerate(ends):
            self._place[connection, channel * self.filters + i] = 1

        def drawn(shape: Any, dtype: Any = None) -> Any:
            """Draws the whole kernel and keeps what is connected, so that the deviation is a whole one's."""
            kernel = ops.reshape(self.kernel_initializer(whole, dtype), (-1, self._place.shape[1]))
            return ops.reshape(ops.take(kernel, self._place.argmax(1), axis=1), shape)

        self._kernel = self.add_weight(name="kernel", shape=(*self.kernel_size, count), initializer=drawn)
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer=self.bias_initializer)

    def convolution_op(self, inputs, kernel):
        count, size = self._place.shape
        kernel = ops.matmul(ops.reshape(kernel, (-1, count)), ops.cast(self._place, kernel.dtype))
        return super().convolution_op(inputs, ops.reshape(kernel, (*self.kernel_size, size // self.filters, -1)))

    def get_config(self):
        return {**super().get_config(), "connections": self.connections}
