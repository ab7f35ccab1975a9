"""Rewrites of a network into the operators that LiteRT's CPU kernels (XNNPACK) have; its function stays the same.

An operator that XNNPACK lacks splits a file into partitions, between which tensors are copied. And an operation on the
pixels of an image works on one of a network's largest tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from kresnet.graph.rebuild import rebuild
from kresnet.graph.trace import Call, Trace, trace


def lower(model: keras.Model, integer: bool) -> keras.Model:
    """Rewrites a network for a .tflite.

    - The factor of a pixel rescaling moves into the first convolution: one pass over the image less, and in an int8
      file one rounding less. Its offset stays, since the zeros that pad the image come after it. It is written out for
      a whole row: added to one pixel at a time, XNNPACK would work on three numbers at a time.
    - An average pooling of single pixels, as in a parameter-free shortcut, becomes a depthwise convolution; so does, in
      integers, every average pooling. XNNPACK lacks both. Where windows lack pixels at the edge, whose sums a constant
      map corrects, the map's size must be known; else the pooling stays.
    - An adaptive average pooling becomes two products with constant matrices: Keras gathers, which XNNPACK lacks.
    - In integers, a hard-swish layer becomes a sum and two products, since XNNPACK has it for float only.

    Args:
        model: a functional model; it stays as it is.
        integer: whether it will be quantized to int8.

    Returns:
        A new model. Its outputs differ by float32's rounding only.
    """
    graph = trace(model)
    factors = _foldable_rescalings(graph)

    def copy(operation: Any) -> Callable[..., Any]:
        if isinstance(operation, keras.layers.Rescaling) and id(operation) in factors:
            return _shift(operation)
        if type(operation) is keras.layers.AdaptiveAveragePooling2D and _channels_last(operation):
            return adaptive(operation)
        if integer and is_hard_swish_layer(operation):
            return _hard_swish(operation)
        averages = type(operation) is keras.layers.AveragePooling2D and (integer or operation.pool_size == (1, 1))
        if averages and is_unpadded(graph.calls_of(operation)):
            return _depthwise(operation, operation.name)
        sizes = {call.inputs[0].shape[1:3] for call in graph.calls_of(operation)} if averages else set()
        if len(sizes) == 1 and None not in (size := sizes.pop()):
            return _padded(operation, size)
        return in_float32(operation)

    copies, new = rebuild(model, copy)
    for key, factor in factors.items():
        if not isinstance(copies[key], keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
            continue
        kernel, *bias = copies[key].get_weights()
        copies[key].set_weights([kernel * np.reshape(factor, (-1, 1)).astype(kernel.dtype), *bias])
    return new


def is_hard_swish_layer(operation: Any) -> bool:
    """Tells whether an operation is a hard-swish by itself, and not a part of a convolution."""
    return type(operation) is keras.layers.Activation and operation.activation is keras.activations.hard_silu


def in_float32(operation: Any) -> Any:
    """Returns a new layer (or `keras.ops` operation) of the same configuration, which computes in float32."""
    config = operation.get_config()
    if getattr(operation, "compute_dtype", None) in ("float16", "bfloat16"):
        config["dtype"] = "float32"
    return type(operation).from_config(config)


def _foldable_rescalings(graph: Trace) -> dict[int, np.ndarray]:
    """Returns the factors that move, by the `id` of the rescaling, and again by that of the convolution."""
    found = {}
    for call in graph.calls:
        if type(call.operation) is not keras.layers.Rescaling or not np.all(call.operation.scale):
            continue
        user = _only_user(graph, call)
        while user and type(user.operation) is keras.layers.ZeroPadding2D and _channels_last(user.operation):
            user = _only_user(graph, user)
        if user is None or not _is_plain_convolution(user.operation):
            continue
        if len(graph.calls_of(user.operation)) == len(graph.calls_of(call.operation)) == 1:
            factor = np.broadcast_to(np.asarray(call.operation.scale, "float64"), call.inputs[0].shape[-1:])
            found[id(call.operation)] = found[id(user.operation)] = factor
    return found


def _only_user(graph: Trace, call: Call) -> Call | None:
    """Returns the only call that takes a call's output; None if there are several, or it is an output of the model."""
    users = graph.users_of(call.outputs[0])
    return users[0] if len(users) == 1 else None


