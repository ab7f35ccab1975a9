"""A network's two ends: images in; classes, pooled features or feature maps out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras

from kresnet import checks
from kresnet.layers.initializers import VarianceScaling
from kresnet.layers.pixels import float32_if_mixed

# Height and width of an image: a JPEG has no more.
MOST_PIXELS = 65_535


class FeatureMap(NamedTuple):
    """A stage's output: (batch, height, width, channels), and the input pixels that one of its steps spans."""

    tensor: Any
    stride: int


def check_classifier_activation(activation: Any) -> None:
    """Raises a ValueError if Keras has no such activation, or it does not give a number for each class."""
    try:
        ok = not isinstance(activation, type)  # Keras would make an object of it
        ok = ok and keras.activations.get(activation)(keras.ops.zeros((1, 2))).shape == (1, 2)
    except Exception:  # whatever a function raises that is no activation
        ok = False
    checks.require(ok, "`classifier_activation` must be None or a Keras activation", classifier_activation=activation)


def image_input(input_tensor: Any, input_shape: Any, default_size: int | None, spec: Any) -> tuple[Any, Any]:
    """Returns the image tensor, and what the model's inputs are."""
    if keras.config.image_data_format() != "channels_last":
        raise ValueError(
            "kresnet's networks are channels-last, (batch, height, width, channels); call "
            "keras.config.set_image_data_format('channels_last'). Received: image_data_format='channels_first'"
        )
    if input_tensor is None:
        shape = (default_size, default_size, len(spec.mean)) if input_shape is None else input_shape
        _check_shape(shape, spec)
        image = keras.Input(shape=tuple(shape), name="image")
        return image, image
    if not keras.backend.is_keras_tensor(input_tensor):
        raise ValueError(f"`input_tensor` must be a Keras tensor. Received: input_tensor={input_tensor!r}")
    shape = tuple(input_tensor.shape[1:])
    _check_shape(shape, spec)
    checks.require(
        input_shape is None or tuple(input_shape) == shape,
        "`input_shape` must be that of `input_tensor`, or None",
        input_shape=input_shape,
        input_tensor=shape,
    )
    sources = keras.utils.get_source_inputs(input_tensor)
    return input_tensor, sources[0] if len(sources) == 1 else sources


def _check_shape(shape: Any, spec: Any) -> None:
    ok = isinstance(shape, tuple | list) and len(shape) == 3 and all(s is None or type(s) is int for s in shape)
    checks.require(
        ok and shape[2] is not None and all(s is None or 0 < s <= MOST_PIXELS for s in shape),
        f"`input_shape` must be (height, width, channels) in pixels, at most {MOST_PIXELS} of each, channels known",
        input_shape=shape,
    )
    checks.require(
        all(size is None or size >= spec.stride for size in shape[:2]),
        f"The input is too small: this network's strides divide it by {spec.stride}, so `input_shape` must be at least "
        f"({spec.stride}, {spec.stride}, channels)",
        input_shape=tuple(shape),
    )


def pooled_classifier(x: Any, spec: Any, classes: int, activation: str | None) -> Any:
    """The head of most families: a global average, dropout where the spec has it, and one dense layer."""
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(x)
    if spec.head_dropout_rate:
        x = keras.layers.Dropout(spec.head_dropout_rate, name="head_dropout")(x)
    return predictions(x, classes, activation)


def predictions(x: Any, classes: int, activation: str | None, name: str = "predictions") -> Any:
    """The last dense layer: (batch, features) to (batch, classes), in float32 under mixed precision too."""
    initializer = VarianceScaling(scale=1.0, mode="fan_in", distribution="untruncated_normal")
    return keras.layers.Dense(
        classes, activation=activation, kernel_initializer=initializer, dtype=float32_if_mixed(), name=name
    )(x)


def selected(features: bool | Sequence[str], maps: dict[str, FeatureMap]) -> dict[str, FeatureMap]:
    """Returns the feature maps that were asked for: by name, or all stages' for True.

    Raises:
        ValueError: if there is no map of a name.
    """
    if isinstance(features, str):
        features = (features,)
    if features is True:
        features = tuple(name for name in maps if re.fullmatch(r"stage\d+", name))
        checks.require(len(features) > 0, f"The network has no feature map but {', '.join(maps)}", features=True)
    checks.require(
        isinstance(features, tuple | list) and len(features) > 0,
        f"`features` must be None, True or a sequence of names: {', '.join(maps)}",
        features=features,
    )
    return {checks.choice("features", name, maps): maps[name] for name in features}
