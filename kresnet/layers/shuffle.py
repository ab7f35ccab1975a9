"""Channels in another order."""

from __future__ import annotations

import keras
from keras import ops

from kresnet import checks


@keras.saving.register_keras_serializable(package="kresnet")
class ChannelShuffle(keras.layers.Layer):
    """Takes the channels of all groups in turn: the first of each group, then the second of each.

    So a grouped convolution behind it sees channels of all groups. Keras's layers say it only for maps of known size.

    Args:
        groups: number of groups, which divides the channels.

    Source: Zhang et al. 2017, arXiv:1707.01083, section 3.1.
    """

    def __init__(self, groups: int, **kwargs):
        super().__init__(**kwargs)
        self.groups = checks.integer("groups", groups)

    def build(self, input_shape):
        checks.require(
            input_shape[-1] % self.groups == 0,
            "`groups` must divide the channels",
            groups=self.groups,
            channels=input_shape[-1],
        )

    def call(self, inputs):
        shape = ops.shape(inputs)
        # Of three axes and not five, which more kernels can transpose.
        pairs = ops.reshape(inputs, (-1, self.groups, shape[-1] // self.groups))
        return ops.reshape(ops.transpose(pairs, (0, 2, 1)), (-1, *shape[1:]))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "groups": self.groups}
