"""Weights from a file into a network: all of them, or none and an error that names the entries."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from kresnet import checks
from kresnet.weights import entries
from kresnet.weights.entries import listed
from kresnet.weights.forms import SAME, Form, kernel_form
from kresnet.weights.layout import AUXILIARY, CLASSIFIERS, HEAD, HEAD_LAYERS, Layout
from kresnet.weights.torch_file import Array

Shape = tuple[int, ...]


# What may become of a file's classifier; see `load`.
HEADS = ("kept", "new", "fitting")


class Slot(NamedTuple):
    """A place for an array: its variable, its name in a checkpoint, and the form that it has there."""

    variable: Any
    name: str
    form: Form
    first: bool  # whether it is the kernel that takes the image

    @property
    def shape(self) -> Shape:
        return tuple(self.variable.shape)

    @property
    def is_classifier(self) -> bool:
        return self._is_of(CLASSIFIERS)

    @property
    def is_auxiliary(self) -> bool:
        return self._is_of(AUXILIARY)

    def _is_of(self, layers: re.Pattern) -> bool:
        return any(layers.fullmatch(part) for part in self.variable.path.split("/"))

    def fitting(self, found: Shape) -> Shape | None:
        """Returns the shape of ours that an array of that shape has; None if it has none.

        It is the slot's own, but for the channels of the kernel that takes the image.
        """
        for channels in (self.shape[-2], 3, 1) if self.first else (None,):
            shape = self.shape if channels is None else (*self.shape[:-2], channels, self.shape[-1])
            if found in self.form.shapes(shape):
                return shape
        return None


def load(
    model: keras.Model,
    path: str | os.PathLike,
    layouts: Sequence[Layout] = (),
    *,
    layers: Sequence[keras.layers.Layer] | None = None,
    head: str = "kept",
) -> list[str]:
    """Sets every weight of a network from a file; on any error the model keeps the weights that it has.

    A first kernel of another number of channels is made from the file's as timm does: for grey images its sum over the
    channels, for more than three channels its repetition, scaled by the share of the channels.

    Args:
        model: a model that holds one of our networks. If that has no classifier, the file's is left out.
        path: `.safetensors`, `.pth` or the like (in one of `layouts`, told apart by the file's names), or Keras's
            `.weights.h5` or `.keras`.
        layouts: those of the network's family.
        layers: those of the model that are the network's own. Default: all. Others are set where a file of Keras's
            holds them.
        head: "kept", "new", to leave the file's classifier out, or "fitting", to do so only where the file has none, or
            one of another number of classes, which is an error with "kept".

    Returns:
        Lines that say what was done besides, such as a new classifier.

    Raises:
        ValueError: naming the first entries that are missing, left over, misshapen or not finite; or if the file is
            absent, damaged, or of an unknown kind.
    """
    checks.choice("head", head, HEADS)
    file = entries.checked(path)
    own = [layer for layer in (model.layers if layers is None else layers) if layer.weights]
    kernels = [variable for layer in own for variable in layer.weights if variable.name.endswith("kernel")]
    first = id(kernels[0]) if kernels else None
    with entries.opened(file) as (arrays, said):
        if entries.of_pytorch(file):
            slots, arrays, in_head = _match_torch(own, arrays, layouts, first)
            said += _assign(slots, arrays, lambda name: name.startswith(in_head), file, head)
        else:
            arrays, modules = _match_keras(own, arrays, layouts)
            slots = [slot for layer in own for slot in _keras_slots(layer, first, modules[layer.name])]
            known = {*own}
            for layer in [layer for layer in model.layers if layer not in known]:
                more = [*_keras_slots(layer, None, layer.name)]
                slots += more if all(slot.name in arrays for slot in more) else []
            names = {slot.name for slot in slots}
            arrays = {k: v for k, v in arrays.items() if k in names or not AUXILIARY.fullmatch(k.rpartition("/")[0])}
            heads = {modules[name] for name in modules if HEAD_LAYERS.fullmatch(name)}
            said += _assign(slots, arrays, lambda name: _in_head(name, heads), file, head)
    return said


def _in_head(name: str, heads: Collection[str]) -> bool:
    layer = name.rpartition("/")[0]
    return layer in heads or bool(HEAD_LAYERS.fullmatch(layer))


def _assign(
    slots: list[Slot], arrays: Mapping[str, Array], in_head: Callable[[str], Any], file: Path, head: str
) -> list[str]:
    """Sets the slots' variables, after checking that arrays and slots are the same.

    `in_head` tells whether an entry is the head's, which a network without one does without.
    """
    by_name, said = {slot.name: slot for slot in slots}, []
    auxiliary = {name for name, slot in by_name.items() if slot.is_auxiliary}
    if auxiliary and auxiliary.isdisjoint(arrays):
        by_name = {name: slot for name, slot in by_name.items() if name not in auxiliary}
        said.append("The auxiliary classifiers are new: the weights have none.")
    has_head = any(in_head(name) for name in by_name)
    shapes = {name: slot.fitting(arrays[name].shape) for name, slot in by_name.items() if name in arrays}
    missing = [name for name in by_name if name not in arrays]
    left_over = [name for name in arrays if name not in by_name and (has_head or not in_head(name))]
    misshapen = [name for name, shape in shapes.items() if shape is None]
    classifier = {name for name, slot in by_name.items() if slot.is_classifier}
    unfit = bool(missing or misshapen) and classifier.issuperset([*missing, *misshapen])
    if not left_over and classifier and (unfit or head == "new"):
        what = (
            f"of other classes ({_shapes(misshapen[:1], by_name, arrays)})" if misshapen else "of a network without one"
        )
        what = what if unfit else "of other classes"
        if head == "kept":
            cure = "with the file's `classes`" if misshapen else "load into that and add a classifier of one's own"
            raise ValueError(
                f"The network has a classifier, and the weights are {what}. Build with `include_top=False` to leave "
                f"the classifier out, or {cure}. Received: weights={str(file)!r}"
            )
        by_name = {name: slot for name, slot in by_name.items() if name not in classifier}
        said.append(f"The classifier is new: the weights are {what}.")
    else:
        _refuse(missing, left_over, misshapen, by_name, arrays, file)
    values = {name: _value(slot, arrays[name], shapes[name], said) for name, slot in by_name.items()}
    bad = [repr(name) for name, value in values.items() if not np.isfinite(value).all()]
    checks.require(not bad, f"The weights hold NaN or infinity, in {listed(bad)}", weights=str(file))
    variances = [name for name, slot in by_name.items() if slot.variable.name == "moving_variance"]
    bad = [repr(name) for name in variances if (values[name] < 0).any()]
    checks.require(not bad, f"The weights hold negative variances, in {listed(bad)}", weights=str(file))
    for name, slot in by_name.items():
        slot.variable.assign(values[name])
    return said


def _refuse(
    missing: list[str],
    left_over: list[str],
    misshapen: list[str],
    slots: Mapping[str, Slot],
    arrays: Mapping[str, Array],
    file: Path,
) -> None:
    """Raises an error that names the first entries of each list, if there are any."""
    lists = (("missing:", missing), ("left over:", left_over))
    problems = [f"{title} {listed([repr(name) for name in names])}" for title, names in lists if names]
    if misshapen:
        problems.append(f"misshapen: {_shapes(misshapen, slots, arrays)}")
    image = " The first kernel takes images of other channels: see `input_shape`." * any(
        slots[name].first for name in misshapen
    )
    if problems:
        raise ValueError(
            f"The weights are not this network's; {'; '.join(problems)}.{image} Received: weights={str(file)!r}"
        )


def _shapes(names: Sequence[str], slots: Mapping[str, Slot], arrays: Mapping[str, Array]) -> str:
    return listed(
        [f"{name!r} is {arrays[name].shape} and not {slots[name].form.shapes(slots[name].shape)[0]}" for name in names]
    )


def _value(slot: Slot, array: Array, shape: Shape, said: list[str]) -> np.ndarray:
    """Reads an array into our form, and into our number of channels."""
    value = slot.form.read(np.asarray(array.read(), "float32"), shape)
    if shape == slot.shape:
        return value
    here, there = slot.shape[-2], shape[-2]
    if here == 1:
        value = value.sum(-2, keepdims=True)
    else:
        value = np.concatenate([value] * -(-here // there), -2)[..., :here, :] * (there / here)
    said.append(f"The first kernel takes {here} channels: it is made from the file's {there}.")
    return value


def _match_torch(
    layers: Sequence[keras.layers.Layer], arrays: Mapping[str, Array], layouts: Sequence[Layout], first: int | None
) -> tuple[list[Slot], Mapping[str, Array], str | tuple[str, ...]]:
    """Returns the slots in the layout that agrees best with the arrays, those arrays, and the prefixes of the head."""
    layouts = [layout for layout in layouts if not layout.keras]
    candidates = [(candidate, layout) for layout in layouts if (candidate := torch_slots(layers, layout, first))]
    if not candidates:
        titles = ", ".join(layout.title for layout in layouts)
        raise ValueError(
            "No PyTorch checkpoint can be of this network: it has layers that the known layouts have not. "
            f"Received: layouts={titles!r}"
        )

    def agreement(found: tuple[tuple[list[Slot], Any], Layout]) -> tuple[int, int]:
        (slots, head), _ = found
        # Without the top, layouts may differ in the head's names alone.
        return sum(slot.name in arrays for slot in slots), sum(name.startswith(head) for name in arrays)

    (slots, head), layout = max(candidates, key=agreement)
    wanted = {slot.name for slot in slots}
    kept = {name: array for name, array in arrays.items() if name in wanted or not layout.may_leave(name)}
    return slots, kept, head


_TORCH_NAMES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def torch_slots(
    layers: Sequence[keras.layers.Layer], layout: Layout, first: int | None = None
) -> tuple[list[Slot], str | tuple[str, ...]] | None:
    """Returns the slots of layers that have weights, and how the names of the head's entries begin.

    None if the layout does not have one of the layers. `first` is the `id` of the kernel that takes the image.

    Raises:
        ValueError: if PyTorch has no such weight.
    """
    modules = layout.modules([*(layer.name for layer in layers), HEAD])
    if None in modules.values():
        return None
    slots = [slot for layer in layers for slot in _torch_slots(layer, modules, layout, first)]
    return slots, layout.head or f"{modules[HEAD]}."


def _torch_slots(
    layer: keras.layers.Layer, modules: Mapping[str, str], layout: Layout, first: int | None
) -> Iterator[Slot]:
    for variable in layer.weights:
        if variable.name not in _TORCH_NAMES:
            raise ValueError(
                "PyTorch's checkpoints have no such weight. "
                f"Received: layer={layer.name!r}, class={type(layer).__name__}, weight={variable.name!r}"
            )
        form = SAME
        if variable.name == "kernel":
            form = layout.form(layer.name, [*modules]) or kernel_form(layer)
        yield Slot(variable, f"{modules[layer.name]}.{_TORCH_NAMES[variable.name]}", form, id(variable) == first)


def _match_keras(
    layers: Sequence[keras.layers.Layer], arrays: Mapping[str, Array], layouts: Sequence[Layout]
) -> tuple[Mapping[str, Array], dict[str, str]]:
    """Returns the arrays without what a layout passes over, and the layers' names in the file: their own, or others."""
    names = [layer.name for layer in layers]
    found, best = (dict(arrays), {name: name for name in [*names, HEAD]}), sum(f"{name}/0" in arrays for name in names)
    for layout in layouts:
        modules = layout.modules([*names, HEAD])
        if not layout.keras or None in modules.values():
            continue
        count = sum(f"{modules[name]}/0" in arrays for name in names)
        if count > best:
            kept = {name: array for name, array in arrays.items() if not layout.may_leave(name)}
            found, best = (layout.prepare(kept), modules), count
    return found


def _keras_slots(layer: keras.layers.Layer, first: int | None, module: str) -> Iterator[Slot]:
    for i, variable in enumerate(layer.weights):
        yield Slot(variable, f"{module}/{i}", SAME, id(variable) == first)
