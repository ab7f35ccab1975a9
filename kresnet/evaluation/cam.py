"""Class activation maps: where in an image a network finds evidence for a class."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kresnet import checks, files
from kresnet.data import images as images_
from kresnet.data import resizing
from kresnet.evaluation import drawings
from kresnet.graph.devices import forward
from kresnet.graph.network import description
from kresnet.graph.replacing import replaced
from kresnet.graph.trace import Call, Trace, functional, last_operation, producer, trace


def supports(model: keras.Model) -> bool:
    """Tells whether `class_activation_maps` works: the model must end in `head_pool` and `predictions`, of all classes.

    A single output is of one of two classes.
    """
    return _features(model) is not None and model.output_shape[-1] > 1


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
    maps = forward(keras.Model(model.inputs, features))(images).astype("float32")
    return _evidence(maps, kernel[:, classes])


def _evidence(maps: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighs the channels of feature maps, (n, rows, columns, c) by (c, n, k), and scales the positive sums to 1."""
    sums = np.maximum(np.einsum("nhwc,cnk->nkhw", maps, weights), 0)
    return sums / np.maximum(sums.max((2, 3), keepdims=True), np.finfo("float32").tiny)


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


# What prepares pixels, or pools a map for a head: the default map is none of these layers'.
_NO_FEATURES = (
    *(keras.layers.Rescaling, keras.layers.Normalization, keras.layers.Dropout, keras.layers.SpatialDropout2D),
    *(keras.layers.AveragePooling2D, keras.layers.MaxPooling2D, keras.layers.AdaptiveAveragePooling2D),
    *(keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D),
)
_PROBABLE = ("softmax", "sigmoid")
_SUFFIXES = (".png", ".jpg", ".jpeg")


