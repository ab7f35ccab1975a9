"""Depthwise convolution as a sum of shifted products under JAX on a CPU."""

from __future__ import annotations

from typing import Any

import keras

from kresnet.layers.shifted import shifted, sums_are_quicker


@keras.saving.register_keras_serializable(package="kresnet")
class DepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """Keras's depthwise convolution, 4 to 20 times faster under JAX on a CPU.

    XLA has no kernel for it there, and runs its general one, channel by channel. Here each of the kernel's values
    multiplies the whole map, shifted, and XLA makes one loop of their sum; the gradients follow by themselves.

    Elsewhere, in narrow dtypes, whose sums would be rounded at each step, with several filters a channel and of
    channels first, this is Keras's layer. Weights, configuration and numbers (but for the order of a sum) are the same
    everywhere, and so is the name in a file: where kresnet is not imported, Keras loads its own.

    Args: as `keras.layers.DepthwiseConv2D`.
    """

    def call(self, inputs: Any) -> Any:
        if not (self.depth_multiplier == 1 and self.data_format == "channels_last" and sums_are_quicker(inputs)):
            return super().call(inputs)
        views = shifted(inputs, self.kernel_size, self.strides, self.dilation_rate, self.padding)
        outputs = sum(view * self.kernel[i, j, :, 0] for i, j, view in views)
        return self.activation(outputs + self.bias if self.use_bias else outputs)


# Where kresnet is not imported, Keras looks for a class by the module and name in the file, and finds its own.
DepthwiseConv2D.__module__ = keras.layers.DepthwiseConv2D.__module__
