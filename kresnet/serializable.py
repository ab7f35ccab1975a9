"""Makes Keras know our classes as soon as it is imported, so that `load_model` finds those that a file names."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

# The modules whose classes stand in saved models. They import Keras and nothing of ours that imports them.
MODULES = ("kresnet.layers", "kresnet.graph.network", "kresnet.training.optimizers", "kresnet.training.losses")


def register() -> None:
    """Registers the classes now where Keras is imported, else after it will have been: that takes seconds."""
    if "keras" in sys.modules:
        _import_modules()
    else:
        sys.meta_path.insert(0, _AfterKeras())


def _import_modules() -> None:
    for module in MODULES:
        importlib.import_module(module)


class _AfterKeras(importlib.abc.MetaPathFinder):
    """Steps aside when Keras is looked for, and registers the classes when it has been imported."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "keras":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            _import_modules()

        spec.loader.exec_module = exec_module
        return spec