@dataclasses.dataclass(frozen=True, eq=False)
class ClassActivation:
    """Where in an image a network finds evidence for a class.

    Attributes:
        map: float32 (rows, columns), of the feature map's size; 0 where there is none, 1 where there is most. All 0 if
            the network finds none.
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
        """Returns the image, a `PIL.Image`, with the map in colours over it, at most so opaque, in [0, 1].

        Raises:
            ValueError: if `alpha` is not in [0, 1].
        """
        checks.number("alpha", alpha, 0, np.nextafter(1, 2), "an opacity in [0, 1]")
        return drawings.overlay(self.image, self.map, alpha)

    def save(self, path: str | os.PathLike, alpha: float = 0.5) -> None:
        """Writes the overlay as a PNG or JPEG, completely or not at all; missing folders are created.

        Args:
            path: ends in ".png", ".jpg" or ".jpeg".
            alpha: as in `overlay`.

        Raises:
            ValueError: if the path ends otherwise, or `alpha` is not in [0, 1].
            OSError: if the disk is full or refuses.
        """
        checks.require(
            Path(path).suffix.lower() in _SUFFIXES, f"`path` must end in {', '.join(_SUFFIXES)}", path=str(path)
        )
        picture = self.overlay(alpha)
        with files.replacing(path) as temporary:
            picture.save(temporary, quality=95)


def grad_cam(
    model: keras.Model, image: Any, class_index: int | None = None, *, layer: str | None = None
) -> ClassActivation:
    """Shows where in an image a network finds evidence for a class, by Grad-CAM.

    A feature map's channels are weighted by the mean gradient of the class's score, before a softmax or sigmoid. Any
    head may follow: dense layers on a flattened map, several poolings. On every backend. While it runs, no other thread
    should use the model, whose layers work otherwise for a moment.

    Args:
        model: a functional model of one image and one output, (batch, classes), or a built sequential one. It may hold
            other models, such as one of ours behind layers that prepare images.
        image: (height, width, channels) pixels as the model takes them, or a batch of one; or a path or `PIL.Image`,
            of which the whole is resized to the model's (square) size, or to its own shorter side if the model has no
            fixed size.
        class_index: of the class. Default: the likeliest. A single sigmoid has the class 0 only, which it stands for.
        layer: the name of the layer, at any depth, whose map to weigh; its last call counts. Default: the last feature
            map of more than one position, before what pools it.

    Returns:
        The map, and the picture that overlays the image with it: `grad_cam(model, image).save("cam.png")`.

    Raises:
        ValueError: if the model has no feature map or no such layer, the class is none of its, the image does not fit
            or is no complete image, or what the model computes is not finite.

    Source: Selvaraju et al. 2017, arXiv:1610.02391, section 3.
    """
    checks.require(
        len(getattr(model, "inputs", None) or ()) == len(getattr(model, "outputs", None) or ()) == 1
        and (len(model.inputs[0].shape), len(model.outputs[0].shape)) == (4, 2),
        "`grad_cam` needs a functional model of one image and (batch, classes)",
        model=getattr(model, "name", model),
    )
    pixels = _pixels(image, model.inputs[0].shape[1:])
    graph = trace(model, [pixels.shape])
    source = _source(graph, layer)
    position = [call is source for call in graph.calls_of(source.operation)].index(True)
    run = functools.partial(_run, model, pixels, source, position)
    features, scores = map(keras.ops.convert_to_numpy, run())
    checks.require(bool(np.isfinite(scores).all()), "The model's outputs are not finite", model=model.name)
    classes = len(scores)
    index = int(scores.argmax()) if class_index is None else checks.integer("class_index", class_index, minimum=0)
    checks.require(index < classes, f"`class_index` must be in 0 to {classes - 1}", class_index=class_index)
    scorer, probable = _ends(graph)
    if _is_linear(model, graph, source, scorer):
        weights = keras.ops.convert_to_numpy(scorer.kernel)[:, index]
    else:
        with _without_activation(probable):
            gradient = _gradient(lambda change: keras.ops.cast(run(change)[1][index], "float32"), features.shape)
        weights = keras.ops.convert_to_numpy(gradient).mean((0, 1))
    found = _evidence(features.astype("float32")[None], weights.astype("float32")[:, None, None])[0, 0]
    checks.require(
        bool(np.isfinite(found).all()), "The map is not finite", model=model.name, layer=source.operation.name
    )
    shown = np.clip(pixels[..., :3] if pixels.shape[2] >= 3 else np.repeat(pixels[..., :1], 3, -1), 0, 255)
    labels = _labels(model, scorer)
    label = labels[index] if labels and len(labels) == classes else None
    return ClassActivation(found, index, label, float(scores[index]), np.rint(shown).astype("uint8"))


def _pixels(image: Any, shape: tuple[int | None, ...]) -> np.ndarray:
    from PIL import Image, ImageOps

    height, width, channels = shape
    if isinstance(image, str | os.PathLike | Image.Image):
        if isinstance(image, Image.Image):
            whole = np.asarray(images_.over_white(ImageOps.exif_transpose(image)))
        else:
            checks.require(Path(image).is_file(), "There is no such image", image=str(image))
            whole = images_.decode(Path(image).read_bytes(), str(image))
        checks.require(height == width, "The model's input is not square: give pixels of its size", shape=shape)
        return resizing.resize(whole, height or min(whole.shape[:2]), channels).astype("float32")
    pixels = np.asarray(image, "float32")
    if pixels.ndim == 4 and len(pixels) == 1:
        pixels = pixels[0]
    fits = pixels.ndim == 3 and all(
        want in (None, got) for want, got in zip((height, width, channels), pixels.shape, strict=True)
    )
    checks.require(fits, f"`image` must be {(height, width, channels)}, (height, width, channels)", shape=pixels.shape)
    return pixels


def _source(graph: Trace, layer: str | None) -> Call:
    """Returns the call that computes the map to weigh."""
    maps = [call for call in graph.calls if len(call.outputs) == 1 and len(call.outputs[0].shape) == 4]
    if layer is None:
        maps = [call for call in maps if not isinstance(call.operation, _NO_FEATURES)]
        maps = [call for call in maps if call.outputs[0].shape[1:3] != (1, 1)]
        checks.require(bool(maps), "The model has no feature map of its own", layers=_names(graph.calls))
    else:
        every, maps = maps, [call for call in maps if call.operation.name == layer]
        close = checks.closest(layer, _names(every))
        checks.require(bool(maps), f"`layer` must be the name of a layer that gives a feature map.{close}", layer=layer)
    return maps[-1]


def _names(calls: list[Call]) -> list[str]:
    return [call.operation.name for call in calls]


def _run(model: keras.Model, pixels: np.ndarray, source: Call, position: int, change: Any = None) -> tuple[Any, Any]:
    """Runs the model with `change` added to the map that the call of its operation at `position` gives.

    Unlike two models, one before the map and one behind it, this also serves where the map is not all that flows on, or
    lies in a nested model, and it leaves no nodes in the model's layers.

    Returns:
        The map without the change, (rows, columns, channels), and the outputs, (classes,).
    """
    original, maps = source.operation.call, []

    def call(*args: Any, **kwargs: Any) -> Any:
        maps.append(original(*args, **kwargs))
        changed = change is not None and len(maps) == position + 1
        return maps[-1] + keras.ops.cast(change, maps[-1].dtype) if changed else maps[-1]

    with replaced(source.operation, "call", call):
        outputs = model(keras.tree.map_structure(lambda _: pixels[None], functional(model).input), training=False)
    return maps[position][0], keras.tree.flatten(outputs)[0][0]


def _ends(graph: Trace) -> tuple[Any, Any]:
    """Returns the operation that computes the scores, and the one with a softmax or sigmoid after them, or None."""
    call, probable = graph.maker_of(graph.outputs[0]), None
    while call is not None:
        operation = call.operation
        function = _function(operation)
        probable = operation if probable is None and function in _PROBABLE else probable
        passes = function in ("linear", "dropout", "identity", "flatten", "reshape", *_PROBABLE)
        if getattr(operation, "weights", ()) or not passes:
            return operation, probable
        call = graph.maker_of(call.inputs[0])
    return None, probable


def _function(operation: Any) -> str:
    """Returns the name of an operation's activation, or of what it is itself: a layer or one of `keras.ops`."""
    return getattr(getattr(operation, "activation", None), "__name__", type(operation).__name__).lower()


