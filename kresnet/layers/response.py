"""Local response normalization, in operators that are fast everywhere."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from kresnet import checks


@keras.saving.register_keras_serializable(package="kresnet")
class LocalResponseNormalization(keras.layers.Layer):
    """Divides each value by a power of the sum of squares over its neighbours among the channels.

    y = x / (bias + alpha * sum)^beta, where the sum is over the `size` channels around the value's own, of those that
    exist. It computes in float32 in mixed precision, since float16 ends where 256 is squared.

    Args:
        size: channels in a sum, odd.
        alpha: factor of the sum, at least 0. As in the paper, it is not divided by `size`: Caffe's, cuda-convnet's and
            PyTorch's are, and so `alpha=1e-4` of theirs is `alpha=1e-4 / size` here. TensorFlow's is not.
        beta: the power, at least 0.
        bias: above 0.

    Raises:
        ValueError: if a number is out of its range.

    Source: Krizhevsky et al. 2012, "ImageNet Classification with Deep Convolutional Neural Networks", section 3.3.
    """

    def __init__(self, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, bias: float = 2.0, **kwargs: Any):
        super().__init__(**kwargs)
        checks.require(checks.integer("size", size) % 2 == 1, "`size` must be odd", size=size)
        self.size, self.bias = size, checks.number("bias", bias, 1e-12, 1e12, "above 0")
        self.alpha = checks.number("alpha", alpha, 0, 1e12, "at least 0")
        self.beta = checks.number("beta", beta, 0, 100, "in [0, 100)")

    def call(self, inputs: Any) -> Any:
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        channels = np.arange(x.shape[-1])
        near = np.abs(channels[:, None] - channels) <= self.size // 2
        # A product with a constant matrix, and the power in two functions: XNNPACK has these, but no power.
        sums = ops.conv(ops.square(x), ops.cast(near[None, None], x.dtype), 1, "valid")
        return ops.cast(x * ops.exp(-self.beta * ops.log(self.bias + self.alpha * sums)), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            **{name: getattr(self, name) for name in ("size", "alpha", "beta", "bias")},
        }
