"""The states of a training run on disk: each one file, written whole, and read only if it is whole.

A state holds arrays by name and a JSON object. The file is NumPy's `.npz`, which keeps a CRC-32 of each array and can
be read without running code.
"""

from __future__ import annotations

import contextlib
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kresnet.files import replacing
from kresnet.progress import say

KEPT = 2  # the last may be damaged, by a disk or by hand
_FACTS = "facts.json"


class NotFinite(RuntimeError):
    """An array is infinite or NaN.

    Attributes:
        name: the array's.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is infinite or NaN")
        self.name = name


def save(folder: str | os.PathLike, epoch: int, batch: int, arrays: Mapping[str, np.ndarray], facts: Any) -> Path:
    """Writes a state, completely or not at all, and removes those before the last two.

    Args:
        folder: where the states are; created if it is missing.
        epoch: the epoch that the run is in, from 0.
        batch: how many batches of it are done.
        arrays: by name; floating-point ones must be finite.
        facts: what else there is to know, as JSON has it.

    Returns:
        The path of the file.

    Raises:
        NotFinite: if a number is infinite or NaN: nothing is written.
        OSError: if the disk is full or refuses: the states before are kept.
    """
    folder = Path(folder)
    wrong = next((name for name, array in arrays.items() if not _finite(array)), None)
    if wrong is not None:
        raise NotFinite(wrong)
    path = folder / f"{epoch:06d}-{batch:09d}.npz"
    kinds = {name: array.dtype.name for name, array in arrays.items()}
    text = json.dumps({"facts": facts, "dtypes": kinds}).encode()
    with replacing(path) as temporary:
        np.savez(temporary, **{_FACTS: np.frombuffer(text, np.uint8)}, **{n: _plain(a) for n, a in arrays.items()})
    for old in _files(folder)[:-KEPT]:
        old.unlink(missing_ok=True)
    return path


def newest(folder: str | os.PathLike) -> tuple[dict[str, np.ndarray], Any] | None:
    """Returns the arrays and the facts of the newest state that is whole, or None if there is none.

    Damaged ones after it are named on the standard error, and removed.
    """
    damaged = []
    for path in reversed(_files(Path(folder))):
        try:
            found = _read(path)
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            damaged.append(path)
            say(f"{path} is damaged, and is passed over: {str(error).splitlines()[0] if str(error) else error!r}")
            continue
        for other in damaged:
            other.unlink(missing_ok=True)
        return found
    return None


def place(folder: str | os.PathLike) -> tuple[int, int] | None:
    """Returns (epoch, batches of it that are done) of the newest state by its name, or None if there is none."""
    files = _files(Path(folder))
    return tuple(int(part) for part in files[-1].stem.split("-")) if files else None


def clear(folder: str | os.PathLike) -> None:
    """Removes the states, the newest last, and their folder if nothing else is in it."""
    for path in _files(Path(folder)):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        Path(folder).rmdir()


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*-[0-9]*.npz"))


def _read(path: Path) -> tuple[dict[str, np.ndarray], Any]:
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}  # read whole, so that each checksum is looked at
    told = json.loads(arrays.pop(_FACTS).tobytes())
    found = {name: _as(array, told["dtypes"][name]) for name, array in arrays.items()}
    if set(found) != set(told["dtypes"]):
        raise ValueError(f"it lacks {sorted(set(told['dtypes']) - set(found))[0]}")
    wrong = next((name for name, array in found.items() if not _finite(array)), None)
    if wrong is not None:
        raise ValueError(f"{wrong} is not finite")
    return found, told["facts"]


def _plain(array: np.ndarray) -> np.ndarray:
    """Returns an array that NumPy can write: bfloat16 is not its own."""
    return array.view(np.uint16) if array.dtype.name == "bfloat16" else array


def _as(array: np.ndarray, dtype: str) -> np.ndarray:
    if dtype != "bfloat16":
        return array
    import ml_dtypes

    return array.view(ml_dtypes.bfloat16)


def _finite(array: np.ndarray) -> bool:
    kind = array.dtype.kind
    if kind != "f" and array.dtype.name != "bfloat16":
        return True
    return bool(np.isfinite(array.astype("float32") if kind != "f" else array).all())
