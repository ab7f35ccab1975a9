"""How PyTorch stores the arrays of a layer, and the way from there into ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np

Shape = tuple[int, ...]


class Form(NamedTuple):
    """How a checkpoint stores an array.

    Attributes:
        shapes: from our shape to those that the array may have there, the usual one first.
        read: from the array there and our shape to ours.
        write: from ours to the array there, in its usual shape.
    """

    shapes: Callable[[Shape], tuple[Shape, ...]]
    read: Callable[[np.ndarray, Shape], np.ndarray]
    write: Callable[[np.ndarray], np.ndarray]


def _channels_first(shape: Shape) -> tuple[Shape, ...]:
    *window, channels, filters = shape
    return ((filters, channels, *window),)


def _depthwise(shape: Shape) -> tuple[Shape, ...]:
    *window, channels, multiplier = shape
    return ((channels * multiplier, 1, *window),)


def _read_depthwise(array: np.ndarray, shape: Shape) -> np.ndarray:
    split = array.reshape(*shape[-2:], *shape[:-2])  # the filters of a channel are next to each other
    return np.moveaxis(split, (0, 1), (-2, -1))


def _write_depthwise(array: np.ndarray) -> np.ndarray:
    split = np.moveaxis(array, (-2, -1), (0, 1))
    return split.reshape(-1, 1, *array.shape[:-2])


SAME = Form(lambda shape: (shape,), lambda array, shape: array, lambda array: array)
# (window, channels, filters) here, (filters, channels, window) there.
CONVOLUTION = Form(
    _channels_first,
    lambda array, shape: np.moveaxis(array, (0, 1), (-1, -2)),
    lambda array: np.moveaxis(array, (-1, -2), (0, 1)),
)
# (window, channels, multiplier) here; there each channel is a group.
DEPTHWISE = Form(_depthwise, _read_depthwise, _write_depthwise)
# (in, out) here, (out, in) there, where it may also be a 1x1 convolution.
DENSE = Form(
    lambda shape: (shape[::-1], (*shape[::-1], 1, 1)),
    lambda array, shape: array.reshape(shape[::-1]).T,
    lambda array: array.T,
)
# As a 1x1 convolution in the first place.
DENSE_AS_CONVOLUTION = DENSE._replace(
    shapes=lambda shape: DENSE.shapes(shape)[::-1],
    write=lambda array: array.T[..., None, None],
)

# By class, a subclass before its base.
KERNELS: dict[type, Form] = {
    keras.layers.DepthwiseConv1D: DEPTHWISE,
    keras.layers.DepthwiseConv2D: DEPTHWISE,
    keras.layers.Conv1D: CONVOLUTION,
    keras.layers.Conv2D: CONVOLUTION,
    keras.layers.Conv3D: CONVOLUTION,
    keras.layers.Dense: DENSE,
}


def flattened(height: int, width: int, convolution: bool = False) -> Form:
    """Returns the form of a dense layer that follows a flattened map: (C, H, W) in PyTorch, (H, W, C) in Keras.

    Args:
        height, width: of the map.
        convolution: whether it is a convolution there, whose kernel covers the map.
    """

    def there(shape: Shape) -> Shape:
        features, units = shape
        return units, features // (height * width), height, width

    def shapes(shape: Shape) -> tuple[Shape, ...]:
        return (there(shape) if convolution else shape[::-1],)

    def read(array: np.ndarray, shape: Shape) -> np.ndarray:
        return array.reshape(there(shape)).transpose(2, 3, 1, 0).reshape(shape)

    def write(array: np.ndarray) -> np.ndarray:
        units, channels, *_ = there(array.shape)
        maps = array.reshape(height, width, channels, units).transpose(3, 2, 0, 1)
        return maps.reshape(shapes(array.shape)[0])

    return Form(shapes, read, write)


def kernel_form(layer: keras.layers.Layer) -> Form:
    """Returns how PyTorch stores a layer's kernel.

    Raises:
        ValueError: if its class is not known, so that it cannot be told.
    """
    for kind, form in KERNELS.items():
        if isinstance(layer, kind):
            return form
    known = ", ".join(kind.__name__ for kind in KERNELS)
    raise ValueError(
        f"It is not known how PyTorch stores the kernel of this layer; known are {known}, or a layout's own `forms`. "
        f"Received: layer={layer.name!r}, class={type(layer).__name__}"
    )
