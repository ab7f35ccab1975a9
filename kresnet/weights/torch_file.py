"""PyTorch's own files (.pth, .pt, .bin) read without PyTorch, and without running what they say.

Beneath are the two formats (`torch_formats`) and the pickle in each (`torch_pickle`); here is where in a file the state
dict is, and how its arrays come out of their storages.
"""

from __future__ import annotations

import math
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kresnet.weights import torch_formats
from kresnet.weights.torch_pickle import STORAGES, Refused, Tensor

# Where a training script keeps its state dict; a moving average is taken only where nothing else is there.
_WRAPPERS = ("state_dict", "model", "model_state_dict", "net", "weights", "module", "state_dict_ema", "model_ema")
_PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "encoder.")
# What reading raises then: zipfile checks a header's bytes only in part.
_DAMAGE = (zipfile.BadZipFile, RuntimeError, EOFError, OSError, KeyError, ValueError, OverflowError, struct.error)


class Array(NamedTuple):
    """A file's array: its shape, its type in PyTorch ("float32", "bfloat16", ...), and a function that reads it.

    What is read is a new array of that type, C-contiguous; float32 where the file has bfloat16, which NumPy lacks.
    """

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray]


class State(dict[str, Array]):
    """A state dict's arrays by name; `said` tells where in the file it was, or is None if it is the file's all."""

    said: str | None = None


@contextmanager
def open_torch(path: Path) -> Iterator[State]:
    """Opens a file of `torch.save` for reading, and finds the state dict in it.

    That is the file's dict of arrays itself, or the one under 'state_dict', 'model', 'model_state_dict', 'net',
    'weights' or 'module' (also one in another), and only then a moving average's. What in it is no array is left out.

    Args:
        path: of a zip archive or an older stream, whatever its suffix.

    Yields:
        The arrays, each read when its `read` is called, as long as the context is open.

    Raises:
        ValueError: if the file is damaged, of another kind (a whole model, TorchScript, big-endian, tar, a failed
            download), asks for any class besides those of plain arrays, holds no state dict, or describes arrays that
            its bytes do not hold; `read` raises it for what only reading shows (a wrong checksum).
    """
    with ExitStack() as opened:
        with _errors(path):
            stream = opened.enter_context(open(path, "rb"))
            top, fetch = torch_formats.read(stream)
            states = _states(top)
            if not states:
                keys = (
                    f"a dict with the keys {[*top][:8]}"
                    if isinstance(top, dict)
                    else f"a value of type {type(top).__name__}"
                )
                raise Refused(f"The file holds no state dict (names and their arrays) but {keys}")
            state = State(
                (name, _array(value, fetch, path))
                for name, value in states[0][1].items()
                if isinstance(name, str) and isinstance(value, Tensor)
            )
            state.said = _said([keys for keys, _ in states])
        yield state


def strip_prefixes(names: Iterable[str]) -> tuple[str, list[str]]:
    """Takes off what wrappers put before all of a state dict's names: `module.`, `_orig_mod.`, `model.`, ...

    Args:
        names: of a state dict, in any format.

    Returns:
        The prefix that all names share ("" or, for instance, "module._orig_mod."), and the names without it, in order.
    """
    taken, names = "", [*names]
    while prefix := next((p for p in _PREFIXES if names and all(name.startswith(p) for name in names)), ""):
        taken, names = taken + prefix, [name.removeprefix(prefix) for name in names]
    return taken, names


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """Makes one ValueError, which names the file, of all that a damaged one can raise."""
    try:
        yield
    except Refused as error:
        raise ValueError(f"{str(error)[:800]}. Received: weights={str(path)!r}") from error.__cause__
    except _DAMAGE as error:
        reason = f"{type(error).__name__}: {error}"[:200]
        raise ValueError(
            f"The weights file is damaged or cut off ({reason}). Received: weights={str(path)!r}"
        ) from error


def _states(value: Any, depth: int = 4) -> list[tuple[tuple[str, ...], dict]]:
    """Returns a checkpoint's state dicts, best first, each after the keys that lead to it."""
    if not isinstance(value, dict) or not depth:  # a dict may hold itself
        return []
    found = [((key, *keys), state) for key in _WRAPPERS for keys, state in _states(value.get(key), depth - 1)]
    if found or not any(isinstance(item, Tensor) for item in value.values()):
        return found
    return [((), value)]


def _said(places: list[tuple[str, ...]]) -> str | None:
    taken, *others = [".".join(keys) for keys in places]
    also = f"; the file also holds {', '.join(map(repr, others))}" if others else ""
    return f"read from the file's {taken!r}{also}" if taken else None


def _array(tensor: Tensor, fetch: torch_formats.Fetch, path: Path) -> Array:
    storage, shape = tensor.storage, tensor.shape
    load = fetch(storage)
    size = path.stat().st_size
    # Strides of 0 repeat a number without end.
    if math.prod(max(n, 1) for n in shape) * storage.item > size:
        raise Refused(f"The file is damaged: an array of {shape} is larger than the file of {size} bytes")
    dtype, stored = STORAGES[storage.kind]
    # PyTorch leaves the stride of an axis of one number open.
    strides = tuple(step * storage.item if n > 1 else 0 for n, step in zip(shape, tensor.strides, strict=True))

    def read() -> np.ndarray:
        with _errors(path):
            data = load()
            if 0 in shape:
                values = np.empty(shape, stored)
            else:
                values = np.ndarray(shape, stored, data, (storage.start + tensor.offset) * storage.item, strides)
            if dtype == "bfloat16":
                return (values.astype(np.uint32, order="C") << 16).view(np.float32)
            return values.astype(dtype, order="C")

    return Array(shape, dtype, read)
