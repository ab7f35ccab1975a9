"""Class activation maps: where in an image a network finds evidence for a class."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from kresnet import checks
from kresnet.graph.trace import producer


def supports(model: keras.Model) -> bool:
    """Tells whether `class_activation_maps` works: the model must end in `head_pool` and `predictions`."""
    return _features(model) is not None


def class_activation_maps(model: keras.Model, images: Any, classes: Any) -> np.ndarray:
    """Computes Grad-CAM for a network that ends in global average pooling and one dense layer, as most of ours do.

    Grad-CAM weights the channels of a feature map by the mean gradient of the class's score (before the activation).
    If the scores are a dense layer on the average over Z positions, that gradient is the dense kernel divided by Z, at
    every position and for every image. So the kernel gives exactly the same map, without a gradient, on every backend.

    Args:
        model: a functional model with the layers `head_pool` (global average) and `predictions` (dense).
        images: (n, height, width, channels), as the model takes them.
        classes: (n, k) class indices: for each image, the classes to map.

    Returns:
        float32 (n, k, rows, columns), of the size of the last feature map. Negative evidence is clipped to 0, and each
        map is scaled to a maximum of 1; a map without positive evidence is 0.

    Raises:
        ValueError: if the model has no such head, or `classes` is not (n, k) or holds an index that is no class.

    Source: Selvaraju et al. 2017, arXiv:1610.02391, section 3; Zhou et al. 2016, arXiv:1512.04150, section 2.
    """
    features = _features(model)
    checks.require(
        features is not None,
        "Class activation maps need a model that ends in `head_pool` (global average) and `predictions` (dense)",
        model=model.name,
    )
    kernel = keras.ops.convert_to_numpy(model.get_layer("predictions").kernel).astype("float32")
    images, classes = np.asarray(images), np.asarray(classes)
    checks.require(
        classes.ndim == 2 and len(classes) == len(images) and ((classes >= 0) & (classes < kernel.shape[1])).all(),
        f"`classes` must be (n, k) indices below {kernel.shape[1]} for n = {len(images)} images",
        classes=classes.tolist(),
    )
    maps = keras.Model(model.inputs, features).predict_on_batch(images).astype("float32")
    maps = np.maximum(np.einsum("nhwc,cnk->nkhw", maps, kernel[:, classes]), 0)
    return maps / np.maximum(maps.max((2, 3), keepdims=True), np.finfo("float32").tiny)


def _features(model: keras.Model) -> Any:
    """Returns the symbolic feature map that `head_pool` averages; None if the model has no such head."""
    names = {layer.name for layer in getattr(model, "layers", ())}
    if not {"head_pool", "predictions"} <= names:
        return None
    pool, dense = model.get_layer("head_pool"), model.get_layer("predictions")
    if not (isinstance(pool, keras.layers.GlobalAveragePooling2D) and isinstance(dense, keras.layers.Dense)):
        return None
    before = producer(dense.input)
    while isinstance(before, keras.layers.Dropout):  # does nothing in inference
        before = producer(before.input)
    return pool.input if before is pool else None
