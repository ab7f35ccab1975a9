"""Writes files and folders atomically: completely, or not at all."""

from __future__ import annotations

import contextlib
import csv
import ctypes
import functools
import hashlib
import os
import re
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kresnet import checks

# A hidden temporary's name tells whose it is: host, process, and the token that sets apart those of one process.
_TEMPORARY = re.compile(r"\.kresnet-([0-9a-f]{8})-(\d+)-[0-9a-f]{8}\..")
_FORGOTTEN = 24 * 3600  # seconds from which on what another host left is nobody's


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary path to write to, and then moves that file to `path` in one step.

    The temporary file is in the same folder, and its name ends like `path`, since Keras and others choose the format
    by the suffix. If an error occurs, such as a full disk, it is removed and `path` is unchanged. If the process is
    killed, the temporary file remains until another one writes to the folder, and `path` is unchanged.

    Args:
        path: the file to write; missing folders are created.

    Yields:
        The path of the temporary file, which does not exist yet.

    Raises:
        OSError: if the disk is full or refuses; it names `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    try:
        with _naming(path, temporary):
            yield temporary
            sync(temporary)
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

    An existing folder is replaced only if it is empty or of the same kind, in one step where the system can exchange
    two folders, as Linux and macOS do on their own disks. Elsewhere, such as on some network disks, the old folder is
    moved aside first, and put back if an error occurs: a kill between these two steps leaves nothing at `path`, and the
    old folder beside it under a hidden name, which is not cleared.

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
    temporary = _beside(path)
    try:
        with _naming(path, temporary):
            yield temporary
            for folder, _, names in os.walk(temporary):
                for name in names:
                    sync(Path(folder, name))
                sync(Path(folder))
            if path.exists() or path.is_symlink():
                _exchange(temporary, path)
            else:
                temporary.rename(path)
    finally:
        _remove(temporary)


def sync(path: Path) -> None:
    """Waits until a file, or which files a folder holds, is on the disk.

    Raises:
        OSError: if the disk is full or refuses.
    """
    if path.is_dir() and os.name == "nt":
        return  # which opens no folders
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: str | os.PathLike) -> str:
    """Returns a file's SHA-256 in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _naming(path: Path, temporary: Path) -> Iterator[None]:
    """Lets an error of the disk name the path, where it names nothing, as writing does, or the temporary."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(temporary)):
            error.filename = str(path)
        raise


def _exchange(new: Path, old: Path) -> None:
    """Swaps two folders' contents: in one step, or where the kernel or the disk cannot, in three."""
    if _swapped(new, old):
        return
    # Not a temporary's name: if all that follows fails, it is the only one left.
    aside = old.with_name(f".{secrets.token_hex(4)}.{old.name}")
    old.rename(aside)
    try:
        new.rename(old)
    except OSError:
        aside.rename(old)
        raise
    aside.rename(new)


def _swapped(one: Path, other: Path) -> bool:
    """Exchanges what two paths name, if the system can, and tells whether it did."""
    library, ends = ctypes.CDLL(None) if os.name == "posix" else None, (os.fsencode(one), os.fsencode(other))
    if sys.platform == "linux" and hasattr(library, "renameat2"):
        here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
        return library.renameat2(here, ends[0], here, ends[1], exchange) == 0
    if sys.platform == "darwin" and hasattr(library, "renamex_np"):
        return library.renamex_np(*ends, 2) == 0  # RENAME_SWAP
    return False


def _beside(path: Path) -> Path:
    """Returns a new hidden path in the same folder, and so on the same disk."""
    _clear(os.path.abspath(path.parent))
    return path.with_name(f".kresnet-{_host()}-{os.getpid()}-{secrets.token_hex(4)}.{path.name}")


@functools.cache
def _clear(folder: str) -> None:
    """Removes temporaries of dead processes from a folder, once in a process.

    Those of other hosts, whose processes cannot be asked for, go when nothing has been written to them for a day.
    """
    try:
        names = os.listdir(folder)
    except OSError:  # one may write to a folder that one may not list
        return
    for name in names:
        if not (match := _TEMPORARY.match(name)):
            continue
        path = Path(folder, name)
        with contextlib.suppress(OSError):  # another process clears too
            forgotten = time.time() - path.lstat().st_mtime > _FORGOTTEN
            if not _alive(int(match[2])) if match[1] == _host() else forgotten:
                _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    """Tells whether there is a process of that number, or none can be asked for."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True


@functools.cache
def _host() -> str:
    """Returns what tells apart where a process's number counts: the machine, and in it the container."""
    with contextlib.suppress(OSError):
        return _digest(socket.gethostname() + os.readlink("/proc/self/ns/pid"))
    return _digest(socket.gethostname())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
