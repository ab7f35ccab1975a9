"""What all builders share: the spec's base, Keras's arguments, and the registry."""

from __future__ import annotations

import dataclasses
import fnmatch
import inspect
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import keras

from kresnet import checks, ends
from kresnet import weights as weight_files
from kresnet.scaling import CompoundScaling


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec:
    """The fields that every family's spec has. A family's own fields, and `stride`, stand in its subclass."""

    mean: tuple[float, ...] = ends.IMAGENET["mean"]  # of the training images' channels, in [0, 1]
    std: tuple[float, ...] = ends.IMAGENET["std"]
    head_dropout_rate: float = 0.0  # before the classifier
    epsilon: float = 1e-5  # of batch normalization
    momentum: float = 0.9  # of batch normalization, in Keras's sense: the share of the old statistics

    def __post_init__(self):
        for name in ("mean", "std"):
            value = getattr(self, name)
            ok = isinstance(value, Sequence) and all(isinstance(v, int | float) for v in value) and len(value) > 0
            checks.require(ok and (name == "mean" or min(value) > 0), f"`{name}` must be numbers", **{name: value})
        checks.require(len(self.mean) == len(self.std), "`mean` and `std` must match", mean=self.mean, std=self.std)
        self._set(mean=tuple(self.mean), std=tuple(self.std))
        for name in ("head_dropout_rate", "momentum"):
            checks.number(name, getattr(self, name), 0, 1, "a fraction in [0, 1)")
        checks.number("epsilon", self.epsilon, 1e-12, 1, "in [1e-12, 1)")

    def _set(self, **fields: Any) -> None:
        """Stores checked fields in their canonical type."""
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @property
    def stride(self) -> int:
        """Input pixels that one step of the last feature map spans."""
        raise NotImplementedError

    def scaled(self, depth: float, width: float) -> Spec:
        """Returns the spec with `depth` times the blocks, rounded up, and `width` times the channels."""
        raise NotImplementedError


class Engine(Protocol):
    """Builds a family's network, from the numbers behind the pixels to the last feature map.

    Called with a tensor and a spec, it returns the last feature map and the `FeatureMap`s by name, "stem" first.
    `layouts` tells the names that the family's layers have in PyTorch's checkpoints.
    """

    layouts: Sequence[weight_files.Layout]

    def __call__(self, x: Any, spec: Any) -> tuple[Any, dict[str, ends.FeatureMap]]: ...


Builder = Callable[..., keras.Model]

# Keras walks a model's graph by recursion, along the shortcuts: ResNet-1202 is deeper than Python's limit of 1000.
sys.setrecursionlimit(max(sys.getrecursionlimit(), 3000))

_registry: dict[str, Builder] = {}

# Trainable parameters and MACs of every network as published, so that listing them builds none. `make table` writes it,
# and the tests count again.
COSTS = pathlib.Path(__file__).with_name("costs.csv")


def variant(name: str, engine: Engine, spec: Spec, *, paper: str, key: str | None = None, **options: Any) -> Builder:
    """Makes the builder of one published network and registers it.

    Args:
        name: the builder's name, the paper's in Keras's case.
        engine: builds the family.
        spec: the network, as its difference from another's.
        paper: arXiv number of the paper that describes it.
        key: the registry's key, where it is not the name in lower case.
        **options: `size`, `classes` and `alpha_is_width` of `make_builder`.
    """
    key = key or name.lower()
    builder = make_builder(name, engine, spec, paper=paper, key=key, **options)
    _registry[key] = builder
    return builder


def make_builder(
    name: str,
    engine: Engine,
    spec: Spec,
    *,
    paper: str,
    key: str,
    size: int = 224,
    classes: int = 1000,
    alpha_is_width: bool = False,
) -> Builder:
    """Makes a builder with Keras's eight arguments and, keyword-only, the spec's fields.

    Args:
        name, engine, spec, paper, key: as `variant`'s.
        size: height and width in pixels of the images that the network was published for.
        classes: classes that it was published for.
        alpha_is_width: whether `alpha` without `phi` is the width multiplier, as MobileNet's papers call it.
    """
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
        phi: float | None = None,
        alpha: float | None = None,
        beta: float | None = None,
        gamma: float | None = None,
        **fields: Any,
    ) -> keras.Model:
        unknown = [field for field in fields if field not in defaults]
        if unknown:
            hint = checks.closest(unknown[0], defaults)
            raise TypeError(f"{builder.__name__}() got an unexpected keyword argument {unknown[0]!r}.{hint}")
        final, final_size = dataclasses.replace(spec, **fields), size
        coefficients = {n: v for n, v in (("alpha", alpha), ("beta", beta), ("gamma", gamma)) if v is not None}
        if phi is not None:
            scaling = CompoundScaling(phi, **coefficients)
            final = final.scaled(scaling.depth, scaling.width)
            final_size = scaling.pixels(size, final.stride)
        elif alpha_is_width and coefficients.keys() == {"alpha"}:
            checks.number("alpha", alpha, 0.01, 100, "a width multiplier in [0.01, 100)")
            final = dataclasses.replace(final, width_multiplier=alpha)
        else:
            checks.require(not coefficients, "Compound scaling's coefficients need `phi`", **coefficients)
        checks.choice("pooling", pooling, (None, "avg", "max"))
        checks.integer("classes", classes)
        ends.check_classifier_activation(classifier_activation)
        image, inputs = ends.image_input(
            input_tensor, input_shape, final_size if include_top and not features else None, final
        )
        x, maps = engine(ends.preprocess(image, final) if include_preprocessing else image, final)
        outputs = x
        if include_top and not features:
            outputs = ends.classifier(x, final, classes, classifier_activation)
        elif pooling and not features:
            pool = {"avg": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}[pooling]
            outputs = pool(name="head_pool")(x)
        model = keras.Model(inputs, outputs, name=name or key)
        if weights is not None:
            weight_files.load(model, weights, engine.layouts)
        return ends.select(model, inputs, features, maps) if features else model

    defaults = {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)}
    signature = inspect.signature(builder)
    eight_and_two = [p for p in signature.parameters.values() if p.kind != p.VAR_KEYWORD]
    keywords = [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=d) for n, d in defaults.items()]
    builder.__signature__ = signature.replace(parameters=[*eight_and_two, *keywords])
    builder.__name__ = builder.__qualname__ = name
    builder.__module__ = "kresnet"  # where it can be imported from, so that it pickles
    about_alpha = "Without `phi`, `alpha` multiplies the channels." if alpha_is_width else "They need `phi`."
    kind = f"{type(spec).__module__}.{type(spec).__name__}"
    builder.__doc__ = _DOCSTRING.format(
        name=name, paper=paper, size=size, classes=classes, spec=kind, alpha=about_alpha
    )
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
            dict of their feature maps, and the attribute `feature_strides` (not saved with the model) gives the input
            pixels to a step of each.
        phi: compound scaling by `CompoundScaling(phi, alpha, beta, gamma)`; 0 is the network as published, and each
            step of 1 about doubles its MACs. Scales blocks, channels and the default input size.
        alpha, beta, gamma: the coefficients of depth, width and resolution, at least 1. {alpha}
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
