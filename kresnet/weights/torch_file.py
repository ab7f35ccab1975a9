"""PyTorch's own files (.pth, .pt, .bin) read without PyTorch, and without running what their pickles say.

A pickle is a small program. The standard library takes it apart (`pickletools.genops`), and of its instructions only
those are followed that make numbers, text, lists, dicts and descriptions of arrays; no class is ever looked up, so that
nothing a file names can be reached. Both of `torch.save`'s formats are known: the zip archive (PyTorch 1.6 and later)
and the stream before it.

Source: torch/serialization.py and torch/_utils.py of PyTorch 2.13, for the two formats.
"""

from __future__ import annotations

import functools
import io
import math
import pickletools
import reprlib
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

_CURE = (
    "Convert it in a Python that has PyTorch: state = torch.load(path, weights_only=True), with False only if you "
    "trust the file; of a whole model take its `.state_dict()`; safetensors.torch.save_file(state, 'model.safetensors')"
)
# A state dict takes about 250 bytes an array in it, and what is made of these bytes at most about 100 times as much.
_PICKLE_BYTES = 8 << 20
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
# Storage class: the array's type in PyTorch, and how its bytes are read.
_STORAGES = {
    "torch.DoubleStorage": ("float64", "<f8"),
    "torch.FloatStorage": ("float32", "<f4"),
    "torch.HalfStorage": ("float16", "<f2"),
    "torch.BFloat16Storage": ("bfloat16", "<u2"),
    "torch.LongStorage": ("int64", "<i8"),
    "torch.IntStorage": ("int32", "<i4"),
    "torch.ShortStorage": ("int16", "<i2"),
    "torch.CharStorage": ("int8", "i1"),
    "torch.ByteStorage": ("uint8", "u1"),
    "torch.BoolStorage": ("bool", "u1"),
}
# Where a training script keeps its state dict; a moving average is taken only where nothing else is there.
_WRAPPERS = ("state_dict", "model", "model_state_dict", "net", "weights", "module", "state_dict_ema", "model_ema")
_PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "encoder.")
_OTHER_KINDS = {
    b"<": "an HTML or XML page: its download failed",
    b"version https://git-lfs": "a Git LFS pointer: fetch the file itself with `git lfs pull`",
    b"\x89HDF": "an HDF5 file",
    b"\x1f\x8b": "a gzip archive: unpack it",
}
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


class _Refused(Exception):
    """What is wrong with a file, as a sentence without its stop."""


@dataclass(frozen=True, slots=True)
class _Global:
    name: str


@dataclass(frozen=True, slots=True)
class _Storage:
    """Numbers in a row: `count` from `start` on, of the `numel` that the record of that key has."""

    key: str
    kind: str
    numel: int
    start: int
    count: int

    @property
    def item(self) -> int:
        """Bytes a number."""
        return np.dtype(_STORAGES[self.kind][1]).itemsize


