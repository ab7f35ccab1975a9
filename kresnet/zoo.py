"""What all builders share: arguments, input, pixels to numbers, head, weights, and the registry."""

from __future__ import annotations

import dataclasses
import fnmatch
import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import keras

from kresnet import checks
from kresnet import weights as weight_files
from kresnet.layers import VarianceScaling

# Mean and standard deviation of red, green and blue in [0, 1], over the training images.
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
INCEPTION = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
CIFAR = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2470, 0.2435, 0.2616)}


class FeatureMap(NamedTuple):
    """A stage's output: (batch, height, width, channels), and the input pixels that one of its steps spans."""

    tensor: Any
    stride: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec:
    """The fields that every family's spec has. A family's own fields, and `stride`, stand in its subclass."""

    mean: tuple[float, ...] = IMAGENET["mean"]  # of the training images' channels, in [0, 1]
    std: tuple[float, ...] = IMAGENET["std"]
    head_dropout_rate: float = 0.0  # before the classifier

    def __post_init__(self):
        for name in ("mean", "std"):
            value = getattr(self, name)
            ok = isinstance(value, Sequence) and all(isinstance(v, int | float) for v in value) and len(value) > 0
            checks.require(ok and (name == "mean" or min(value) > 0), f"`{name}` must be numbers", **{name: value})
        checks.require(len(self.mean) == len(self.std), "`mean` and `std` must match", mean=self.mean, std=self.std)
        self._set(mean=tuple(self.mean), std=tuple(self.std))
        checks.number("head_dropout_rate", self.head_dropout_rate, 0, 1, "a fraction in [0, 1)")

    def _set(self, **fields: Any) -> None:
        """Stores checked fields in their canonical type."""
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @property
    def stride(self) -> int:
        """Input pixels that one step of the last feature map spans."""
        raise NotImplementedError


class Engine(Protocol):
    """Builds a family's network, from the numbers behind the pixels to the last feature map.

    Called with a tensor and a spec, it returns the last feature map and the `FeatureMap`s by name, "stem" first.
    `layouts` tells the names that the family's layers have in PyTorch's checkpoints.
    """

    layouts: Sequence[weight_files.Layout]

    def __call__(self, x: Any, spec: Any) -> tuple[Any, dict[str, FeatureMap]]: ...


Builder = Callable[..., keras.Model]

# Keras walks a model's graph by recursion, along the shortcuts: ResNet-1202 is deeper than Python's limit of 1000.
sys.setrecursionlimit(max(sys.getrecursionlimit(), 3000))

_registry: dict[str, Builder] = {}


def variant(
    name: str, engine: Engine, spec: Spec, *, paper: str, size: int = 224, classes: int = 1000, key: str | None = None
) -> Builder:
    """Makes the builder of one published network and registers it.

    Args:
        name: the builder's name, the paper's in Keras's case.
        engine: builds the family.
        spec: the network, as its difference from another's.
        paper: arXiv number of the paper that describes it.
        size: height and width in pixels of the images that it was published for.
        classes: classes that it was published for.
        key: the registry's key, where it is not the name in lower case.
    """
    key = key or name.lower()
    builder = make_builder(name, engine, spec, paper=paper, size=size, classes=classes, key=key)
    _registry[key] = builder
    return builder


def make_builder(
    name: str, engine: Engine, spec: Spec, *, paper: str, size: int = 224, classes: int = 1000, key: str
) -> Builder:
    """Makes a builder with Keras's eight arguments and, keyword-only, the spec's fields. Arguments: as `variant`."""
    published_classes = classes

    def builder(
        include_top: bool = True,
        weights: Any = None,
        input_tensor: Any = None,
        input_shape: Sequence[int | None] | None = None,
        pooling: str | None = None,
        classes: int = published_classes,
        classifier_activation: str | None = "softmax",
        name: str | None = None,
        *,
        include_preprocessing: bool = True,
        features: bool | Sequence[str] | None = None,
        **fields: Any,
    ) -> keras.Model:
        unknown = [field for field in fields if field not in defaults]
        if unknown:
            hint = checks.closest(unknown[0], defaults)
            raise TypeError(f"{builder.__name__}() got an unexpected keyword argument {unknown[0]!r}.{hint}")
        final = dataclasses.replace(spec, **fields)
        checks.choice("pooling", pooling, (None, "avg", "max"))
        checks.integer("classes", classes)
        _check_classifier_activation(classifier_activation)
        image, inputs = _image_input(input_tensor, input_shape, size if include_top and not features else None, final)
        x, maps = engine(_preprocess(image, final) if include_preprocessing else image, final)
        outputs = x
        if include_top and not features:
            outputs = _classifier(x, final, classes, classifier_activation)
        elif pooling and not features:
            pool = {"avg": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}[pooling]
            outputs = pool(name="head_pool")(x)
        model = keras.Model(inputs, outputs, name=name or key)
        if weights is not None:
            weight_files.load(model, weights, engine.layouts)
        return _select(model, inputs, features, maps) if features else model

    defaults = {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)}
    signature = inspect.signature(builder)
    eight_and_two = [p for p in signature.parameters.values() if p.kind != p.VAR_KEYWORD]
    keywords = [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=d) for n, d in defaults.items()]
    builder.__signature__ = signature.replace(parameters=[*eight_and_two, *keywords])
    builder.__name__ = builder.__qualname__ = name
    builder.__module__ = engine.__module__
    builder.__doc__ = _DOCSTRING.format(name=name, paper=paper, size=size, classes=classes, spec=type(spec).__name__)
    builder.key, builder.paper, builder.spec, builder.input_size = key, paper, spec, size
    builder.layouts = engine.layouts
    return builder