def _is_linear(model: keras.Model, graph: Trace, source: Call, scorer: Any) -> bool:
    """Tells whether the scores are a dense layer on the map's mean, so that the kernel is the gradient."""
    if not supports(model) or scorer is not model.get_layer("predictions"):
        return False
    pooled = graph.calls_of(model.get_layer("head_pool"))[-1].inputs[0]
    return pooled is source.outputs[0] and _function(scorer) in ("linear", *_PROBABLE)


def _labels(model: keras.Model, scorer: Any) -> list[str] | None:
    """Returns the classes' names: the model's own, or those of a nested model that computes the scores."""
    nested = [one for one in model.layers if isinstance(one, keras.Model) and last_operation(one) is scorer]
    return next((labels for one in (model, *nested) if (labels := description(one).get("labels"))), None)


@contextlib.contextmanager
def _without_activation(operation: Any) -> Iterator[None]:
    """Lets an operation leave out its softmax or sigmoid, whose gradient is 0 where the network is certain."""
    if operation is None:
        yield
    elif hasattr(operation, "activation"):
        with replaced(operation, "activation", keras.activations.linear):
            yield
    else:
        with replaced(operation, "call", lambda inputs, *_, **__: inputs):
            yield


def _gradient(function: Callable[[Any], Any], shape: tuple[int, ...]) -> Any:
    """Returns the gradient of a scalar function of a tensor of this shape, at 0."""
    x = keras.ops.zeros(shape, "float32")
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            y = function(x)
        return tape.gradient(y, x)
    if backend == "jax":
        import jax

        return jax.grad(function)(x)
    import torch

    x.requires_grad_(True)
    return torch.autograd.grad(function(x), x)[0]  # `backward` would leave gradients in the model's variables
