"""Weights from a file into a network: all of them, or none and an error that names the entries."""

from __future__ import annotations

import functools
import io
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from kresnet.weights.forms import SAME, kernel_form
from kresnet.weights.layout import HEAD, HEAD_LAYERS, Layout

_PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".tar")


class Entry(NamedTuple):
    """A checkpoint's array: its shape, and a function that reads it."""

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


class Slot(NamedTuple):
    """A place for an array: its name in a checkpoint, the shapes that fit, and the conversion into our form."""

    variable: Any
    name: str
    shapes: tuple[tuple[int, ...], ...]
    convert: Callable[[np.ndarray], np.ndarray]


def load(model: keras.Model, path: str | os.PathLike, layouts: Sequence[Layout] = ()) -> None:
    """Sets every weight of a model from a file; on any error the model keeps the weights that it has.

    Args:
        model: one of our networks. If it has no classifier, the file's is left out.
        path: `.safetensors` (in one of `layouts`, told apart by the file's keys), or Keras's `.weights.h5` or `.keras`.
        layouts: those of the model's family.

    Raises:
        ValueError: naming the first entries that are missing, left over, misshapen or not finite; or if the file is
            absent, damaged, a pickle, or of an unknown kind.
    """
    if not isinstance(path, str | os.PathLike):
        raise ValueError(f"`weights` must be None or the path of a file. Received: weights={path!r}")
    file, name = Path(path).expanduser(), Path(path).name.lower()
    if name.endswith(_PICKLES):
        raise ValueError(
            "A pickle can run code when it is read, so kresnet reads none. Convert it in a Python that has PyTorch: "
            "state = torch.load(path, weights_only=True); safetensors.torch.save_file(state, 'model.safetensors'). "
            f"Received: weights={str(path)!r}"
        )
    if not name.endswith((".safetensors", ".weights.h5", ".keras")):
        raise ValueError(
            "`weights` must be None or the path of a .safetensors, .weights.h5 or .keras file; kresnet hosts none. "
            f"Received: weights={str(path)!r}"
        )
    if not file.is_file():
        raise ValueError(f"There is no such weights file. Received: weights={str(path)!r}")
    layers = [layer for layer in model.layers if layer.weights]
    if name.endswith(".safetensors"):
        with _open_safetensors(file) as entries:
            slots, entries, head = _match_torch(layers, entries, layouts)
            _assign(slots, entries, lambda name: name.startswith(head), file)
    else:
        with _open_keras(file) as entries:
            slots = [slot for layer in layers for slot in _keras_slots(layer)]
            _assign(slots, entries, lambda name: HEAD_LAYERS.fullmatch(name.rpartition("/")[0]), file)


def _assign(slots: list[Slot], entries: Mapping[str, Entry], in_head: Callable[[str], Any], file: Path) -> None:
    """Sets the slots' variables, after checking that entries and slots are the same.

    `in_head` tells whether an entry is the head's, which a network without one does without.
    """
    by_name = {slot.name: slot for slot in slots}
    has_head = any(in_head(name) for name in by_name)
    missing = [name for name in by_name if name not in entries]
    left_over = [name for name in entries if name not in by_name and (has_head or not in_head(name))]
    misshapen = [name for name in by_name if name in entries and entries[name].shape not in by_name[name].shapes]
    classifier = {name for name, slot in by_name.items() if HEAD in slot.variable.path.split("/")}
    if not missing and not left_over and misshapen and classifier.issuperset(misshapen):
        raise ValueError(
            f"The weights are of a network with other classes: {_shapes(misshapen, by_name, entries)}. Build with "
            "`include_top=False` to leave the file's classifier out, or with the file's `classes`. "
            f"Received: weights={str(file)!r}"
        )
    problems = [
        f"{title} {_first(names)}" for title, names in (("missing:", missing), ("left over:", left_over)) if names
    ]
    if misshapen:
        problems.append(f"misshapen: {_shapes(misshapen, by_name, entries)}")
    if problems:
        raise ValueError(f"The weights are not this network's; {'; '.join(problems)}. Received: weights={str(file)!r}")
    values = {name: slot.convert(np.asarray(entries[name].read(), "float32")) for name, slot in by_name.items()}
    bad = [name for name, value in values.items() if not np.isfinite(value).all()]
    if bad:
        raise ValueError(f"The weights hold NaN or infinity, in {_first(bad)}. Received: weights={str(file)!r}")
    for name, slot in by_name.items():
        slot.variable.assign(values[name])