_DOCSTRING = """Builds {name} (arXiv:{paper}) as a Keras functional model.

    Args:
        include_top: whether to end in pooling and the classifier `predictions`.
        weights: None (random initialization: He), or the path of a checkpoint: `.safetensors` in torchvision's or
            timm's layout, `.weights.h5` or `.keras` of the same network. Without a top, the file's classifier is left
            out.
        input_tensor: a Keras tensor to build upon.
        input_shape: (height, width, channels) in pixels; height and width may be None. Default: ({size}, {size}, 3)
            with the top, (None, None, 3) without.
        pooling: without a top, None (the feature map itself), "avg" or "max".
        classes: classes to tell apart, at least 1. Default: {classes}.
        classifier_activation: activation of the classifier; None for logits.
        name: the model's name.
        include_preprocessing: True: inputs are RGB pixels, 0 to 255, uint8 or float, and the first layer brings them to
            the mean and deviation that the network was trained with. False: inputs go to the first convolution as they
            are.
        features: instead of a head, names of stages ("stem", "stage2", ...), or True for all stages: the output is a
            dict of their feature maps, and the model's `feature_strides` gives the input pixels to a step of each.
        **fields: any field of `{spec}`: a change from the published network.

    Returns:
        A `keras.Model`. With the top: (batch, height, width, channels) to (batch, classes).

    Raises:
        ValueError: if an argument makes no sense, or the weights are not this network's.

    Source: arXiv:{paper}.
    """


def create_model(key: str, *args: Any, **kwargs: Any) -> keras.Model:
    """Builds a network by its registry key.

    Args:
        key: one of `list_models()`, such as "resnet50".
        *args, **kwargs: the builder's own, such as `classes=10`.

    Raises:
        ValueError: if there is no such key; it names the closest ones.
    """
    return get_builder(key)(*args, **kwargs)


def get_builder(key: str) -> Builder:
    """Returns the builder behind a registry key. Raises: ValueError, naming the closest keys."""
    if not isinstance(key, str) or key not in _registry:
        hint = checks.closest(key, _registry)
        raise ValueError(f"There is no network of that name; `list_models()` gives all.{hint} Received: key={key!r}")
    return _registry[key]


def list_models(pattern: str = "*") -> list[str]:
    """Returns the registry's keys that match a pattern with the wildcards * and ?, such as "resnet*d", sorted."""
    return sorted(fnmatch.filter(_registry, pattern))


def _check_classifier_activation(activation: Any) -> None:
    try:
        keras.activations.get(activation)
    except (ValueError, TypeError):
        raise ValueError(
            "`classifier_activation` must be None or a Keras activation. "
            f"Received: classifier_activation={activation!r}"
        ) from None


def _image_input(input_tensor: Any, input_shape: Any, default_size: int | None, spec: Spec) -> tuple[Any, Any]:
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


def _check_shape(shape: Any, spec: Spec) -> None:
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


def _preprocess(image: Any, spec: Spec) -> Any:
    """Brings pixels, 0 to 255, to the mean and deviation of the training images: (pixel / 255 - mean) / std.

    An image with other than the spec's number of channels (grey, or multispectral) gets the average of its means and
    deviations in each channel.
    """
    mean, std, channels = spec.mean, spec.std, image.shape[-1]
    if channels != len(mean):
        mean, std = (sum(mean) / len(mean),) * channels, (sum(std) / len(std),) * channels
    scale, offset = [1 / (255 * s) for s in std], [-m / s for m, s in zip(mean, std, strict=True)]
    return keras.layers.Rescaling(scale, offset, dtype=_float32_if_mixed(), name="preprocessing")(image)


def _classifier(x: Any, spec: Spec, classes: int, activation: str | None) -> Any:
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(x)
    if spec.head_dropout_rate:
        x = keras.layers.Dropout(spec.head_dropout_rate, name="head_dropout")(x)
    initializer = VarianceScaling(scale=1.0, mode="fan_in", distribution="untruncated_normal")
    return keras.layers.Dense(
        classes, activation=activation, kernel_initializer=initializer, dtype=_float32_if_mixed(), name="predictions"
    )(x)


def _select(
    model: keras.Model, inputs: Any, features: bool | Sequence[str], maps: dict[str, FeatureMap]
) -> keras.Model:
    """Returns the model of the feature maps that were asked for."""
    if isinstance(features, str):
        features = (features,)
    names = [name for name in maps if name != "stem"] if features is True else list(features)
    for name in names:
        checks.choice("features", name, maps)
    selected = keras.Model(inputs, {name: maps[name].tensor for name in names}, name=model.name)
    selected.feature_strides = {name: maps[name].stride for name in names}
    return selected