def _is_plain_convolution(operation: Any) -> bool:
    kinds = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
    return type(operation) in kinds and getattr(operation, "groups", 1) == 1 and _channels_last(operation)


def _channels_last(layer: Any) -> bool:
    return layer.data_format == "channels_last"


def _shift(rescaling: keras.layers.Rescaling) -> Callable[..., Any]:
    offset = np.asarray(rescaling.offset, "float64") / np.asarray(rescaling.scale, "float64")

    def apply(x: Any, **_: Any) -> Any:
        row = np.broadcast_to(offset, x.shape[2:]).tolist()
        return keras.layers.Rescaling(1.0, row, name=rescaling.name, dtype="float32")(x)

    return apply


def _hard_swish(activation: keras.layers.Activation) -> Callable[..., Any]:
    """Returns a function that computes hard-swish as x / 6 * relu6(x + 3).

    The converter would find its own operator in x * relu6(x + 3) / 6, and in x * (relu6(x + 3) / 6).
    """

    def apply(x: Any, **_: Any) -> Any:
        gate = ops.relu6(x + 3.0)
        return keras.layers.Multiply(name=activation.name, dtype="float32")([x * (1 / 6), gate])

    return apply


def is_unpadded(calls: list[Call]) -> bool:
    """Tells whether all windows of an average pooling lie within the feature map, so that each has as many values."""
    pooling = calls[0].operation
    if pooling.padding == "valid":
        return True
    return pooling.pool_size == pooling.strides and all(
        size and size % stride == 0
        for call in calls
        for size, stride in zip(call.inputs[0].shape[1:3], pooling.strides, strict=True)
    )


def _depthwise(pooling: keras.layers.AveragePooling2D, name: str) -> keras.layers.DepthwiseConv2D:
    """Returns the convolution that averages each channel over the pooling's windows."""
    weight = keras.initializers.Constant(1 / (pooling.pool_size[0] * pooling.pool_size[1]))
    return keras.layers.DepthwiseConv2D(
        pooling.pool_size,
        pooling.strides,
        use_bias=False,
        depthwise_initializer=weight,
        name=name,
        dtype="float32",
    )


def _padded(pooling: keras.layers.AveragePooling2D, size: tuple[int, int]) -> Callable[..., Any]:
    """Returns a function that averages windows of which some lie partly in the padding, which does not count."""
    pads, counts = [], []
    for pixels, window, stride in zip(size, pooling.pool_size, pooling.strides, strict=True):
        windows = -(-pixels // stride)
        missing = max(0, (windows - 1) * stride + window - pixels)
        pads.append((missing // 2, missing - missing // 2))
        starts = np.arange(windows) * stride - missing // 2
        counts.append(np.minimum(starts + window, pixels) - np.maximum(starts, 0))
    factor = pooling.pool_size[0] * pooling.pool_size[1] / np.multiply.outer(*counts)[..., None]

    def apply(x: Any, **_: Any) -> Any:
        x = keras.layers.ZeroPadding2D(pads, name=f"{pooling.name}_pad")(x)
        x = _depthwise(pooling, f"{pooling.name}_mean")(x)
        return keras.layers.Rescaling(factor.tolist(), name=pooling.name, dtype="float32")(x)

    return apply


def adaptive(pooling: keras.layers.AdaptiveAveragePooling2D) -> Callable[..., Any]:
    """Returns a function that averages the windows of all rows by one matrix, then those of all columns by another."""

    def averaged(x: Any, windows: int, name: str) -> Any:
        size = x.shape[-1]
        bounds = [(i * size // windows, -(-(i + 1) * size // windows)) for i in range(windows)]
        matrix = np.array(
            [[1 / (end - start) if start <= row < end else 0 for start, end in bounds] for row in range(size)]
        )
        weights = keras.initializers.Constant(matrix)
        return keras.layers.Dense(windows, use_bias=False, kernel_initializer=weights, name=name, dtype="float32")(x)

    def apply(x: Any, **_: Any) -> Any:
        rows, columns = pooling.output_size
        x = averaged(keras.layers.Permute((3, 2, 1))(x), rows, f"{pooling.name}_rows")  # (channels, width, rows)
        x = averaged(
            keras.layers.Permute((1, 3, 2))(x), columns, f"{pooling.name}_columns"
        )  # (channels, rows, columns)
        return keras.layers.Permute((2, 3, 1), name=pooling.name)(x)

    return apply