def _listed(texts: Sequence[str], most: int = 3) -> str:
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


def _first(names: Sequence[str]) -> str:
    return _listed([repr(name) for name in names])


def _shapes(names: Sequence[str], slots: Mapping[str, Slot], entries: Mapping[str, Entry]) -> str:
    return _listed([f"{name!r} is {entries[name].shape} and not {slots[name].shapes[0]}" for name in names])


def _match_torch(
    layers: Sequence[keras.layers.Layer], entries: Mapping[str, Entry], layouts: Sequence[Layout]
) -> tuple[list[Slot], Mapping[str, Entry], str]:
    """Returns the slots in the layout that agrees best with the entries, those entries, and the prefix of the head."""
    # A counter that PyTorch's batch norms keep and no inference uses.
    entries = {name: entry for name, entry in entries.items() if not name.endswith("num_batches_tracked")}
    candidates = []
    for layout in layouts:
        modules = layout.modules([*(layer.name for layer in layers), HEAD])
        if None not in modules.values():
            slots = [slot for layer in layers for slot in _torch_slots(layer, modules, layout)]
            candidates.append((slots, layout, layout.head or f"{modules[HEAD]}."))
    if not candidates:
        titles = ", ".join(layout.title for layout in layouts)
        raise ValueError(
            "No PyTorch checkpoint can be of this network: it has layers that the known layouts have not. "
            f"Received: layouts={titles!r}"
        )
    slots, layout, head = max(candidates, key=lambda candidate: sum(slot.name in entries for slot in candidate[0]))
    wanted = {slot.name for slot in slots}
    kept = {name: entry for name, entry in entries.items() if name in wanted or not layout.may_leave(name)}
    return slots, kept, head


_TORCH_NAMES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def _torch_slots(layer: keras.layers.Layer, modules: Mapping[str, str], layout: Layout) -> Iterator[Slot]:
    for variable in layer.weights:
        if variable.name not in _TORCH_NAMES:
            raise ValueError(
                "PyTorch's checkpoints have no such weight. "
                f"Received: layer={layer.name!r}, class={type(layer).__name__}, weight={variable.name!r}"
            )
        shape, form = tuple(variable.shape), SAME
        if variable.name == "kernel":
            form = layout.form(layer.name, [*modules]) or kernel_form(layer)
        convert = functools.partial(form.read, shape=shape)
        yield Slot(variable, f"{modules[layer.name]}.{_TORCH_NAMES[variable.name]}", form.shapes(shape), convert)


def _keras_slots(layer: keras.layers.Layer) -> Iterator[Slot]:
    for i, variable in enumerate(layer.weights):
        yield Slot(variable, f"{layer.name}/{i}", (tuple(variable.shape),), np.asarray)


@contextmanager
def _open_safetensors(file: Path) -> Iterator[dict[str, Entry]]:
    import safetensors

    try:
        with safetensors.safe_open(file, framework="numpy") as tensors:
            yield {
                name: Entry(tuple(tensors.get_slice(name).get_shape()), lambda name=name: tensors.get_tensor(name))
                for name in tensors.keys()  # noqa: SIM118 (not a mapping)
            }
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"The weights file is damaged ({error}). Received: weights={str(file)!r}") from error


@contextmanager
def _open_keras(file: Path) -> Iterator[dict[str, Entry]]:
    """Opens Keras's weights by the names of the layers, which a file holds besides Keras's own numbering."""
    import h5py

    try:
        source: Any = file
        if file.suffix == ".keras":
            with zipfile.ZipFile(file) as archive:
                source = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(source, "r") as weights:
            entries: dict[str, Entry] = {}

            def collect(path: str, item: Any) -> None:  # visits neither soft nor external links
                match = re.fullmatch(r"(?:_layer_checkpoint_dependencies|layers)/[^/]+/vars/(\d+)", path)
                if match and isinstance(item, h5py.Dataset) and not item.is_virtual and not item.external:
                    layer = item.parent.attrs.get("name", item.parent.parent.name)
                    entries[f"{layer}/{match[1]}"] = Entry(tuple(item.shape), lambda: item[()])

            weights.visititems(collect)
            yield entries
    except (OSError, KeyError, RuntimeError, zipfile.BadZipFile) as error:
        raise ValueError(f"The weights file is damaged ({error}). Received: weights={str(file)!r}") from error
