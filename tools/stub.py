"""Makes `kresnet/__init__.pyi`, by which editors complete `kresnet.ResNet50(` and checkers know its arguments."""

import dataclasses
import inspect
import pathlib
import re
import sys

import kresnet
from kresnet.models import catalogue
from kresnet.papers import cited

FILE = pathlib.Path(kresnet.__file__).with_suffix(".pyi")

HEAD = '''\
"""Made by `make table`: what `kresnet` holds, for editors and type checkers."""

from collections.abc import Sequence
from typing import Any, Protocol

import keras

'''


def text() -> str:
    """Returns the stub: the public names, a builder's type for each family, and the networks."""
    places = kresnet.NAMES | kresnet.MODULES | {room: f"kresnet.{room}" for room in ("deploy", "layers", "weights")}
    imports = [_import(name, place) for name, place in places.items() if not _is_builder(name)]
    names = [row["builder"] for row in catalogue.rows()]
    builders = [getattr(kresnet, name) for name in names]
    bases = [name for name in kresnet.NAMES if _is_builder(name)]
    families = {builder.family.spec: builder for builder in builders}
    specs = [f"from {spec.__module__} import {spec.__name__}" for spec in families]
    protocols = [_protocol(builder) for builder in families.values()]
    networks = [_network(name) for name in (*bases, *names)]
    kinds = [line for spec in families for line in _kinds(spec)]
    lines = [*sorted({*imports, *specs, *kinds}), "", "__version__: str", ""]
    return HEAD + "\n".join([*lines, *protocols, *networks]) + "\n"


def _network(name: str) -> str:
    builder = getattr(kresnet, name)
    kind = f"_{builder.family.spec.__name__}Builder"
    return f'{name}: {kind}\n"""{cited(builder.paper)}, for images of {builder.input_size} pixels."""'


def _is_builder(name: str) -> bool:
    return hasattr(getattr(kresnet, name), "key")


def _import(name: str, place: str) -> str:
    module, separator, attribute = place.partition(":")
    if separator:
        return f"from {module} import {attribute} as {name}"
    package, _, last = module.rpartition(".")
    return f"from {package} import {last} as {name}"


def _kinds(spec: type) -> list[str]:
    """Returns the imports of the classes of its module that the types of a spec's fields name, such as `Row`."""
    names = {name for field in dataclasses.fields(spec) for name in re.findall(r"\w+", field.type)}
    module = sys.modules[spec.__module__]
    return [f"from {module.__name__} import {name}" for name in names if isinstance(getattr(module, name, None), type)]


def _protocol(builder) -> str:
    """Returns a class whose call has the signature of a family's builders, the fields of the spec with their types."""
    spec = builder.family.spec
    types = {field.name: field.type for field in dataclasses.fields(spec)}
    types |= dict.fromkeys(("phi", "alpha", "beta", "gamma"), "float | None") | {"weights_origin": "str | None"}
    parts, keyword_only = ["self"], False
    for parameter in inspect.signature(builder).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            parts, keyword_only = [*parts, "*"], True
        kind = types.get(parameter.name, parameter.annotation)
        parts.append(f"{parameter.name}: {kind} = ...")
    arguments = "".join(f"        {part},\n" for part in parts)
    return (
        f"class _{spec.__name__}Builder(Protocol):\n"
        f"    __name__: str\n    key: str\n    paper: str\n    spec: {spec.__name__}\n    input_size: int\n"
        f"    def __call__(\n{arguments}    ) -> keras.Model: ...\n"
    )
