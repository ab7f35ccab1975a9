"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from kresnet import checks


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a path to write to, whose file then takes the place of `path`'s in one step.

    The temporary file stands beside `path`, and its name ends as `path`'s does, since Keras and others go by that.
    On an error, a full disk's included, it is removed and `path` is as it was; on a kill only it is left behind.

    Args:
        path: the file to write; its folder is made where it is missing.

    Yields:
        The temporary file's path; nothing is there yet.

    Raises:
        OSError: of the disk, as it comes.
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
def replacing_folder(path: str | os.PathLike, kind: str, mark: str) -> Iterator[Path]:
    """Gives a folder to write to, which then takes the place of one of its kind that may stand under `path`.

    Args:
        path: the folder to write; the folders on the way are made.
        kind: what it is, for errors.
        mark: a file that every folder of the kind has; another folder, if not empty, is never replaced.

    Yields:
        The temporary folder's path; nothing is there yet.

    Raises:
        ValueError: if something else stands under `path`.
        OSError: of the disk, as it comes.
    """
    path = Path(path)
    checks.require(
        not path.exists() or (path / mark).exists() or (path.is_dir() and not any(path.iterdir())),
        f"There is something else than {kind}, which will not be overwritten",
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
    """Returns a hidden path of its own in the same folder, on the same disk."""
    return path.with_name(f".{secrets.token_hex(4)}.{path.name}")
