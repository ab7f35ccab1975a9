"""The two formats of `torch.save`: the zip archive (PyTorch 1.6 and later), and the stream before it.

Each holds a pickle, which describes the arrays, and the arrays' numbers by the keys of their storages.

Source: torch/serialization.py of PyTorch 2.13.
"""

from __future__ import annotations

import functools
import io
import reprlib
import struct
import zipfile
from collections.abc import Callable
from typing import Any, BinaryIO

from kresnet.weights.torch_pickle import CURE, Refused, Storage, unpickle

# A state dict takes about 250 bytes an array in it, and what is made of these bytes at most about 100 times as much.
_PICKLE_BYTES = 8 << 20
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_OTHER_KINDS = {
    b"<": "an HTML or XML page: its download failed",
    b"version https://git-lfs": "a Git LFS pointer: fetch the file itself with `git lfs pull`",
    b"\x89HDF": "an HDF5 file",
    b"\x1f\x8b": "a gzip archive: unpack it",
}


Fetch = Callable[[Storage], Callable[[], bytes]]


def read(stream: BinaryIO) -> tuple[Any, Fetch]:
    """Reads a file's pickle.

    Args:
        stream: the file, open at its beginning and as long as its numbers are read.

    Returns:
        The pickled object, and a function from a storage to another, which reads its bytes.

    Raises:
        Refused: if the file is of another kind, damaged, or asks for more than arrays; the functions raise it too.
        Others: what the standard library raises for a damaged archive.
    """
    start, size = stream.read(512), stream.seek(0, io.SEEK_END)
    stream.seek(0)
    return _zip(stream, size) if start.startswith(b"PK\3\4") else _legacy(stream, start, size)


def _zip(stream: BinaryIO, size: int) -> tuple[Any, Fetch]:
    archive = zipfile.ZipFile(stream)
    tops = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(tops) != 1:
        names = f"its entries are {archive.namelist()[:4]}"[:200]
        raise Refused(f"The file is a zip archive, but none of torch.save's, which has one data.pkl: {names}")
    folder = tops[0].removesuffix("data.pkl")
    if any(name.startswith((f"{folder}constants.pkl", f"{folder}code/")) for name in archive.namelist()):
        raise Refused("The file is a TorchScript archive, which is a program. Save the model's `state_dict()`")
    record = functools.lru_cache(maxsize=1)(archive.read)  # several arrays may share a storage

    def length(name: str) -> int:
        info = archive.getinfo(name)
        if info.compress_type != zipfile.ZIP_STORED:
            raise Refused(f"The file's {name[:200]!r} is compressed, as PyTorch leaves none. {CURE}")
        if info.compress_size != info.file_size or info.header_offset + info.file_size > size:
            raise Refused(f"The file is damaged: its {name!r} is said to have more bytes than there are")
        return info.file_size

    def small(name: str) -> bytes:
        if length(name) > _PICKLE_BYTES:
            raise Refused(f"The file's {name[:200]!r} is larger than a state dict's, {_PICKLE_BYTES} bytes. {CURE}")
        return archive.read(name)

    def fetch(storage: Storage) -> Callable[[], bytes]:
        name = f"{folder}data/{storage.key}"
        found, said = length(name), storage.numel * storage.item
        if found != said:
            raise Refused(f"The file is damaged: its {name!r} has {found} bytes and is said to have {said}")
        return lambda: record(name)

    if f"{folder}byteorder" in archive.namelist() and (order := small(f"{folder}byteorder")) != b"little":
        raise Refused(f"The file's numbers are {order[:20].decode('latin-1')}-endian, and not little-endian. {CURE}")
    return unpickle(io.BytesIO(small(tops[0])), {}), fetch


def _legacy(stream: BinaryIO, start: bytes, size: int) -> tuple[Any, Fetch]:
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
        raise Refused(f"The file is {kind or 'empty'}")
    head, storages = io.BytesIO(stream.read(_PICKLE_BYTES)), {}
    if unpickle(head, {}) != _MAGIC:
        raise Refused("The file is a pickle, but none of torch.save's")
    protocol, system = unpickle(head, {}), unpickle(head, {})
    if protocol != _PROTOCOL or not isinstance(system, dict):
        raise Refused(f"The file is damaged: its version should be {_PROTOCOL} and is {reprlib.repr(protocol)}")
    if system.get("little_endian") is not True:
        raise Refused(f"The file's numbers are big-endian, and not little-endian. {CURE}")
    top, keys = unpickle(head, storages), unpickle(head, {})
    if not isinstance(keys, list) or not all(isinstance(key, str) and key in storages for key in keys):
        raise Refused("The file is damaged: its list of storages is not that of its arrays")
    places, position = {}, head.tell()
    for key in keys:
        storage = storages[key]
        stream.seek(position)
        begin, position = position + 8, position + 8 + storage.numel * storage.item
        if stream.read(8) != struct.pack("<q", storage.numel) or position > size:
            raise Refused(f"The file is damaged or cut off: at byte {begin} should be {storage.numel} numbers")
        places[key] = begin, position - begin

    @functools.lru_cache(maxsize=1)
    def record(begin: int, length: int) -> bytes:
        stream.seek(begin)
        return stream.read(length)

    def fetch(storage: Storage) -> Callable[[], bytes]:
        begin, length = places[storage.key]
        if length != storage.numel * storage.item:
            raise Refused(f"The file is damaged: it has the storage {storage.key!r} in two sizes")
        return lambda: record(begin, length)

    return top, fetch
