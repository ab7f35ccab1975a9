"""The network that a run trains: built by its registry key, or given as a model; and what it learns about itself."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from kresnet import checks
from kresnet.graph.network import Network, description
from kresnet.models import pretrained, registry
from kresnet.training.auxiliary import has_auxiliary
from kresnet.training.recipe import Recipe
from kresnet.weights.pretrained import Checkpoint

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


def image_size(model: keras.Model | str, recipe: Recipe) -> int:
    """Returns the height and width in pixels of the images to train with.

    Raises:
        ValueError: if `model` is neither a registry key nor a model of one input and one output, or does not take
            square images of the recipe's size.
    """
    if isinstance(model, str):
        return recipe.image_size or registry.get_builder(model).input_size
    checks.require(
        isinstance(model, keras.Model) and len(model.inputs) == 1 and (len(model.outputs) == 1 or has_auxiliary(model)),
        "`model` must be a registry key or a model of one input and one output",
        model=model,
    )
    height, width = model.input_shape[1:3]
    size = recipe.image_size or height
    checks.require(
        size is not None and height in (None, size) and width in (None, size),
        "The model's images must be square, with sides of `image_size` pixels",
        input_shape=model.input_shape,
        image_size=size,
    )
    return size


def is_grey(model: keras.Model | str, fields: Mapping[str, Any] | None = None) -> bool:
    """Tells whether a network takes images of one channel: a model, or what a registry key with such fields builds."""
    if not isinstance(model, str):
        return model.input_shape[-1] == 1
    mean = dict(fields or {}).get("mean")
    return len(mean if isinstance(mean, tuple | list) else registry.get_builder(model).spec.mean) == 1


def build(
    key: str,
    recipe: Recipe,
    shape: tuple[int, int, int],
    class_names: Sequence[str] | None,
    weights: str | os.PathLike | None,
    precision: str | None,
    fields: Mapping[str, Any] | None = None,
) -> Network:
    """Builds a network for the images.

    Args:
        key: its registry key.
        recipe: may set fields of the network, such as a drop path rate.
        shape: (height, width, channels) of the images.
        class_names: the classes of the images, in the order of their labels.
        weights: what to start from, as in a builder, or None. Its classifier is new where the classes are others.
        fields: fields of the network's spec, besides the recipe's.
        precision: one of `PRECISIONS`; None for Keras's own policy.

    Raises:
        ValueError: if an argument makes no sense, or the class names are not known.
    """
    checks.choice("precision", precision, (*PRECISIONS, None))
    checks.require(
        class_names,
        "Building a network by its key needs `data` with `class_names`, such as a source's name",
        model=key,
    )
    builder = registry.get_builder(key)
    arguments = builder_arguments(key, recipe, fields)
    if weights is not None:
        arguments["weights"] = _starting(builder, weights, arguments, class_names)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision or policy)
    try:
        return builder(input_shape=shape, classes=len(class_names), **arguments)
    finally:
        keras.config.set_dtype_policy(policy)


def _starting(
    builder: Callable[..., keras.Model], weights: Any, arguments: dict[str, Any], class_names: Sequence[str]
) -> Checkpoint:
    """Returns the checkpoint to start from, its classifier left out if it is known to be of other classes."""
    spec = dataclasses.replace(
        builder.spec, **{name: arguments[name] for name in vars(builder.spec) if name in arguments}
    )
    found = pretrained.checkpoint(builder.key, weights, arguments.pop("weights_origin", None), spec)
    others = found.labels and list(found.labels) != list(class_names)
    return dataclasses.replace(found, head="new" if others else "fitting")


def check(model: keras.Model, class_names: Sequence[str] | None, weights: Any, precision: str | None) -> None:
    """Checks that a given model fits the images, and that no argument is for networks built by key.

    Raises:
        ValueError: if not.
    """
    checks.choice("precision", precision, (*PRECISIONS, None))
    checks.require(
        precision is None and weights is None,
        "`precision` and `weights` are for networks built here, by their key",
        precision=precision,
        weights=weights,
    )
    if not class_names:
        return
    checks.require(
        model.output_shape[-1] == len(class_names),
        "The network must have as many classes as the images",
        network=model.output_shape[-1],
        images=len(class_names),
    )
    labels = description(model).get("labels")
    checks.require(
        not labels or list(labels) == list(class_names),
        "The network's labels are not the classes of the images, in their order; `model.describe(labels=None)` "
        "removes them",
        network=labels,
        images=list(class_names),
    )


def rematerialize(model: keras.Model, devices: int) -> None:
    """Lets a network train in less memory; see `Network.rematerialize`.

    Raises:
        ValueError: if it is no network of ours, or trains on several devices.
    """
    checks.require(
        isinstance(model, Network) and devices == 1,
        "`remat` is for networks of ours on one device",
        remat=True,
        model=type(model).__name__,
        devices=devices,
    )
    model.rematerialize()


def describe(model: keras.Model, class_names: Sequence[str] | None, crop_fraction: float | None) -> None:
    """Tells a network the names of its classes, if they are known, and how its validation images are cropped.

    Models that are no `Network` cannot keep them.
    """
    if isinstance(model, Network):
        labels = {"labels": list(class_names)} if class_names else {}
        model.describe(crop_fraction=crop_fraction, interpolation=None, **labels)


def key_or_name(model: keras.Model) -> str:
    """Returns the registry key of the published network that the model is; if it does not know, its own name."""
    return description(model).get("key") or model.name


def builder_arguments(key: str, recipe: Recipe, fields: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Returns the builder's arguments that the recipe sets, and those that are given besides, which win.

    Raises:
        ValueError: if the builder does not take one of `fields`.
    """
    builder = registry.get_builder(key)
    own = {field.name for field in dataclasses.fields(builder.spec)}
    wrong = [name for name in fields or () if name not in own | {"weights_origin"}]
    checks.require(not wrong, f"{key} has no such field.{checks.closest(wrong and wrong[0], own)}", model_fields=wrong)
    own |= {"classifier_activation", *(["auxiliary"] if builder.family.auxiliary else [])}
    settings = {name: value for name, value in recipe.model_fields().items() if name in own}
    return settings | dict(fields or {})
