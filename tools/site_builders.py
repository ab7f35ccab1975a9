"""An extension of griffe, which reads the API's pages from the source: for builders, which are made when the package
runs, and for fields, which have their comments in the place of docstrings."""

from __future__ import annotations

import inspect
import linecache
import re

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

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_) -> None:
        if attr.docstring is None and attr.parent.is_class and attr.endlineno:
            line = linecache.getline(str(attr.filepath), attr.endlineno)
            if comment := re.search(r"  # (.+)$", line):
                attr.docstring = griffe.Docstring(comment[1], parent=attr)

    def on_instance(self, *, obj: griffe.Object, **_) -> None:
        """Marks up what is a power or a list in a text, and would be bold or run on in a page."""
        if obj.docstring:
            text = obj.docstring.value.replace("**2", "\u00b2")
            obj.docstring.value = re.sub(r"^((?! *- ).*\S)\n( +- )", r"\1\n\n\2", text, flags=re.MULTILINE)

    @staticmethod
    def _parameter(known: inspect.Parameter) -> griffe.Parameter:
        default = None if known.default is known.empty else repr(known.default)
        kind = griffe.ParameterKind[known.kind.name.lower()]
        return griffe.Parameter(known.name, kind=kind, default=default)
