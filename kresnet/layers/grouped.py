"""Grouped convolution on the fastest kernel that works."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops

from kresnet.layers.shifted import shifted, sums_are_quicker

_native_only = False


@keras.saving.register_keras_serializable(package="kresnet")
class GroupedConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D(groups=...)`, with the same weights and numbers, on the fastest kernel that works.

    On the TensorFlow backend Keras runs every grouped convolution through XLA, whose filter gradient on a CPU is tens
    of times slower than TensorFlow's own. Here a probe for each dtype tells whether TensorFlow's kernel works. Where
    it does not (oneDNN is off, or has no kernel for the dtype), the groups are convolved one by one and concatenated.
    Under JAX on a CPU the gradients, for which XLA takes 45 to 110 times as long as for the convolution, are those of a
    sum of shifted products. On a GPU and on the PyTorch backend this is Keras's layer unchanged.

    Args: as `keras.layers.Conv2D`; `data_format="channels_last"` only.
    """

    def convolution_op(self, inputs, kernel):
        if self.groups > 1 and sums_are_quicker(inputs):
            return self._with_gradients_of_sums(super().convolution_op)(inputs, ops.convert_to_tensor(kernel))
        if self.groups == 1 or keras.backend.backend() != "tensorflow" or tensorflow_has_gpu():
            return super().convolution_op(inputs, kernel)
        if _native_only or _grouped_gradient_works(keras.backend.standardize_dtype(inputs.dtype)):
            import tensorflow as tf

            strides, dilations, padding = list(self.strides), list(self.dilation_rate), self.padding.upper()
            return tf.nn.conv2d(inputs, kernel, strides, padding, dilations=dilations)
        outputs = [
            ops.conv(x, k, list(self.strides), self.padding, dilation_rate=self.dilation_rate)
            for x, k in zip(ops.split(inputs, self.groups, -1), ops.split(kernel, self.groups, -1), strict=True)
        ]
        return ops.concatenate(outputs, axis=-1)

    def _with_gradients_of_sums(self, convolve: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        import jax

        def backward(taken: tuple[Any, Any], gradient: Any) -> tuple[Any, Any]:
            return jax.vjp(self._sum, *taken)[1](gradient)

        found = jax.custom_vjp(convolve)
        found.defvjp(lambda x, kernel: (convolve(x, kernel), (x, kernel)), backward)
        return found

    def _sum(self, x: Any, kernel: Any) -> Any:
        """Computes the convolution as a sum, over the kernel's window, of products of matrices, one a group."""
        x = ops.reshape(x, (*x.shape[:3], self.groups, -1))
        *window, channels, _ = kernel.shape
        kernel = ops.reshape(kernel, (*window, channels, self.groups, -1))
        views = shifted(x, window, self.strides, self.dilation_rate, self.padding)
        y = sum(ops.einsum("nhwgc,cgd->nhwgd", view, kernel[i, j]) for i, j, view in views)
        return ops.reshape(y, (*y.shape[:3], -1))


@contextlib.contextmanager
def native_grouped_convolution() -> Iterator[None]:
    """While it is open, a grouped convolution is traced as a single TensorFlow operator, even if this machine lacks it.

    For converting a network: a converter reads the graph and never runs the operator's gradient.
    """
    global _native_only
    before, _native_only = _native_only, True
    try:
        yield
    finally:
        _native_only = before


@functools.cache
def tensorflow_has_gpu() -> bool:
    import tensorflow as tf

    return bool(tf.config.list_logical_devices("GPU"))


@functools.cache
def _grouped_gradient_works(dtype: str) -> bool:
    """Tells whether TensorFlow's CPU kernel computes a grouped convolution's gradient, by computing a tiny one."""
    import tensorflow as tf

    @tf.function(jit_compile=False)
    def gradients(x, kernel):  # as arguments: constants would be folded before any kernel runs
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            y = tf.nn.conv2d(x, kernel, 1, "SAME")
        return tape.gradient(y, [x, kernel])

    def run():
        with tf.device("CPU:0"):
            gradients(tf.ones((1, 4, 4, 4), dtype), tf.ones((3, 3, 2, 4), dtype))

    try:
        # In a new thread TensorFlow runs eagerly, even if this one is building a graph.
        with concurrent.futures.ThreadPoolExecutor(1) as thread:
            thread.submit(run).result()
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
        return False
    return True
