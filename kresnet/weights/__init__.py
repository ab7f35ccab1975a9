"""Weights from files and hubs, and the names and forms that they have in PyTorch's checkpoints."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kresnet.weights.layout import Layout
    from kresnet.weights.loading import load

__all__ = ["Layout", "load"]
_MODULES = {"Layout": "kresnet.weights.layout", "load": "kresnet.weights.loading"}


def __getattr__(name: str) -> Any:
    # Both need Keras, which takes seconds to import; the table of published weights does not.
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'kresnet.weights' has no attribute {name!r}")
