"""Layers that compute in float with the rounding of int8."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from kresnet.layers.grouped import GroupedConv2D

_observing = False


@contextlib.contextmanager
def observation() -> Iterator[None]:
    """While it is open, each range widens to the values that pass, and none of them is rounded."""
    global _observing
    _observing = True
    try:
        yield
    finally:
        _observing = False


@keras.saving.register_keras_serializable(package="kresnet")
class FakeQuantize(keras.layers.Layer):
    """Rounds a tensor to the 256 steps of an 8-bit range that holds zero.

    Several tensors can share a range: the layer is called on each, and rounds all of them to the union of their ranges.

    Args:
        momentum: share of the old range that a training step keeps, in [0, 1).
        limits: a range that never changes, (low, high); None: a moving average of the values' smallest and largest.
        members: number of tensors that share the range, at least 1.

    Call arguments:
        inputs: a tensor of any shape.
        member: which of the members this tensor is, from 0.

    A range without limits is the non-trainable weights `low` and `high`, of shape () for one member and (members,) for
    several. It stays as it is while `trainable` is False.
    """

    def __init__(
        self, momentum: float = 0.99, limits: tuple[float, float] | None = None, members: int = 1, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.momentum, self.limits, self.members = momentum, limits and tuple(limits), members

    def build(self, input_shape):
        if self.limits is None:
            shape = () if self.members == 1 else (self.members,)
            options = {"shape": shape, "initializer": "zeros", "trainable": False, "dtype": "float32"}
            self.low, self.high = self.add_weight(name="low", **options), self.add_weight(name="high", **options)

    def call(self, inputs, member=0, training=False):
        x = ops.cast(inputs, "float32")
        if self.limits is None:
            low, high = ops.convert_to_tensor(self.low), ops.convert_to_tensor(self.high)
            if _observing or (training and self.trainable):
                low, high = self._updated(ops.stop_gradient(x), low, high, member)
                self.low.assign(low)
                self.high.assign(high)
            if self.members > 1:
                low, high = ops.min(low), ops.max(high)
            high = ops.maximum(high, low + 1e-6)  # a tensor that is zero everywhere has a range too
        else:
            low, high = self.limits
        return inputs if _observing else ops.cast(fake_quantize(x, low, high), inputs.dtype)

    def _updated(self, x: Any, low: Any, high: Any, member: int) -> tuple[Any, Any]:
        smallest, largest = ops.minimum(ops.min(x), 0.0), ops.maximum(ops.max(x), 0.0)
        if _observing:
            new_low, new_high = ops.minimum(low, smallest), ops.maximum(high, largest)
        else:
            kept = ops.where(high > low, self.momentum, 0.0)  # nothing of a range that has seen no values yet
            new_low, new_high = low * kept + smallest * (1 - kept), high * kept + largest * (1 - kept)
        if self.members == 1:
            return new_low, new_high
        changes = np.arange(self.members) == member
        return ops.where(changes, new_low, low), ops.where(changes, new_high, high)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "momentum": self.momentum, "limits": self.limits, "members": self.members}


def fake_quantize(x: Any, low: Any, high: Any) -> Any:
    """Rounds x, float32, to 256 steps from `low` <= 0 to `high` > 0, shifted so that zero is one of them.

    Gradients pass where x lies within the range. On TensorFlow this is its own operator, which its converter knows.
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
    """Rounds weights to 255 steps symmetric about zero, with one step size for all weights along `axes`.

    The converter finds the same steps again, since it too takes the largest weight for the last one.
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
