"""How many images at once a model can be called with."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator

import keras
import numpy as np

from kresnet.graph.trace import trace

MEMORY = 2**30  # bytes, for the outputs of a network's layers


def at_once(model: keras.Model, shape: tuple[int, ...]) -> int:
    """Returns the number of images, at least 1, with which a model should be called outside of `fit` and `predict`.

    In such a call Keras holds the outputs of all layers until the last: 150 MB for each image in a ResNet-50 at 224
    pixels.

    Args:
        model: a functional model of one input.
        shape: (height, width, channels) of the images.
    """
    outputs = [tensor for call in trace(model, [shape]).calls for tensor in call.outputs]
    image_bytes = 4 * sum(math.prod(tensor.shape[1:]) for tensor in outputs)
    return max(1, MEMORY // max(1, image_bytes))


def in_parts(model: keras.Model) -> Callable[[np.ndarray], Iterator[np.ndarray]]:
    """Returns a function that splits a batch of images into parts of at most `at_once` images."""
    images_at_once = functools.cache(functools.partial(at_once, model))

    def split(images: np.ndarray) -> Iterator[np.ndarray]:
        count = images_at_once(images.shape[1:])
        return (images[start : start + count] for start in range(0, len(images), count))

    return split
