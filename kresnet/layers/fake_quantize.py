"""Layers that compute in float with the rounding of int8."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from kresnet.layers.grouped import GroupedConv2D

_observing = False


@contextlib.contextmanager
def observation() -> Iterator[None]:
    """While it is open, ranges widen to what passes, and nothing is rounded to them."""
    global _observing
    _observing = True
    try:
        yield
    finally:
        _observing = False


@keras.saving.register_keras_serializable(package="kresnet")
class FakeQuantize(keras.layers.Layer):
    """Rounds a tensor to the 256 steps of an 8-bit range that holds zero.

    Args:
        momentum: share of the old range that a training step keeps, in [0, 1).
        limits: a range that never changes, (low, high); None: a moving average of the values' smallest and largest.

    The range of the other kind is the non-trainable weights `low` and `high`. It stays while `trainable` is False.
    """

    def __init__(self, momentum: float = 0.99, limits: tuple[float, float] | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.momentum, self.limits = momentum, limits and tuple(limits)

    def build(self, input_shape):
        if self.limits is None:
            options = {"shape": (), "initializer": "zeros", "trainable": False, "dtype": "float32"}
            self.low, self.high = self.add_weight(name="low", **options), self.add_weight(name="high", **options)

    def call(self, inputs, training=False):
        x = ops.cast(inputs, "float32")
        if self.limits is None:
            low, high = ops.convert_to_tensor(self.low), ops.convert_to_tensor(self.high)
            if _observing or (training and self.trainable):
                low, high = self._updated(ops.stop_gradient(x), low, high)
                self.low.assign(low)
                self.high.assign(high)
            high = ops.maximum(high, low + 1e-6)  # a tensor that is zero everywhere has a range too
        else:
            low, high = self.limits
        return inputs if _observing else ops.cast(fake_quantize(x, low, high), inputs.dtype)

    def _updated(self, x: Any, low: Any, high: Any) -> tuple[Any, Any]:
        smallest, largest = ops.minimum(ops.min(x), 0.0), ops.maximum(ops.max(x), 0.0)
        if _observing:
            return ops.minimum(low, smallest), ops.maximum(high, largest)
        momentum = ops.where(high > low, self.momentum, 0.0)
        return low * momentum + smallest * (1 - momentum), high * momentum + largest * (1 - momentum)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "momentum": self.momentum, "limits": self.limits}


def fake_quantize(x: Any, low: Any, high: Any) -> Any:
    """Rounds x, float32, to 256 steps from `low` <= 0 to `high` > 0, moved so that zero is one of them.

    Gradients pass where x lies within the range. TensorFlow's own operator where there is one: its converter knows it.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.quantization.fake_quant_with_min_max_vars(x, low, high)
    return _fake_quantize(x, low, high)


def _fake_quantize(x: Any, low: Any, high: Any) -> Any:
    step = (high - low) / 255
    zero = ops.clip(ops.floor(-low / step + 0.5), 0, 255)
    clipped = ops.clip(x, -zero * step, (255 - zero) * step)
    return clipped + ops.stop_gradient(ops.round(clipped / step) * step - clipped)


def round_weights(kernel: Any, axes: tuple[int, ...]) -> Any:
    """Rounds weights to 255 steps symmetric about zero, of one size for all weights along `axes`.

    A converter, which takes the largest weight for the last step too, finds these very steps again.
    """
    kernel = ops.convert_to_tensor(kernel)
    largest = ops.max(ops.abs(kernel), axis=axes, keepdims=True)
    step = ops.stop_gradient(ops.maximum(largest, 1e-7) / 127)
    return kernel + ops.stop_gradient(ops.round(kernel / step) * step - kernel)


@keras.saving.register_keras_serializable(package="kresnet")
class QuantizedConv2D(GroupedConv2D):
    """`keras.layers.Conv2D` with weights rounded to int8 by output channel."""

    def convolution_op(self, inputs, kernel):
        return super().convolution_op(inputs, round_weights(kernel, (0, 1, 2)))


@keras.saving.register_keras_serializable(package="kresnet")
class QuantizedDepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D` with weights rounded to int8 by channel."""

    def call(self, inputs):
        x = ops.depthwise_conv(
            inputs, round_weights(self.kernel, (0, 1)), self.strides, self.padding, dilation_rate=self.dilation_rate
        )
        return self.activation(x + ops.cast(self.bias, x.dtype) if self.use_bias else x)


@keras.saving.register_keras_serializable(package="kresnet")
class QuantizedDense(keras.layers.Dense):
    """`keras.layers.Dense` with weights rounded to int8 by output channel."""

    def call(self, inputs, training=None):
        x = ops.matmul(inputs, round_weights(self.kernel, (0,)))
        return self.activation(x + ops.cast(self.bias, x.dtype) if self.use_bias else x)
