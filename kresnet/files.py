"""Writes files and folders atomically: completely, or not at all."""

from __future__ import annotations

import contextlib
import csv
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kresnet import checks


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary path to write to, and then moves that file to `path` in one step.

    The temporary file is in the same folder, and its name ends like `path`, since Keras and others choose the format
    by the suffix. If an error occurs, such as a full disk, it is removed and `path` is unchanged. If the process is
    killed, the temporary file may remain, and `path` is unchanged.

    Args:
        path: the file to write; missing folders are created.

    Yields:
        The path of the temporary file, which does not exist yet.

    Raises:
        OSError: if the disk is full or refuses.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_csv(path: str | os.PathLike) -> Iterator[Any]:
    """Yields a `csv.writer` for a file that replaces `path` as in `replacing`.

    The file is UTF-8, but for names of files in its cells that are not: their bytes stay as they are.

    Args:
        path: the file to write.
    """
    with (
        replacing(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        yield csv.writer(file)


@contextlib.contextmanager
def replacing_folder(path: str | os.PathLike, kind: str, mark: str) -> Iterator[Path]:
    """Yields the path of a temporary folder to write to, and then moves that folder to `path`.

    An existing folder is replaced only if it is empty or of the same kind. If an error occurs, it is put back.

    Args:
        path: the folder to write; missing parents are created.
        kind: what the folder is, such as "a SavedModel", for errors.
        mark: the name of a file that every folder of this kind holds.

    Yields:
        The path of the temporary folder, which does not exist yet.

    Raises:
        ValueError: if something of another kind exists at `path`.
        OSError: if the disk is full or refuses.
    """
    path = Path(path)
    checks.require(
        not path.exists() or (path / mark).exists() or (path.is_dir() and not any(path.iterdir())),
        f"The path holds something other than {kind}, which will not be overwritten",
        path=str(path),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    new, old = _beside(path), _beside(path)
    try:
        yield new
        if path.exists():
            path.rename(old)
        try:
            new.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _beside(path: Path) -> Path:
    """Returns a new hidden path in the same folder, and so on the same disk."""
    return path.with_name(f".{secrets.token_hex(4)}.{path.name}")
