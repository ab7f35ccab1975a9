"""A network's two ends: pixels in; classes, pooled features or feature maps out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras

from kresnet import checks
from kresnet.layers import VarianceScaling

# Mean and standard deviation of red, green and blue in [0, 1], over the training images.
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
INCEPTION = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
CIFAR = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2470, 0.2435, 0.2616)}


class FeatureMap(NamedTuple):
    """A stage's output: (batch, height, width, channels), and the input pixels that one of its steps spans."""

    tensor: Any
    stride: int


def check_classifier_activation(activation: Any) -> None:
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


def _float32_if_mixed() -> str | None:
    """The dtype of a layer that must not compute in half precision: None, Keras's own, where that is none."""
    return "float32" if keras.config.dtype_policy().compute_dtype in ("float16", "bfloat16") else None


def preprocess(image: Any, spec: Any) -> Any:
    """Brings pixels, 0 to 255, to the mean and deviation of the training images: (pixel / 255 - mean) / std.

    An image with other than the spec's number of channels (grey, or multispectral) gets the average of its means and
    deviations in each channel.
    """
    mean, std, channels = spec.mean, spec.std, image.shape[-1]
    if channels != len(mean):
        mean, std = (sum(mean) / len(mean),) * channels, (sum(std) / len(std),) * channels
    scale, offset = [1 / (255 * s) for s in std], [-m / s for m, s in zip(mean, std, strict=True)]
    return keras.layers.Rescaling(scale, offset, dtype=_float32_if_mixed(), name="preprocessing")(image)


def classifier(x: Any, spec: Any, classes: int, activation: str | None) -> Any:
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(x)
    if spec.head_dropout_rate:
        x = keras.layers.Dropout(spec.head_dropout_rate, name="head_dropout")(x)
    initializer = VarianceScaling(scale=1.0, mode="fan_in", distribution="untruncated_normal")
    return keras.layers.Dense(
        classes, activation=activation, kernel_initializer=initializer, dtype=_float32_if_mixed(), name="predictions"
    )(x)


def select(model: keras.Model, inputs: Any, features: bool | Sequence[str], maps: dict[str, FeatureMap]) -> keras.Model:
    """Returns the model of the feature maps that were asked for."""
    if isinstance(features, str):
        features = (features,)
    names = [name for name in maps if name != "stem"] if features is True else list(features)
    for name in names:
        checks.choice("features", name, maps)
    selected = keras.Model(inputs, {name: maps[name].tensor for name in names}, name=model.name)
    selected.feature_strides = {name: maps[name].stride for name in names}
    return selected
