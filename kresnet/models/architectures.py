"""All of timm's architectures that some spec of ours computes, by timm's names."""

from __future__ import annotations

import functools
import importlib

from kresnet.models.family import Spec

# Found when they are asked for: they stand on the networks, which stand on what asks for them. Each has the dictionary
# `ARCHITECTURES`.
MODULES = (
    "kresnet.models.early",
    "kresnet.models.plain",
    "kresnet.models.densenet",
    "kresnet.models.repvgg",
    "kresnet.models.inception.googlenet",
    "kresnet.models.inception.factorized",
    "kresnet.models.inception.residual",
    "kresnet.models.residual.architectures",
    "kresnet.models.mobile.architectures",
)


@functools.cache
def known() -> dict[str, Spec]:
    """Returns each architecture's spec by its name, to be read only."""
    found: dict[str, Spec] = {}
    for module in MODULES:
        found |= importlib.import_module(module).ARCHITECTURES
    return found
