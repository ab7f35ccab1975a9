"""An extension of griffe, which reads the API's pages from the source: builders are made when the package runs."""

from __future__ import annotations

import inspect

import griffe


class Builders(griffe.Extension):
    """Gives `kresnet.ResNet50` and the other builders that pages name their signatures and docstrings."""

    NAMES = ("ResNet50",)

    def on_package(self, *, pkg: griffe.Module, **_) -> None:
        if pkg.name != "kresnet":
            return
        import kresnet

        for name in self.NAMES:
            builder = getattr(kresnet, name)
            parameters = [self._parameter(known) for known in inspect.signature(builder).parameters.values()]
            function = griffe.Function(
                name, parameters=griffe.Parameters(*parameters), returns="keras.Model", parent=pkg
            )
            function.docstring = griffe.Docstring(inspect.cleandoc(builder.__doc__), parent=function)
            pkg.set_member(name, function)

    @staticmethod
    def _parameter(known: inspect.Parameter) -> griffe.Parameter:
        default = None if known.default is known.empty else repr(known.default)
        kind = griffe.ParameterKind[known.kind.name.lower()]
        return griffe.Parameter(known.name, kind=kind, default=default)
