"""Rewrites of a network into the operators that LiteRT's CPU kernels (XNNPACK) have; its function stays the same.

An operator that XNNPACK lacks splits a file into partitions between which tensors are copied; and what is done to each
pixel of an image is done on a network's largest tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from kresnet.graph.rebuild import rebuild
from kresnet.graph.trace import Call, Trace, trace


def lower(model: keras.Model, integer: bool) -> keras.Model:
    """Rewrites a network for a .tflite.

    - A rescaling of pixels hands its factor to the first convolution and keeps its offset, which zero padding forbids
      to fold: one pass over the image less, and in an int8 file one rounding less. The offset is a whole row's:
      of one pixel's, XNNPACK would add three numbers at a time.
    - An average pooling of single pixels, as in a parameter-free shortcut, becomes a depthwise convolution, as for
      integers does every average pooling without padding: XNNPACK lacks both.

    Args:
        model: a functional model; it stays as it is.
        integer: whether it is to be quantized to int8.

    Returns:
        A new model. Its outputs differ by float32's rounding only.
    """
    graph = trace(model)
    factors = _foldable_rescalings(graph)

    def copy(operation: Any) -> Callable[..., Any]:
        if isinstance(operation, keras.layers.Rescaling) and id(operation) in factors:
            return _shift(operation)
        averages = type(operation) is keras.layers.AveragePooling2D and (integer or operation.pool_size == (1, 1))
        if averages and is_unpadded(graph.calls_of(operation)):
            return _depthwise(operation)
        return in_float32(operation)

    copies, new = rebuild(model, copy)
    for key, factor in factors.items():
        if not isinstance(copies[key], keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
            continue
        kernel, *bias = copies[key].get_weights()
        copies[key].set_weights([kernel * np.reshape(factor, (-1, 1)).astype(kernel.dtype), *bias])
    return new


def in_float32(operation: Any) -> Any:
    """Returns a new layer (or `keras.ops` operation) of the same configuration, which computes in float32."""
    config = operation.get_config()
    if getattr(operation, "compute_dtype", None) in ("float16", "bfloat16"):
        config["dtype"] = "float32"
    return type(operation).from_config(config)


def _foldable_rescalings(graph: Trace) -> dict[int, np.ndarray]:
    """Returns the factors that move, by the `id` of the rescaling that gives and of the convolution that takes it."""
    found = {}
    for call in graph.calls:
        if type(call.operation) is not keras.layers.Rescaling or not np.all(call.operation.scale):
            continue
        users = graph.users[id(call.outputs[0])]
        while len(users) == 1 and users[0] and type(users[0].operation) is keras.layers.ZeroPadding2D:
            users = graph.users[id(users[0].outputs[0])]
        taker = users[0].operation if len(users) == 1 and users[0] else None
        plain = type(taker) is keras.layers.DepthwiseConv2D or (
            type(taker) is keras.layers.Conv2D and taker.groups == 1
        )
        if plain and len(graph.calls_of(taker)) == len(graph.calls_of(call.operation)) == 1:
            factor = np.broadcast_to(np.asarray(call.operation.scale, "float64"), call.inputs[0].shape[-1:])
            found[id(call.operation)] = found[id(taker)] = factor
    return found


def _shift(rescaling: keras.layers.Rescaling) -> Callable[..., Any]:
    offset = np.asarray(rescaling.offset, "float64") / np.asarray(rescaling.scale, "float64")

    def apply(x: Any, **_: Any) -> Any:
        row = np.broadcast_to(offset, x.shape[2:]).tolist()
        return keras.layers.Rescaling(1.0, row, name=rescaling.name, dtype="float32")(x)

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


def _depthwise(pooling: keras.layers.AveragePooling2D) -> keras.layers.DepthwiseConv2D:
    """Returns the convolution that averages each channel over the pooling's windows."""
    weight = keras.initializers.Constant(1 / (pooling.pool_size[0] * pooling.pool_size[1]))
    return keras.layers.DepthwiseConv2D(
        pooling.pool_size,
        pooling.strides,
        use_bias=False,
        depthwise_initializer=weight,
        name=pooling.name,
        dtype="float32",
    )
