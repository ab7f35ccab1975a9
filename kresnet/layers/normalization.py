"""Batch normalization that reads its input once for both statistics."""

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
    """Keras's batch normalization, with mean and variance from one reading of the input when training under JAX.

    Keras computes the mean first and then the mean squared difference from it. On a GPU a norm takes as long as its
    memory traffic, and the second reading is a ninth of that. Here one pass sums x - s and (x - s)^2, where s is the
    mean of the batch's first sample. The shift bounds what the subtraction of the two can lose: that sample is part of
    the batch, so that s is at most sqrt(batch) deviations from the mean, and the variance is wrong by about
    `batch` roundings of float32 at the very worst, and by a few where samples resemble each other.

    On other backends, with a mask, `renorm` or `synchronized`, this is Keras's layer. Weights, configuration and
    inference are the same everywhere, and so is the name in a file: where kresnet is not imported, Keras loads its own.

    Args: as `keras.layers.BatchNormalization`.

    Source: Chan, Golub and LeVeque 1983, "Algorithms for Computing the Sample Variance", section 3 (shifted data).
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        one_pass = keras.backend.backend() == "jax" and mask is None and not (self.renorm or self.synchronized)
        if not (training and self.trainable and one_pass):
            synchronized = self.synchronized
            self.synchronized = synchronized or _across_devices  # only here: it is no property of the network
            try:
                return super().call(inputs, training=training, mask=mask)
            finally:
                self.synchronized = synchronized
        wide = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        mean, variance = self._statistics(wide)
        for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            average.assign(average * self.momentum + value * (1.0 - self.momentum))
        outputs = ops.batch_normalization(
            wide, mean, variance, self.axis, offset=self.beta, scale=self.gamma, epsilon=self.epsilon
        )
        return ops.cast(outputs, self.compute_dtype)

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
