"""Rewrites of a network into the operators that LiteRT's CPU kernels (XNNPACK) have; its function stays the same.

An operator that XNNPACK lacks splits a file into partitions between which tensors are copied; and what is done to each
pixel of an image is done on a network's largest tensor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from kresnet.deploy import calls, rebuild, users
from kresnet.layers import PaddedIdentity


def lower(model: keras.Model, integer: bool) -> keras.Model:
    """Rewrites a network for a .tflite.

    - A rescaling of pixels hands its factor to the first convolution and keeps its offset, which zero padding forbids
      to fold: one pass over the image less, and in an int8 file one rounding less. The offset is a whole row's:
      of one pixel's, XNNPACK would add three numbers at a time.
    - The strided slice of a parameter-free shortcut becomes a 1x1 depthwise convolution with ones.
    - For integers, an average pooling that has no padding becomes a depthwise convolution: XNNPACK has none of int8.

    Args:
        model: a functional model; it stays as it is.
        integer: whether it is to be quantized to int8.

    Returns:
        A new model. Its outputs differ by float32's rounding only.
    """
    factors = _foldable_rescalings(model)

    def copy(operation: Any) -> Callable[..., Any]:
        if isinstance(operation, keras.layers.Rescaling) and id(operation) in factors:
            return _shift(operation)
        if type(operation) is PaddedIdentity:
            return _padded_identity(operation)
        if integer and type(operation) is keras.layers.AveragePooling2D and is_unpadded(operation):
            return _depthwise(operation, operation.pool_size, operation.strides)
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


def _foldable_rescalings(model: keras.Model) -> dict[int, np.ndarray]:
    """Returns the factors that move, by the `id` of the rescaling that gives and of the convolution that takes it."""
    graph, taken = calls(model), users(model)
    times = Counter(id(call.operation) for call in graph)
    found = {}
    for call in graph:
        if type(call.operation) is not keras.layers.Rescaling or not np.all(call.operation.scale):
            continue
        behind = taken[id(call.outputs[0])]
        while len(behind) == 1 and behind[0] and type(behind[0].operation) is keras.layers.ZeroPadding2D:
            behind = taken[id(behind[0].outputs[0])]
        taker = behind[0].operation if len(behind) == 1 and behind[0] else None
        plain = type(taker) is keras.layers.DepthwiseConv2D or (
            type(taker) is keras.layers.Conv2D and taker.groups == 1
        )
        if plain and times[id(taker)] == times[id(call.operation)] == 1:
            factor = np.broadcast_to(np.asarray(call.operation.scale, "float64"), call.inputs[0].shape[-1:])
            found[id(call.operation)] = found[id(taker)] = factor
    return found


def _shift(rescaling: keras.layers.Rescaling) -> Callable[..., Any]:
    offset = np.asarray(rescaling.offset, "float64") / np.asarray(rescaling.scale, "float64")

    def apply(x: Any, **_: Any) -> Any:
        row = np.broadcast_to(offset, x.shape[2:]).tolist()
        return keras.layers.Rescaling(1.0, row, name=rescaling.name, dtype="float32")(x)

    return apply


def _padded_identity(shortcut: PaddedIdentity) -> Callable[..., Any]:
    def apply(x: Any, **_: Any) -> Any:
        before = (shortcut.filters - x.shape[-1]) // 2
        behind = shortcut.filters - x.shape[-1] - before
        kept = _depthwise(shortcut, (1, 1), (shortcut.strides,) * 2)(x) if shortcut.strides > 1 else x
        return ops.pad(kept, ((0, 0), (0, 0), (0, 0), (before, behind)))

    return apply


def is_unpadded(pooling: keras.layers.AveragePooling2D) -> bool:
    """Tells whether all windows lie within the feature map, so that each average is of as many values."""
    if pooling.padding == "valid":
        return True
    sizes = pooling.input.shape[1:3]
    return pooling.pool_size == pooling.strides and all(
        size and size % stride == 0 for size, stride in zip(sizes, pooling.strides, strict=True)
    )


def _depthwise(original: Any, size: tuple[int, int], strides: tuple[int, int]) -> keras.layers.DepthwiseConv2D:
    """Returns the convolution that averages each channel over windows of that size."""
    weight = keras.initializers.Constant(1 / (size[0] * size[1]))
    return keras.layers.DepthwiseConv2D(
        size, strides, use_bias=False, depthwise_initializer=weight, name=original.name, dtype="float32"
    )
