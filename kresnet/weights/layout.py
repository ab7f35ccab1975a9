"""The names, and where they differ from the rule the forms, that a family's weights have in PyTorch's checkpoints."""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kresnet.weights.forms import Form
from kresnet.weights.torch_file import Array

HEAD = "predictions"
# The layers of auxiliary classifiers, and all those that end in classes.
AUXILIARY = re.compile(r"auxiliary\d*(_\w+)?")
CLASSIFIERS = re.compile(r"predictions|auxiliary\d*")
# Layers that only a network with its top has.
HEAD_LAYERS = re.compile(r"predictions|head_dense\d+")
# How the names of a block's layers begin.
BLOCK = r"stage(?P<stage>\d+)_block(?P<block>\d+)_"

# Where a pattern cannot say it: from the match of a layer's name, and all layers' names, to the module's name.
Target = str | Callable[[re.Match, Sequence[str]], str]


@dataclasses.dataclass(frozen=True)
class Layout:
    """The names and forms that the layers of a family have in one kind of PyTorch checkpoint.

    Attributes:
        title: what errors call it.
        names: regular expressions, of which a layer's whole name matches one, and the module's name in the checkpoint.
            Where that depends on how many convolutions the layer's block has, the expression says so after a slash:
            "..._norm2/3". In the module's name stand the expression's named groups, and of a group that is a number,
            `{group_1}` is 1 less and `{group_2}` is 2 less; `{nth}`, the block's number, counted through the network
            from 1, `{nth_1}`, 1 less; `{next}`, what the number of one more block would be; and `{stages}`, the number
            of the last stage. Instead of a text, a function of the match and of all layers' names gives the module's
            name, in which these stand, too.
        forms: regular expressions of layers' names, and the form of these layers' kernels where the rule for the
            layer's class (`forms.KERNELS`) does not hold; or a function of all layers' names that gives it, or None.
        head: how the names of the head's entries begin, or several such beginnings. Default: with the module of
            `predictions`.
        left_over: regular expressions of entries that a network may leave, such as auxiliary classifiers'.
        fits: tells whether networks of a spec can have such checkpoints; others with the same names compute otherwise.
        keras: whether it is one of Keras's files, whose arrays have our forms.
        prepare: from a file's arrays to what they are without the difference of the two networks, such as biases that
            norms can have in their means.
    """

    title: str
    names: Mapping[str, Target]
    forms: Mapping[str, Form | Callable[[Sequence[str]], Form | None]] = dataclasses.field(default_factory=dict)
    head: str | tuple[str, ...] | None = None
    left_over: tuple[str, ...] = ()
    fits: Callable[[Any], bool] = lambda spec: True
    keras: bool = False
    prepare: Callable[[Mapping[str, Array]], Mapping[str, Array]] = lambda arrays: arrays

    def but(self, title: str, names: Mapping[str, Target], **fields: Any) -> Layout:
        """Returns this layout with other names for some layers, and other fields."""
        kept = {pattern: module for pattern, module in self.names.items() if pattern not in names}
        return dataclasses.replace(self, title=title, names={**names, **kept}, **fields)

    def modules(self, layers: Sequence[str]) -> dict[str, str | None]:
        """Returns the PyTorch names of a network's layers, None for a layer that this layout does not have."""
        places = {layer: match.group() for layer in layers if (match := re.match(BLOCK, layer))}
        order = list(dict.fromkeys(places.values()))
        convs = collections.Counter(place for layer, place in places.items() if re.search(r"_conv\d$", layer))
        stages = max((int(re.match(BLOCK, place)["stage"]) for place in order), default=1)
        modules: dict[str, str | None] = {}
        for layer in layers:
            place, values = places.get(layer), {"next": len(order) + 1, "stages": stages}
            if place:
                values |= {"nth": order.index(place) + 1, "nth_1": order.index(place)}
            modules[layer] = self._module((layer, f"{layer}/{convs[place]}"), values, layers)
        return modules

    def _module(self, names: Sequence[str], values: dict[str, Any], layers: Sequence[str]) -> str | None:
        for pattern, module in self.names.items():
            if match := re.fullmatch(pattern, names[0]) or re.fullmatch(pattern, names[1]):
                if callable(module):
                    module = module(match, layers)
                for group, text in match.groupdict().items():
                    values[group] = text
                    if text and text.isdecimal():
                        values |= {f"{group}_{less}": int(text) - less for less in (1, 2)}
                return module.format(**values)
        return None

    def form(self, layer: str, layers: Sequence[str]) -> Form | None:
        """Returns the form of a layer's kernel where this layout gives one of its own."""
        form = next((form for pattern, form in self.forms.items() if re.fullmatch(pattern, layer)), None)
        return form(layers) if callable(form) else form

    def may_leave(self, entry: str) -> bool:
        """Tells whether a network may leave an entry of that name."""
        return any(re.fullmatch(pattern, entry) for pattern in self.left_over)
