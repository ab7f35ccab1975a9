"""Labelled images: their sources, decoding one file to pixels, augmentation, and the batches that `fit` takes."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kresnet.data.loading import load, without_tuning
    from kresnet.data.order import Epochs

__all__ = ["Epochs", "load", "without_tuning"]


def __getattr__(name: str) -> Any:
    # Augmentation needs Keras, which takes seconds to import; the demo decodes images without it.
    if name in __all__:
        return getattr(importlib.import_module("kresnet.data.loading"), name)
    raise AttributeError(f"module 'kresnet.data' has no attribute {name!r}")
