"""A pickle of a state dict read without PyTorch, and without running what it says.

A pickle is a small program. The standard library takes it apart (`pickletools.genops`), and of its instructions only
those are followed that make numbers, text, lists, dicts and descriptions of arrays; no class is ever looked up, so that
nothing a file names can be reached.

Source: torch/_utils.py of PyTorch 2.13, for what its pickles call; Lib/pickletools.py of Python, for the instructions.
"""

from __future__ import annotations

import pickletools
import reprlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

CURE = (
    "Convert it in a Python that has PyTorch: state = torch.load(path, weights_only=True), with False only if you "
    "trust the file; of a whole model take its `.state_dict()`; safetensors.torch.save_file(state, 'model.safetensors')"
)
# Storage class: the array's type in PyTorch, and how its bytes are read.
STORAGES = {
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


class Refused(Exception):
    """What is wrong with a file, as a sentence without its stop."""


@dataclass(frozen=True, slots=True)
class Global:
    """A name that a pickle asks for: a function of `_CALLS` or one of `STORAGES`."""

    name: str


@dataclass(frozen=True, slots=True)
class Storage:
    """Numbers in a row: `count` from `start` on, of the `numel` that the record of that key has."""

    key: str
    kind: str
    numel: int
    start: int
    count: int

    @property
    def item(self) -> int:
        """Bytes a number."""
        return np.dtype(STORAGES[self.kind][1]).itemsize


@dataclass(frozen=True, slots=True)
class Tensor:
    """An array in a storage: `offset` and `strides` are counted in numbers."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def unpickle(stream: BinaryIO, storages: dict[str, Storage]) -> Any:
    """Follows one pickle up to its end, and adds the storages that it names to `storages`.

    Python's own Unpickler is not used: besides looking up classes, it takes memory for whatever index a file names
    (LONG_BINPUT), and hangs or crashes where nested tuples are a dict's keys.

    Args:
        stream: open at the pickle's beginning; afterwards at its end.
        storages: those that are known, by their keys.

    Returns:
        The pickled object: lists, dicts, tuples, text, numbers and `Tensor`s.

    Raises:
        Refused: if the pickle is damaged, or asks for anything else.
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
                stack.append(_CALLS[_typed(function, Global).name](*_typed(arguments, tuple)))
            elif name == "BUILD":  # attributes of a dict (`_metadata`) or an old parameter, which no array needs
                stack.pop()
                _typed(stack[-1], dict | Tensor)
            elif name == "STOP":
                return stack.pop()
            elif name not in ("PROTO", "FRAME"):
                raise ValueError(f"{name} is no instruction of a state dict's")
        raise ValueError("it has no end")
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"[:300]
        raise Refused(f"The file's pickle is damaged at its byte {position} ({reason})") from error


def _typed(value: Any, kind: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"a {type(value).__name__} is out of place")
    return value


def _global(name: str) -> Global:
    if name not in _CALLS and name not in STORAGES:
        raise Refused(
            f"The file asks for `{name[:200]}`, and reading that could run any code: kresnet takes arrays, numbers, "
            f"text, lists and dicts only. {CURE}"
        )
    return Global(name)


def _storage(kind: str, cls: Global, key: str, _location: Any, numel: int, view: Any = None) -> Storage:
    """A persistent id; in PyTorch's first files a storage may be a part of another: (the part's key, start, count)."""
    _, start, count = view or (None, 0, numel)
    known = kind == "storage" and isinstance(cls, Global) and cls.name in STORAGES and isinstance(key, str)
    if not known or not _counts((numel, start, count)) or start + count > numel:
        raise ValueError(f"no storage: {reprlib.repr((kind, cls, key, numel, view))}")
    return Storage(key, cls.name, numel, start, count)


def _tensor(storage: Storage, offset: int, shape: tuple, strides: tuple, *more: Any) -> Tensor:
    """`more` is whether it is trained, its hooks and, where there are any, marks such as that it is a conjugate."""
    told = f"offset, shape, strides: {reprlib.repr((offset, shape, strides))}"  # cut short: tuples may nest endlessly
    fits = isinstance(storage, Storage) and isinstance(shape, tuple) and isinstance(strides, tuple)
    if not fits or not len(shape) == len(strides) <= 32 or not _counts((offset, *shape, *strides)) or any(more[2:]):
        raise ValueError(f"no plain array; {told}")
    extent = 0 if 0 in shape else 1 + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if offset + extent > storage.count:
        raise ValueError(f"an array reaches beyond its storage of {storage.count} numbers; {told}")
    return Tensor(storage, offset, shape, strides)


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
