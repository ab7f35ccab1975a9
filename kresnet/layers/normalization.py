"""Batch normalization whose statistics take one reading of the input under JAX, and one operator under TensorFlow."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

_across_devices = False


@contextlib.contextmanager
def statistics_across_devices(wanted: bool = True) -> Iterator[None]:
    """While it is open, norms that are traced take the statistics of all devices' images under TensorFlow.

    Each device's norm takes those of its own share otherwise. Under JAX they are always those of the whole batch.
    """
    global _across_devices
    before, _across_devices = _across_devices, wanted
    try:
        yield
    finally:
        _across_devices = before


@keras.saving.register_keras_serializable(package="kresnet")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's batch normalization, faster in training under JAX and TensorFlow.

    JAX: mean and variance come from one reading of the input. Keras computes the mean first and then the mean squared
    difference from it. On a GPU a norm takes as long as its memory traffic, and the second reading is a ninth of that.
    Here one pass sums x - s and (x - s)^2, where s is the mean of the batch's first sample. The shift bounds what the
    subtraction of the two can lose: that sample is part of the batch, so that s is at most sqrt(batch) deviations from
    the mean, and the variance is wrong by about `batch` roundings of float32 at the very worst, and by a few where
    samples resemble each other.

    TensorFlow: feature maps, (batch, height, width, channels), go through its fused operator, which Keras 3 no longer
    uses. The operator's variance is the unbiased one; the moving one stays the batch's, as Keras has it.

    Otherwise, and with a mask, `renorm` or `synchronized`, this is Keras's layer. Weights, configuration and inference
    are the same everywhere, and so is the name in a file: where kresnet is not imported, Keras loads its own.

    Args: as `keras.layers.BatchNormalization`.

    Source: Chan, Golub and LeVeque 1983, "Algorithms for Computing the Sample Variance", section 3 (shifted data).
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        backend = keras.backend.backend()
        own = training and self.trainable and mask is None and not (self.renorm or self.synchronized)
        if own and backend == "jax":
            return self._shifted(inputs)
        if own and backend == "tensorflow" and not _across_devices and self._can_be_fused(inputs):
            return self._fused(inputs)
        synchronized = self.synchronized
        self.synchronized = synchronized or _across_devices  # only here: it is no property of the network
        try:
            return super().call(inputs, training=training, mask=mask)
        finally:
            self.synchronized = synchronized

    def _can_be_fused(self, inputs: Any) -> bool:
        narrow = keras.backend.standardize_dtype(inputs.dtype) in ("float32", "bfloat16", "float16")
        return narrow and len(inputs.shape) == 4 and self.axis in (-1, 3)

    def _fused(self, inputs: Any) -> Any:
        import tensorflow as tf

        ones, zeros = ops.ones(inputs.shape[-1], "float32"), ops.zeros(inputs.shape[-1], "float32")
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=ones if self.gamma is None else ops.cast(self.gamma, "float32"),
            offset=zeros if self.beta is None else ops.cast(self.beta, "float32"),
            mean=[],
            variance=[],
            epsilon=self.epsilon,
        )
        pixels = tf.cast(tf.size(inputs) // inputs.shape[-1], "float32")
        self._move(mean, variance * (pixels - 1) / pixels)
        return outputs

    def _shifted(self, inputs: Any) -> Any:
        wide = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        mean, variance = self._statistics(wide)
        self._move(mean, variance)
        outputs = ops.batch_normalization(
            wide, mean, variance, self.axis, offset=self.beta, scale=self.gamma, epsilon=self.epsilon
        )
        return ops.cast(outputs, self.compute_dtype)

    def _move(self, mean: Any, variance: Any) -> None:
        for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            average.assign(average * self.momentum + value * (1.0 - self.momentum))

    def _statistics(self, x: Any) -> tuple[Any, Any]:
        axes = [axis for axis in range(len(x.shape)) if axis != self.axis % len(x.shape)]
        # To the gradient it is a constant: neither statistic depends on it.
        shift = ops.stop_gradient(ops.mean(x[:1], axes, keepdims=True))
        centred = x - shift
        mean = ops.mean(centred, axes)
        variance = ops.maximum(ops.mean(ops.square(centred), axes) - ops.square(mean), 0.0)
        return mean + ops.squeeze(shift, axes), variance


# Where kresnet is not imported, Keras looks for a class by the module and name in the file, and finds its own.
BatchNormalization.__module__ = keras.layers.BatchNormalization.__module__
