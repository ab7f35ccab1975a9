"""All published networks by key, and the one list of the families that they come from."""

from __future__ import annotations

import fnmatch
import importlib
from typing import Any

import keras

from kresnet import checks
from kresnet.models import architectures, catalogue
from kresnet.models.build import Builder, Published, make_builder
from kresnet.models.family import Family, Spec
from kresnet.weights.pretrained import HUB, PublishedWeights, on_hub, published

# The modules that register networks. A new family's goes here.
FAMILIES = (
    "kresnet.models.early",
    "kresnet.models.plain",
    "kresnet.models.densenet",
    "kresnet.models.repvgg",
    "kresnet.models.parnet",
    "kresnet.models.inception.googlenet",
    "kresnet.models.inception.factorized",
    "kresnet.models.inception.residual",
    "kresnet.models.residual.networks",
    "kresnet.models.mobile.mobilenet",
    "kresnet.models.mobile.efficientnet",
    "kresnet.models.mobile.efficientnetv2",
)

_builders: dict[str, Builder] = {}


def variant(name: str, family: Family, spec: Spec, *, paper: str, key: str | None = None, **options: Any) -> Builder:
    """Makes the builder of a published network and registers it.

    Args:
        name: the builder's name, the paper's in Keras's case.
        family: which builds it.
        spec: the network, as its difference from another's.
        paper: arXiv number, or DOI, of the paper that describes it.
        key: the registry's key. Default: the name in lower case.
        **options: `size`, `classes` and `alpha_is_width` of `Published`.

    Raises:
        ValueError: if there is a network of that key already.
    """
    builder = make_builder(Published(name, family, spec, paper, key or name.lower(), **options))
    checks.require(builder.key not in _builders, "There is a network of that key already", key=builder.key, name=name)
    _builders[builder.key] = builder
    return builder


def base(name: str, family: Family, spec: Spec, *, paper: str) -> Builder:
    """Makes the builder of a family's base, for networks that nobody has named: it is in no list."""
    return make_builder(Published(name, family, spec, paper, name.lower()))


def create_model(key: str, *args: Any, **kwargs: Any) -> keras.Model:
    """Builds a network by its registry key.

    Args:
        key: one of `list_models()`, such as "resnet50"; timm's name of an architecture that has no builder here, such
            as "ecaresnet50d"; or "hf://" and a repository of Hugging Face's hub, such as "hf://timm/resnet50.a1_in1k",
            for its network with its weights.
        *args, **kwargs: the builder's own, such as `classes=10`.

    Raises:
        ValueError: if there is no such key; it names the closest ones. Or if `weights` are given with a repository.
    """
    if isinstance(key, str) and key.startswith(HUB):
        checks.require(
            "weights" not in kwargs and len(args) < 2,
            "A repository has its weights: give its architecture as the key, and `weights`, for others or none",
            key=key,
            **({"weights": kwargs["weights"]} if "weights" in kwargs else {"arguments": args}),
        )
        found = on_hub(key)
        return get_builder(found.architecture)(*args, weights=found, **kwargs)
    return get_builder(key)(*args, **kwargs)


def get_builder(key: str) -> Builder:
    """Returns the builder of a registry key, or of timm's name of an architecture.

    Raises:
        ValueError: if there is no such key; it names the closest ones.
    """
    _import_families()
    if isinstance(key, str) and key not in _builders and (spec := architectures.known().get(key)):
        found = next(builder.family for builder in _builders.values() if type(builder.spec) is type(spec))
        return make_builder(Published(key, found, spec, "", key))
    if not isinstance(key, str) or key not in _builders:
        hint = checks.closest(key, {**_builders, **architectures.known()})
        raise ValueError(f"There is no network of that name; `list_models()` gives all.{hint} Received: key={key!r}")
    return _builders[key]


def list_models(pattern: str = "*", pretrained: bool = False) -> list[str]:
    """Lists the registry's keys.

    Args:
        pattern: which keys, with the wildcards * and ?, such as "resnet*d".
        pretrained: whether to list those that somebody has published weights of, and only them; timm's architectures
            that have no builder here are among these.

    Returns:
        The keys that match, sorted as people do: resnet18 before resnet110.
    """
    _import_families()
    keys = {row.key for row in published()} if pretrained else _builders
    return sorted((key for key in keys if fnmatch.fnmatchcase(key, pattern)), key=catalogue.natural)


def list_weights(key: str | None = None) -> list[PublishedWeights]:
    """Lists published weights.

    Args:
        key: of a network of `list_models()`, or timm's name of an architecture; None for all.

    Returns:
        Those of the network, the recommended ones first; none for a network that nobody has published any of.

    Raises:
        ValueError: if there is no such key; it names the closest ones.
    """
    if key is not None:
        get_builder(key)
    return published(key)


def family(name: str) -> Family:
    """Returns the family of a name, as a network's description has it.

    Raises:
        ValueError: if there is none.
    """
    _import_families()
    families = {builder.family.name: builder.family for builder in _builders.values()}
    return families[checks.choice("family", name, families)]


def named(name: str) -> Builder:
    """Returns the builder of a name, such as ResNet50, or ResNet, which is in no list.

    Raises:
        AttributeError: if there is none; it names the closest ones.
    """
    modules = _import_families()
    found = [value for module in modules if hasattr(value := getattr(module, name, None), "key")]
    if not found:
        hint = checks.closest(name, [builder.__name__ for builder in _builders.values()])
        raise AttributeError(f"module 'kresnet' has no attribute {name!r}.{hint}")
    return found[0]


def _import_families() -> list[Any]:
    return [importlib.import_module(module) for module in FAMILIES]
