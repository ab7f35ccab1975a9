"""Class activation maps: where in an image a network finds evidence for a class."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kresnet import checks
from kresnet.data import images as images_
from kresnet.graph.network import description
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


# What a head does with the last feature map.
_POOLINGS = (
    *(keras.layers.AveragePooling2D, keras.layers.MaxPooling2D, keras.layers.AdaptiveAveragePooling2D),
    *(keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D, keras.layers.Dropout),
)


@dataclasses.dataclass(frozen=True)
class ClassActivation:
    """Where in an image a network finds evidence for a class.

    Attributes:
        map: float32 (rows, columns), of the feature map's size; 0 where there is none, 1 where there is most.
        class_index, label: the class; the label is None if the network does not know its classes' names.
        score: what the network gives for the class.
        image: uint8 (height, width, 3), as the network saw it.
    """

    map: np.ndarray
    class_index: int
    label: str | None
    score: float
    image: np.ndarray

    def overlay(self, alpha: float = 0.5) -> Any:
        """Returns the image, a `PIL.Image`, with the map in colours over it, at most so opaque, in [0, 1]."""
        from matplotlib import colormaps
        from PIL import Image

        height, width = self.image.shape[:2]
        sized = Image.fromarray(self.map).resize((width, height), Image.Resampling.BICUBIC)
        evidence = np.clip(np.asarray(sized), 0, 1)
        colours = colormaps["inferno"](evidence)[..., :3] * 255
        share = alpha * evidence[..., None]
        return Image.fromarray(np.rint(self.image * (1 - share) + colours * share).astype("uint8"))


def grad_cam(model: keras.Model, image: Any, class_index: int | None = None) -> ClassActivation:
    """Shows where in an image a network finds evidence for a class, by Grad-CAM.

    The last feature map's channels are weighted by the mean gradient of the class's score, before a softmax or sigmoid.
    Any head may follow: dense layers on a flattened map, several poolings. On every backend.

    Args:
        model: a functional model of one image and one output, (batch, classes).
        image: (height, width, channels) pixels as the model takes them, or a path, whose image is resized to its size.
        class_index: of the class. Default: the likeliest.

    Returns:
        The map, and the picture that overlays the image with it: `grad_cam(model, image).overlay().save("cam.png")`.

    Raises:
        ValueError: if the model has no feature map, the class is none of its, or the image does not fit.

    Source: Selvaraju et al. 2017, arXiv:1610.02391, section 3.
    """
    checks.require(
        len(getattr(model, "inputs", None) or ()) == len(getattr(model, "outputs", None) or ()) == 1
        and len(model.output_shape) == 2,
        "`grad_cam` needs a functional model of one image and (batch, classes)",
        model=getattr(model, "name", model),
    )
    pixels = _pixels(image, model.input_shape[1:])
    probabilities = keras.ops.convert_to_numpy(model(pixels[None], training=False))[0]
    classes = len(probabilities)
    index = int(probabilities.argmax()) if class_index is None else class_index
    checks.require(
        isinstance(index, int | np.integer) and 0 <= index < classes,
        f"`class_index` must be in 0 to {classes - 1}",
        class_index=class_index,
    )
    if supports(model):
        found = class_activation_maps(model, pixels[None], [[index]])[0, 0]
    else:
        found = _by_gradient(model, pixels, int(index))
    labels = description(model).get("labels")
    shown = np.clip(pixels[..., :3] if pixels.shape[2] >= 3 else np.repeat(pixels[..., :1], 3, -1), 0, 255)
    label = labels[index] if labels else None
    return ClassActivation(found, int(index), label, float(probabilities[index]), np.rint(shown).astype("uint8"))


def _pixels(image: Any, shape: tuple[int | None, ...]) -> np.ndarray:
    height, width, channels = shape
    if isinstance(image, str | os.PathLike):
        checks.require(Path(image).is_file(), "There is no such image", image=str(image))
        whole = images_.decode(Path(image).read_bytes(), str(image))
        return images_.resize(whole, height or min(whole.shape[:2]), channels).astype("float32")
    pixels = np.asarray(image, "float32")
    fits = pixels.ndim == 3 and all(
        want in (None, got) for want, got in zip((height, width, channels), pixels.shape, strict=True)
    )
    checks.require(fits, f"`image` must be {(height, width, channels)}, (height, width, channels)", shape=pixels.shape)
    return pixels


def _by_gradient(model: keras.Model, pixels: np.ndarray, index: int) -> np.ndarray:
    layers = [layer for layer in model.layers[1:] if not isinstance(layer, _POOLINGS)]
    maps = [layer.output for layer in layers if len(getattr(layer.output, "shape", ())) == 4]
    maps = [tensor for tensor in maps if tensor.shape[1:3] != (1, 1)]
    checks.require(bool(maps), "The model has no feature map of its own", model=model.name)
    last = model.layers[-1]
    dense = isinstance(last, keras.layers.Dense)
    body = keras.Model(model.inputs, maps[-1])
    tail = keras.Model(maps[-1], last.input if dense else model.outputs[0])

    def score(features: Any) -> Any:
        y = tail(features, training=False)
        if dense:  # before its activation
            y = keras.ops.matmul(y, last.kernel) + (last.bias if last.use_bias else 0)
        return y[0, index]

    features = body(pixels[None], training=False)
    gradient = keras.ops.convert_to_numpy(_gradient(score, features))[0]
    features = keras.ops.convert_to_numpy(features)[0]
    found = np.maximum((features * gradient.mean((0, 1))).sum(-1), 0).astype("float32")
    return found / max(found.max(), np.finfo("float32").tiny)


def _gradient(function: Any, x: Any) -> Any:
    """Returns the gradient of a scalar function of a tensor."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        return tape.gradient(y, x)
    if backend == "jax":
        import jax

        return jax.grad(function)(x)
    x = x.detach().requires_grad_(True)
    function(x).backward()
    return x.grad
