"""Files by their addresses: downloaded once, and never handed out but whole and with the hash that they should have."""

from __future__ import annotations

import contextlib
import errno
import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import SplitResult, urlsplit

from kresnet import checks
from kresnet.files import sha256
from kresnet.progress import tracked_bytes

# Without an answer for so many seconds a download is given up; what has come is kept, to go on from.
TIMEOUT = 30
_BLOCK = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def cache() -> Path:
    """Returns the folder of our own downloads: `$KRESNET_HOME`, or `kresnet` in the user's cache."""
    home = os.environ.get("KRESNET_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "kresnet"
    return Path(home).expanduser()


def download(address: str, sha256: str | None = None) -> Path:
    """Returns the file of an address, downloaded into `cache()` unless it is there.

    What an interrupted download left is gone on from. A file gets its name only when its hash is right, and is
    compared again whenever it is asked for (0.1 s for 100 MB); processes that download the same file at once wait for
    each other. A file that was put into the folder by hand is as good.

    Args:
        address: https (or http on this machine), and so wherever it leads on to.
        sha256: how its SHA-256 begins: 8 to 64 hexadecimal digits. Default: the last ones in its name, as in
            "resnet50-11ad3fa6.pth".

    Raises:
        ValueError: naming the address and the cure, if it cannot be had.
    """
    name = PurePosixPath(_allowed(address).path).name
    named = re.search(r"-([0-9a-f]{8,64})\.\w+$", name)
    start = (sha256 or (named[1] if named else "")).lower()
    checks.require(
        re.fullmatch(r"\w[\w.-]*", name) is not None and re.fullmatch(r"[0-9a-f]{8,64}", start) is not None,
        "A file is named by its address, and its SHA-256 begins with `sha256` or with the last digits of its name",
        address=address,
        sha256=sha256,
    )
    folder = cache()
    file = folder / name
    try:
        if _is_whole(file, start):
            return file
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(file) as part:
            if _is_whole(file, start):  # another process was first
                return file
            _fetch(address, part)
            whole = _is_whole(part, start)
            if whole:
                os.replace(part, file)
            else:
                part.unlink()
    except (OSError, http.client.HTTPException) as error:
        problem = of_disk(error, folder, "KRESNET_HOME") if not isinstance(error, urllib.error.URLError) else None
        raise ValueError(f"{problem or _of_network(error, folder)}. Received: address={address!r}") from error
    checks.require(whole, f"Its SHA-256 does not begin with {start}: it was removed; try again", address=address)
    return file


def _of_network(error: Exception, folder: Path) -> str:
    if isinstance(error, urllib.error.HTTPError):
        if error.code in (404, 410):
            return "The server has no such file"
        return f"The server answers with status {error.code} {error.reason}: try again later"
    reason = getattr(error, "reason", None) or str(error) or type(error).__name__
    return f"The download failed ({reason}): check the network and HTTPS_PROXY, or put the file into {folder}"


def of_disk(error: Exception, folder: str | Path, variable: str) -> str | None:
    """Returns what is wrong with a cache's disk and what to do; None if an error is of something else."""
    if getattr(error, "errno", None) in _FULL:
        return f"The disk is full ({error.strerror}): {folder} needs room, or set {variable} to another folder"
    if getattr(error, "filename", None) is not None:
        return f"The cache {folder} cannot be written ({error}): set {variable} to another folder"
    return None


def _allowed(address: str) -> SplitResult:
    parts = urlsplit(address)
    local = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost")
    remote = parts.scheme == "https" and bool(parts.hostname)
    checks.require(remote or local, "An address must begin with https://", address=address)
    return parts


def _is_whole(file: Path, start: str) -> bool:
    return file.is_file() and sha256(file).startswith(start)


@contextlib.contextmanager
def _alone(file: Path) -> Iterator[Path]:
    """Yields the path of the part that has come, which one process at a time writes.

    Without `fcntl` (Windows) two processes may spoil each other's, which its hash tells.
    """
    with file.with_name(f".{file.name}.lock").open("w") as lock:
        with contextlib.suppress(ImportError):
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
        yield file.with_name(f"{file.name}.part")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirection to an address that may not be asked for."""

    def redirect_request(self, request: Any, answer: Any, code: int, text: str, headers: Any, address: str) -> Any:
        _allowed(address)
        return super().redirect_request(request, answer, code, text, headers, address)


def _fetch(address: str, part: Path) -> None:
    """Downloads what of a file has not come yet.

    Raises:
        OSError, http.client.HTTPException: if the network or the disk fails; what has come is kept.
    """
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(address, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        answer = urllib.request.build_opener(_Redirects).open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not done:  # 416: nothing lies beyond what has come
            raise
        return
    with answer:
        goes_on = answer.status == 206
        done = done if goes_on else 0
        length = answer.headers.get("Content-Length")
        total = done + int(length) if length else None
        with part.open("ab" if goes_on else "wb") as file, tracked_bytes(part.stem, total, done) as advance:
            while block := answer.read(_BLOCK):
                file.write(block)
                advance(len(block))
                done += len(block)
    if total is not None and done != total:
        raise OSError(f"the connection ended after {done} of {total} bytes; the next try goes on from there")
