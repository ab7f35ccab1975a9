"""A network's two ends: images in; classes, pooled features or feature maps out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras

from kresnet import checks
from kresnet.layers.initializers import VarianceScaling
from kresnet.layers.pixels import float32_if_mixed


class FeatureMap(NamedTuple):
    """A stage's output: (batch, height, width, channels), and the input pixels that one of its steps spans."""

    tensor: Any
    stride: int


def check_classifier_activation(activation: Any) -> None:
    """Raises a ValueError if Keras has no such activation."""
    try:
        keras.activations.get(activation)
    except (ValueError, TypeError):
        raise ValueError(
            "`classifier_activation` must be None or a Keras activation. "
            f"Received: classifier_activation={activation!r}"
        ) from None


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
    ok = isinstance(shape, Sequence) and len(shape) == 3 and all(s is None or isinstance(s, int) for s in shape)
    checks.require(
        ok and shape[2] is not None and shape[2] > 0,
        "`input_shape` must be (height, width, channels) in pixels, channels known",
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
    names = [name for name in maps if name != "stem"] if features is True else list(features)
    checks.require(len(names) > 0, f"The network has no feature map but {', '.join(maps)}", features=features)
    return {checks.choice("features", name, maps): maps[name] for name in names}
