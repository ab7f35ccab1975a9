"""How many images at once a model can be called with."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import keras
import numpy as np

from kresnet.graph.cost import cost

MEMORY = 2**30  # bytes, for what a network's layers put out


def at_once(model: keras.Model, shape: tuple[int, ...]) -> int:
    """Returns the number of images, at least 1, with which a model should be called outside of `fit` and `predict`.

    Called so, Keras holds the outputs of all layers until the last: 150 MB for each image in a ResNet-50 at 224 pixels.

    Args:
        model: a functional model.
        shape: (height, width, channels) of the images.
    """
    return max(1, MEMORY // sum(row.activation_bytes for row in cost(model, shape).rows))


def in_parts(model: keras.Model) -> Callable[[np.ndarray], Iterator[np.ndarray]]:
    """Returns a function that splits a batch of images into parts of at most as many as `at_once` says."""
    step = functools.cache(functools.partial(at_once, model))

    def split(images: np.ndarray) -> Iterator[np.ndarray]:
        count = step(images.shape[1:])
        return (images[start : start + count] for start in range(0, len(images), count))

    return split
