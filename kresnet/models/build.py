"""From a family and a spec to a Keras model, by Keras's eight arguments and the spec's fields."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from kresnet import __version__, checks
from kresnet.graph.construction import constructing
from kresnet.graph.network import Network
from kresnet.layers.initializers import undrawn
from kresnet.layers.pixels import preprocess
from kresnet.models import ends, pretrained
from kresnet.models.family import MOST_CLASSES, Family, Spec
from kresnet.models.scaling import CompoundScaling
from kresnet.papers import cited
from kresnet.progress import say
from kresnet.weights.loading import load
from kresnet.weights.pretrained import Checkpoint

# Keras walks a model's graph by recursion, along the shortcuts: ResNet-1202 is deeper than Python's limit of 1000.
sys.setrecursionlimit(max(sys.getrecursionlimit(), 3000))

Builder = Callable[..., keras.Model]
_POOLINGS = {"avg": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}


@constructing()
def build(
    family: Family,
    spec: Spec,
    include_top: bool = True,
    weights: Any = None,
    input_tensor: Any = None,
    input_shape: Sequence[int | None] | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str | None = None,
    *,
    size: int = 224,
    include_preprocessing: bool = True,
    features: bool | Sequence[str] | None = None,
    auxiliary: bool = False,
    known: Mapping[str, Any] | None = None,
) -> Network:
    """Builds a network: images in, the family's body, and the head or whatever else is asked for.

    Args:
        family, spec: what to build.
        include_top, input_tensor, input_shape, pooling, classes, classifier_activation, name: as in Keras's
            applications; see any builder, such as `kresnet.ResNet50`.
        weights: None, the path of a file, or a `Checkpoint` whose fields the spec has.
        size: default height and width of the input in pixels, with the top.
        include_preprocessing, features, auxiliary: as a builder's.
        known: what else the network is to tell of itself in `kresnet_config`.

    Returns:
        The model.

    Raises:
        ValueError: if an argument makes no sense, or the weights are not this network's.
    """
    checks.boolean("include_top", include_top)
    checks.boolean("include_preprocessing", include_preprocessing)
    checks.boolean("auxiliary", auxiliary)
    checks.choice("pooling", pooling, (None, "avg", "max"))
    checks.integer("classes", classes, maximum=MOST_CLASSES)
    checks.require(
        name is None or (isinstance(name, str) and name.strip() and "/" not in name),
        "`name` must be None, or text without a slash",
        name=name,
    )
    ends.check_classifier_activation(classifier_activation)
    has_features = features is not None and features is not False
    has_head = include_top and not has_features
    checks.require(
        not (has_head and classes == 1 and classifier_activation == "softmax"),
        'The softmax of a single class is always 1. For two classes, 0 and 1, give classifier_activation="sigmoid", or '
        "classes=2",
        classes=classes,
        classifier_activation=classifier_activation,
    )
    checks.require(
        not auxiliary or (has_head and family.auxiliary is not None),
        "`auxiliary` is for families that have auxiliary classifiers, and with the top",
        auxiliary=auxiliary,
        family=family.name,
        include_top=include_top,
    )
    image, inputs = ends.image_input(input_tensor, input_shape, size if has_head else None, spec)
    with undrawn(weights is not None):  # the file sets them all
        x, maps = family.body(preprocess(image, spec.mean, spec.std) if include_preprocessing else image, spec)
    chosen = ends.selected(features, maps) if has_features else {}
    outputs = x
    if has_head:
        outputs = family.head(x, spec, classes, classifier_activation)
        if auxiliary:
            outputs = {"predictions": outputs, **family.auxiliary(maps, spec, classes, classifier_activation)}
    elif pooling and not has_features:
        outputs = _POOLINGS[pooling](name="head_pool")(x)
    if weights is not None and not isinstance(weights, Checkpoint):
        weights = Checkpoint.of_file(weights)
    about = {
        **(known or {}),
        "family": family.name,
        "spec": dataclasses.asdict(spec),
        "include_preprocessing": include_preprocessing,
        "include_top": has_head,
        "classes": classes if has_head else None,
        "weights": None if weights is None else weights.source,
        "labels": None,
        "kresnet": __version__,
    }
    if weights is not None:
        about |= weights.told(about["classes"])
    model = Network(inputs, outputs, name=name, kresnet_config=about)
    if weights is not None:
        foreign = [] if image is inputs else keras.Model(inputs, image).layers
        own = [layer for layer in model.layers if layer not in foreign]
        fitting = [layout for layout in family.layouts if layout.fits(spec)]
        for line in load(model, weights.file(), fitting, layers=own, head=weights.head):
            say(f"{model.name}, {weights.source}: {line}")
        if weights.noncommercial:
            say(f"{model.name}, {weights.source}: not for commercial use, by their licence {weights.facts['licence']}.")
    if not has_features:
        return model
    strides = {name: feature.stride for name, feature in chosen.items()}
    outputs = {name: feature.tensor for name, feature in chosen.items()}
    return Network(inputs, outputs, name=model.name, kresnet_config=about | {"feature_strides": strides})


@dataclasses.dataclass(frozen=True)
class Published:
    """A network as its paper has it.

    Attributes:
        name: the builder's name, the paper's in Keras's case.
        family, spec: what it is.
        paper: arXiv number, or DOI, of the paper that describes it.
        key: the registry's key.
        size: height and width in pixels of the images that it was published for.
        classes: classes that it was published for.
        alpha_is_width: whether `alpha` without `phi` is the width multiplier, as MobileNet's papers call it.
        origin: the published spec, where `spec` is a network that differs from it. None: they are the same.
    """

    name: str
    family: Family
    spec: Spec
    paper: str
    key: str
    size: int = 224
    classes: int = 1000
    alpha_is_width: bool = False
    origin: Spec | None = None

    def changed(self, fields: Mapping[str, Any], phi: float | None, coefficients: Mapping[str, float]) -> Any:
        """Returns the spec with other fields and scaled, and the size of its images in pixels."""
        spec = dataclasses.replace(self.spec, **fields)
        if phi is not None:
            scaling = CompoundScaling(phi, **coefficients)
            checks.require(
                max(scaling.depth, scaling.width, scaling.resolution) <= 100,
                "`phi` and the coefficients multiply blocks, channels and pixels by at most 100 each",
                phi=phi,
                **coefficients,
            )
            return spec.scaled(scaling.depth, scaling.width), scaling.pixels(self.size, spec.stride)
        if self.alpha_is_width and coefficients.keys() == {"alpha"}:
            alpha = checks.number("alpha", coefficients["alpha"], 0.01, 100, "a width multiplier in [0.01, 100)")
            checks.require(
                "width_multiplier" not in fields, "`alpha` is `width_multiplier`: give one", **fields, alpha=alpha
            )
            return dataclasses.replace(spec, width_multiplier=alpha), self.size
        checks.require(not coefficients, "Compound scaling's coefficients need `phi`", **coefficients)
        return spec, self.size

    def told(self, spec: Spec) -> dict[str, Any]:
        """Returns what a network of that spec tells of itself."""
        own, published = dataclasses.asdict(spec), dataclasses.asdict(self.origin or self.spec)
        changes = {name: value for name, value in own.items() if value != published[name]}
        return {"key": self.key, "builder": self.name, "paper": self.paper or None, "changes": changes}


def make_builder(network: Published) -> Builder:
    """Returns the function that builds a published network: `build`, with its defaults and signature."""
    signature = _signature(network)

    def builder(*args: Any, **kwargs: Any) -> keras.Model:
        _check_keywords(network.name, kwargs, signature)
        arguments = signature.bind(*args, **kwargs).arguments
        fields = {field: arguments.pop(field) for field in vars(network.spec) if field in arguments}
        coefficients = {name: arguments.pop(name) for name in ("alpha", "beta", "gamma") if name in arguments}
        coefficients = {name: value for name, value in coefficients.items() if value is not None}
        spec, size = network.changed(fields, arguments.pop("phi", None), coefficients)
        origin = arguments.pop("weights_origin", None)
        if arguments.get("weights") is not None:
            found = pretrained.checkpoint(network.key, arguments["weights"], origin, spec)
            spec, size = pretrained.fitted(spec, fields, found), found.size or size
            arguments["weights"] = found
            arguments.setdefault("classes", found.classes or network.classes)
        else:
            checks.require(
                origin is None, "`weights_origin` says what a file in `weights` is of", weights_origin=origin
            )
        arguments.setdefault("classes", network.classes)
        if arguments.get("name") is None:
            arguments["name"] = network.key
        return build(network.family, spec, size=size, known=network.told(spec), **arguments)

    builder.__signature__ = signature
    builder.__name__ = builder.__qualname__ = network.name
    builder.__module__ = "kresnet"  # where it can be imported from, so that it pickles
    builder.__doc__ = _docstring(network)
    builder.key, builder.paper, builder.spec = network.key, network.paper, network.spec
    builder.input_size, builder.family, builder.layouts = network.size, network.family, network.family.layouts
    return builder


def _signature(network: Published) -> inspect.Signature:
    """Returns `build`'s signature less what a published network settles, with its defaults, and the spec's fields."""
    own = dict(inspect.signature(build).parameters)
    for name in ("family", "spec", "size", "known", *([] if network.family.auxiliary else ["auxiliary"])):
        del own[name]
    own["classes"] = own["classes"].replace(default=network.classes)
    more = dict.fromkeys(("weights_origin", "phi", "alpha", "beta", "gamma")) | vars(network.spec)
    keywords = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=value) for name, value in more.items()]
    return inspect.Signature([*own.values(), *keywords], return_annotation=keras.Model)


def _check_keywords(name: str, keywords: Mapping[str, Any], signature: inspect.Signature) -> None:
    for keyword in keywords:
        if keyword not in signature.parameters:
            hint = checks.closest(keyword, signature.parameters)
            raise TypeError(f"{name}() got an unexpected keyword argument {keyword!r}.{hint}")


def _docstring(network: Published) -> str:
    alpha = "Without `phi`, `alpha` multiplies the channels." if network.alpha_is_width else "They need `phi`."
    return _DOCSTRING.format(
        name=network.name,
        key=network.key,
        paper=cited(network.paper),
        size=network.size,
        channels=len(network.spec.mean),
        colours=_COLOURS.get(len(network.spec.mean), ""),
        classes=network.classes,
        spec=f"{type(network.spec).__module__}.{type(network.spec).__name__}",
        alpha=alpha,
        auxiliary=_AUXILIARY if network.family.auxiliary else "",
    )


_COLOURS = {1: "grey ", 3: "RGB "}
_AUXILIARY = """auxiliary: whether to add the auxiliary classifiers, which train along: the output is then a dict of
            "predictions" and theirs.
        """

_DOCSTRING = """Builds {name} ({paper}) as a Keras functional model.

    Args:
        include_top: whether to end in the classifier `predictions`.
        weights: None (random initialization: He); "imagenet", for the recommended ones that are published, a tag of
            `kresnet.list_weights("{key}")`, or "hf://" and a repository of Hugging Face's hub; or the path of a
            checkpoint: `.safetensors` or `.pth` in one of the family's layouts (torchvision's, timm's, ...),
            `.weights.h5` or `.keras` of the same network. The network is built as they need it (padding, epsilon, mean
            and deviation, ...). Without a top, their classifier is left out; published ones leave it out also where
            `classes` are others than theirs.
        input_tensor: a Keras tensor to build upon.
        input_shape: (height, width, channels) in pixels; height and width may be None. Default:
            ({size}, {size}, {channels}) with the top, (None, None, {channels}) without.
        pooling: without a top, None (the feature map itself), "avg" or "max".
        classes: number of classes, at least 1. Default: {classes}.
        classifier_activation: activation of the classifier; None for logits.
        name: the model's name.
        include_preprocessing: True: inputs are {colours}pixels, 0 to 255, uint8 or float, and the first layer
            standardizes them with the mean and deviation that the network was trained with. False: inputs go to the
            first convolution as they are.
        features: instead of a head, names of stages ("stem", "stage2", ...), or True for all stages: the output is a
            dict of their feature maps, and the attribute `feature_strides` gives the input pixels to a step of each.
        {auxiliary}phi: compound scaling by `CompoundScaling(phi, alpha, beta, gamma)`; 0 is the published network, and
            each step of 1 about doubles its MACs. Scales blocks, channels and the default input size.
        weights_origin: what the file in `weights` is of, as timm calls it, such as "tf_efficientnet_b0": for files that
            do not say it themselves, where other networks have the same names and shapes.
        alpha, beta, gamma: the coefficients of depth, width and resolution, at least 1. {alpha}
        **fields: any field of `{spec}`: a change from the published network.

    Returns:
        A `keras.Model`. With the top: (batch, height, width, channels) to (batch, classes). Its attribute
        `kresnet_config` tells what it is, and survives saving.

    Raises:
        ValueError: if an argument makes no sense, or the weights are not this network's.

    Source: {paper}.
    """
