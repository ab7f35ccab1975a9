"""Zip archives that anyone may have made: refused before a few kilobytes unpack to gigabytes."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

# Text shrinks to a tenth or a twentieth of its size, weights hardly at all.
_TIMES, _FREE = 32, 1 << 26


def refuse_bombs(archive: zipfile.ZipFile, unpacked: int | None = None) -> None:
    """Refuses an archive whose content is out of all proportion to what it takes.

    Args:
        archive: opened for reading.
        unpacked: bytes of its content; those that its directory says if left out, more than which zipfile never reads.

    Raises:
        BadZipFile: if it is more than 64 MB and 32 times as much.
    """
    unpacked = sum(entry.file_size for entry in archive.infolist()) if unpacked is None else unpacked
    packed = sum(entry.compress_size for entry in archive.infolist())
    most = max(_FREE, _TIMES * packed)
    if unpacked > most:
        raise zipfile.BadZipFile(f"its {packed} bytes unpack to {unpacked}, which no network's do")


def refuse_keras_bombs(path: Path) -> None:
    """Refuses a `.keras` that holds far more than its bytes: in its archive, or in its arrays, which may be packed.

    Raises:
        BadZipFile, KeyError, OSError: if it is one, or none of Keras's files.
    """
    import h5py

    with zipfile.ZipFile(path) as archive:
        refuse_bombs(archive)
        sizes = []
        with h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r") as weights:
            weights.visititems(lambda _, item: sizes.append(item.nbytes) if isinstance(item, h5py.Dataset) else None)
        refuse_bombs(archive, sum(sizes))