@dataclass(frozen=True, slots=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


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
            start, size = stream.read(512), stream.seek(0, io.SEEK_END)
            stream.seek(0)
            top, fetch = _zip(stream, size) if start.startswith(b"PK\3\4") else _legacy(stream, start, size)
            states = _states(top)
            if not states:
                keys = (
                    f"a dict with the keys {[*top][:8]}"
                    if isinstance(top, dict)
                    else f"a value of type {type(top).__name__.removeprefix('_')}"
                )
                raise _Refused(f"The file holds no state dict (names and their arrays) but {keys}")
            state = State(
                (name, _array(value, fetch, size, path))
                for name, value in states[0][1].items()
                if isinstance(name, str) and isinstance(value, _Tensor)
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
    except _Refused as error:
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
    if found or not any(isinstance(item, _Tensor) for item in value.values()):
        return found
    return [((), value)]


def _said(places: list[tuple[str, ...]]) -> str | None:
    taken, *others = [".".join(keys) for keys in places]
    also = f"; the file also holds {', '.join(map(repr, others))}" if others else ""
    return f"read from the file's {taken!r}{also}" if taken else None


def _array(tensor: _Tensor, fetch: Callable[[_Storage], Callable[[], bytes]], size: int, path: Path) -> Array:
    storage, shape = tensor.storage, tensor.shape
    load = fetch(storage)
    # Strides of 0 repeat a number without end.
    if math.prod(max(n, 1) for n in shape) * storage.item > size:
        raise _Refused(f"The file is damaged: an array of {shape} is larger than the file of {size} bytes")
    dtype, stored = _STORAGES[storage.kind]
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


def _zip(stream: BinaryIO, size: int) -> tuple[Any, Callable[[_Storage], Callable[[], bytes]]]:
    """Reads a zip archive's pickle; returns its object and what returns a storage's reader."""
    archive = zipfile.ZipFile(stream)
    tops = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(tops) != 1:
        names = f"its entries are {archive.namelist()[:4]}"[:200]
        raise _Refused(f"The file is a zip archive, but none of torch.save's, which has one data.pkl: {names}")
    folder = tops[0].removesuffix("data.pkl")
    if any(name.startswith((f"{folder}constants.pkl", f"{folder}code/")) for name in archive.namelist()):
        raise _Refused("The file is a TorchScript archive, which is a program. Save the model's `state_dict()`")
    record = functools.lru_cache(maxsize=1)(archive.read)  # several arrays may share a storage

    def length(name: str) -> int:
        info = archive.getinfo(name)
        if info.compress_type != zipfile.ZIP_STORED:
            raise _Refused(f"The file's {name[:200]!r} is compressed, as PyTorch leaves none. {_CURE}")
        if info.compress_size != info.file_size or info.header_offset + info.file_size > size:
            raise _Refused(f"The file is damaged: its {name!r} is said to have more bytes than there are")
        return info.file_size

    def small(name: str) -> bytes:
        if length(name) > _PICKLE_BYTES:
            raise _Refused(f"The file's {name[:200]!r} is larger than a state dict's, {_PICKLE_BYTES} bytes. {_CURE}")
        return archive.read(name)

    def fetch(storage: _Storage) -> Callable[[], bytes]:
        name = f"{folder}data/{storage.key}"
        found, said = length(name), storage.numel * storage.item
        if found != said:
            raise _Refused(f"The file is damaged: its {name!r} has {found} bytes and is said to have {said}")
        return lambda: record(name)

    if f"{folder}byteorder" in archive.namelist() and (order := small(f"{folder}byteorder")) != b"little":
        raise _Refused(f"The file's numbers are {order[:20].decode('latin-1')}-endian, and not little-endian. {_CURE}")
    return _unpickle(io.BytesIO(small(tops[0])), {}), fetch


def _legacy(stream: BinaryIO, start: bytes, size: int) -> tuple[Any, Callable[[_Storage], Callable[[], bytes]]]:
    """Reads an older file: pickles of a magic number, a version, the system, the object and the storages' keys;
    then each storage, a count in 8 bytes and its numbers."""
    kind = next((kind for begin, kind in _OTHER_KINDS.items() if start.lstrip().startswith(begin)), None)
    if start[257:262] == b"ustar":
        kind = "a tar archive, PyTorch's format before 0.1.10. Convert it in a Python that has PyTorch"
    elif start[8:10] == b'{"':
        kind = "a safetensors file: give it the suffix .safetensors"
    elif start[:1] not in b"\x80c":
        kind = kind or f"none of torch.save's: it begins with {start[:24]!r}"
    if kind or not start:
        raise _Refused(f"The file is {kind or 'empty'}")
    head, storages = io.BytesIO(stream.read(_PICKLE_BYTES)), {}
    if _unpickle(head, {}) != _MAGIC:
        raise _Refused("The file is a pickle, but none of torch.save's")
    protocol, system = _unpickle(head, {}), _unpickle(head, {})
    if protocol != _PROTOCOL or not isinstance(system, dict):
        raise _Refused(f"The file is damaged: its version should be {_PROTOCOL} and is {reprlib.repr(protocol)}")
    if system.get("little_endian") is not True:
        raise _Refused(f"The file's numbers are big-endian, and not little-endian. {_CURE}")
    top, keys = _unpickle(head, storages), _unpickle(head, {})
    if not isinstance(keys, list) or not all(isinstance(key, str) and key in storages for key in keys):
        raise _Refused("The file is damaged: its list of storages is not that of its arrays")
    places, position = {}, head.tell()
    for key in keys:
        storage = storages[key]
        stream.seek(position)
        begin, position = position + 8, position + 8 + storage.numel * storage.item
        if stream.read(8) != struct.pack("<q", storage.numel) or position > size:
            raise _Refused(f"The file is damaged or cut off: at byte {begin} should be {storage.numel} numbers")
        places[key] = begin, position - begin

    @functools.lru_cache(maxsize=1)
    def record(begin: int, length: int) -> bytes:
        stream.seek(begin)
        return stream.read(length)

    def fetch(storage: _Storage) -> Callable[[], bytes]:
        begin, length = places[storage.key]
        if length != storage.numel * storage.item:
            raise _Refused(f"The file is damaged: it has the storage {storage.key!r} in two sizes")
        return lambda: record(begin, length)

    return top, fetch


def _storage(kind: str, cls: _Global, key: str, _location: Any, numel: int, view: Any = None) -> _Storage:
    """A persistent id; in PyTorch's first files a storage may be a part of another: (the part's key, start, count)."""
    _, start, count = view or (None, 0, numel)
    known = kind == "storage" and isinstance(cls, _Global) and cls.name in _STORAGES and isinstance(key, str)
    if not known or not _counts((numel, start, count)) or start + count > numel:
        raise ValueError(f"no storage: {reprlib.repr((kind, cls, key, numel, view))}")
    return _Storage(key, cls.name, numel, start, count)


def _tensor(storage: _Storage, offset: int, shape: tuple, strides: tuple, *more: Any) -> _Tensor:
    """`more` is whether it is trained, its hooks and, where there are any, marks such as that it is a conjugate."""
    told = f"offset, shape, strides: {reprlib.repr((offset, shape, strides))}"  # cut short: tuples may nest endlessly
    fits = isinstance(storage, _Storage) and isinstance(shape, tuple) and isinstance(strides, tuple)
    if not fits or not len(shape) == len(strides) <= 32 or not _counts((offset, *shape, *strides)) or any(more[2:]):
        raise ValueError(f"no plain array; {told}")
    extent = 0 if 0 in shape else 1 + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if offset + extent > storage.count:
        raise ValueError(f"an array reaches beyond its storage of {storage.count} numbers; {told}")
    return _Tensor(storage, offset, shape, strides)


def _counts(values: Iterable[Any]) -> bool:
    return all(type(value) is int and 0 <= value < 1 << 63 for value in values)


def _ordered(pairs: list | None = None) -> dict:
    made: dict = {}
    if pairs:  # so Python 2 wrote them
        _update(made, [item for key, value in pairs for item in (key, value)])
        pairs.clear()  # or a small file could copy a long list time and again
    return made


def _update(target: dict, items: list) -> None:
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not isinstance(key, str | int | float | bytes | None):  # hashing a tuple may take forever
            raise TypeError(f"a dict's key is a {type(key).__name__}")
        target[key] = value


def _first(value: Any, *_: Any) -> Any:
    return value


def _aside(*values: Any) -> Any:
    return values  # nothing of ours looks into it


_CALLS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch.nn.parameter.Parameter": _first,
    "torch.Size": _first,
    "torch.device": _aside,
    "collections.OrderedDict": _ordered,
    "collections.Counter": _aside,
    **{f"{module}.{name}": _aside for module in ("builtins", "__builtin__") for name in ("set", "frozenset", "bytes")},
    "_codecs.encode": _aside,  # bytes, where the pickle's protocol has none
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple, "EMPTY_SET": list}  # sets would hash
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_LITERALS = frozenset(
    "BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT BINSTRING SHORT_BINSTRING BINUNICODE SHORT_BINUNICODE BINUNICODE8 "
    "BINBYTES SHORT_BINBYTES BINBYTES8".split()
)


def _unpickle(stream: BinaryIO, storages: dict[str, _Storage]) -> Any:
    """Follows one pickle up to its end, and adds the storages that it names to `storages`.

    Python's own Unpickler is not used: besides looking up classes, it takes memory for whatever index a file names
    (LONG_BINPUT), and hangs or crashes where nested tuples are a dict's keys.
    """
    position = 0
    try:
        stack: list = []
        marks: list[int] = []
        memo: dict[int, Any] = {}

        def popped(start: int) -> list:
            items = stack[start:]
            del stack[start:]
            return items

        for opcode, argument, position in pickletools.genops(stream):  # noqa: B007 (the error tells it)
            name = opcode.name
            if name in _LITERALS:
                stack.append(argument)
            elif name in _CONSTANTS:
                stack.append(_CONSTANTS[name])
            elif name in _EMPTY:
                stack.append(_EMPTY[name]())
            elif name in _TUPLES:
                stack.append(tuple(popped(len(stack) - _TUPLES[name])))
            elif name == "MARK":
                marks.append(len(stack))
            elif name == "TUPLE":
                stack.append(tuple(popped(marks.pop())))
            elif name in ("BINPUT", "LONG_BINPUT"):
                memo[argument] = stack[-1]
            elif name == "MEMOIZE":
                memo[len(memo)] = stack[-1]
            elif name in ("BINGET", "LONG_BINGET"):
                stack.append(memo[argument])
            elif name in ("APPEND", "APPENDS", "ADDITEMS"):
                items = popped(len(stack) - 1 if name == "APPEND" else marks.pop())
                _typed(stack[-1], list).extend(items)
            elif name in ("SETITEM", "SETITEMS"):
                items = popped(len(stack) - 2 if name == "SETITEM" else marks.pop())
                _update(_typed(stack[-1], dict), items)
            elif name in ("GLOBAL", "STACK_GLOBAL"):
                path = argument.split(" ", 1) if argument else [_typed(part, str) for part in popped(len(stack) - 2)]
                stack.append(_global(".".join(path)))
            elif name == "BINPERSID":
                storage = _storage(*_typed(stack.pop(), tuple))
                storages.setdefault(storage.key, storage)
                stack.append(storage)
            elif name == "REDUCE":
                function, arguments = popped(len(stack) - 2)
                stack.append(_CALLS[_typed(function, _Global).name](*_typed(arguments, tuple)))
            elif name == "BUILD":  # attributes of a dict (`_metadata`) or an old parameter, which no array needs
                stack.pop()
                _typed(stack[-1], dict | _Tensor)
            elif name == "STOP":
                return stack.pop()
            elif name not in ("PROTO", "FRAME"):
                raise ValueError(f"{name} is no instruction of a state dict's")
        raise ValueError("it has no end")
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"[:300]
        raise _Refused(f"The file's pickle is damaged at its byte {position} ({reason})") from error


def _typed(value: Any, kind: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"a {type(value).__name__.removeprefix('_')} is out of place")
    return value


def _global(name: str) -> _Global:
    if name not in _CALLS and name not in _STORAGES:
        raise _Refused(
            f"The file asks for `{name[:200]}`, and reading that could run any code: kresnet takes arrays, numbers, "
            f"text, lists and dicts only. {_CURE}"
        )
    return _Global(name)
