"""Registers our classes with Keras as soon as it is imported, so that `load_model` finds those that a file names."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import threading
from collections.abc import Sequence
from types import ModuleType

# The modules whose classes are named in saved models. They import Keras, and nothing of ours that imports them.
MODULES = ("kresnet.layers", "kresnet.graph.network", "kresnet.training.optimizers", "kresnet.training.losses")


def register() -> None:
    """Registers the classes now if Keras is imported, else once it will have been, since that takes seconds."""
    if "keras" in sys.modules:
        _import_modules()
    elif not any(isinstance(finder, _AfterKeras) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterKeras())


def _import_modules() -> None:
    for module in MODULES:
        importlib.import_module(module)


class _AfterKeras(importlib.abc.MetaPathFinder):
    """Lets the other finders find Keras, and registers the classes when it has been executed."""

    def __init__(self) -> None:
        self._searching = threading.local()

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "keras" or getattr(self._searching, "now", False):
            return None
        self._searching.now = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._searching.now = False
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            self._register()

        spec.loader.exec_module = exec_module
        return spec

    @staticmethod
    def _register() -> None:
        try:
            _import_modules()
        except RuntimeError as error:
            if type(error).__name__ != "_DeadlockError":
                raise
            # Another thread is importing one of the modules and waits for Keras, which this one is importing.
            threading.Thread(target=_import_modules).start()
