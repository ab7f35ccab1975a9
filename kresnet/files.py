"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


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
    temporary = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
