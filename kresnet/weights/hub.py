"""Files from hubs: downloaded once, and never handed out but whole and with the hash that they should have."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import SplitResult, urlsplit

from kresnet import checks
from kresnet.progress import tracked_bytes

# Without an answer for so many seconds a download is given up; what has come is kept, to go on from.
TIMEOUT = 30
_BLOCK = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_WEIGHTS = "model.safetensors", "pytorch_model.bin"


def cache() -> Path:
    """Returns the folder of our own downloads: `$KRESNET_HOME`, or `kresnet` in the user's cache."""
    home = os.environ.get("KRESNET_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "kresnet"
    return Path(home).expanduser()


class _NoSuchFile(ValueError):
    """A repository lacks a file."""


def hugging_face(repository: str, file: str, revision: str | None = None) -> Path:
    """Returns a file of a repository on Hugging Face's hub, downloaded into that hub's own cache unless it is there.

    The hub's client reads its settings from the environment: `HF_HOME` (where the cache is), `HF_TOKEN`,
    `HF_HUB_OFFLINE`, `HF_ENDPOINT`. It compares the length of a download; large files are also compared to their
    SHA-256 here, whenever they are asked for (0.1 s for 100 MB), where the cache is made of links as it is by default.

    Args:
        repository: "owner/name".
        file: its path in the repository.
        revision: a branch, a tag or a commit. Default: the newest.

    Raises:
        ValueError: naming the repository, the file and the cure, if it cannot be had.
    """
    received = {"repository": repository, "file": file, "revision": revision}
    try:
        import huggingface_hub as client
    except ImportError:
        checks.require(False, "Files of the hub need its client: pip install 'kresnet[hub]'", **received)
    checks.require(
        isinstance(repository, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", repository) is not None,
        "A repository is 'owner/name'",
        **received,
    )
    try:
        path = Path(_from_client(client, **received))
        damaged = _removed_if_damaged(path)
    except Exception as error:  # whatever the client's libraries raise, it has the same cures
        kind, problem = _problem(client, error, **received)
        raise kind(f"{problem}. Received: {', '.join(f'{k}={v!r}' for k, v in received.items())}") from error
    checks.require(
        not damaged, "The file's SHA-256 is not the hub's: it was removed from the cache; try again", **received
    )
    return path


def _from_client(client: Any, repository: str, file: str, revision: str | None) -> str:
    try:
        return client.hf_hub_download(repository, file, revision=revision)
    except (OSError, ValueError):
        raise
    except Exception:  # a connection that broke: after a refused one the client looks into its cache by itself
        found = client.try_to_load_from_cache(repository, file, revision=revision)
        if not isinstance(found, str):
            raise
        return found


def _removed_if_damaged(path: Path) -> bool:
    """Removes a file from the hub's cache if it is not what the cache's name for it says.

    A link leads from the file's own name to its hash. From there another may lead to a store that repositories share,
    whose names are not SHA-256.
    """
    blob = path.parent / os.readlink(path) if path.is_symlink() else path
    if re.fullmatch(r"[0-9a-f]{64}", blob.name) is None or _digest(blob) == blob.name:
        return False
    for name in (blob.resolve(), blob, path):
        name.unlink(missing_ok=True)
    return True


def _problem(client: Any, error: Exception, repository: str, file: str, revision: str | None) -> tuple[type, str]:
    """Returns the class of the error to raise, and what is wrong and what to do."""
    from huggingface_hub import constants, errors

    absent = isinstance(error, errors.LocalEntryNotFoundError)  # neither had from the hub nor in the cache
    cause = error.__cause__ if absent and error.__cause__ else error
    status = getattr(getattr(cause, "response", None), "status_code", None)
    if isinstance(error, errors.RemoteEntryNotFoundError) or (
        absent and client.try_to_load_from_cache(repository, file, revision=revision) is client._CACHED_NO_EXIST
    ):
        return _NoSuchFile, "The repository has no such file"
    token = "set HF_TOKEN to a valid token that may read it"
    if isinstance(cause, errors.GatedRepoError) or status == 403:
        problem = f"Access is refused: accept the terms on the repository's page, and {token}"
    elif isinstance(cause, errors.RepositoryNotFoundError) or status == 401:
        problem = f"There is no such repository, or it is private: {token}"
    elif isinstance(cause, errors.RevisionNotFoundError):
        problem = "The repository has no such revision"
    elif isinstance(cause, errors.OfflineModeIsEnabled):
        problem = "The file has not been downloaded before, and HF_HUB_OFFLINE is set: unset it once"
    elif status is not None:
        problem = f"The hub answers with status {status}: try again later"
    elif (of_disk := _of_disk(cause, constants.HF_HUB_CACHE, "HF_HOME")) is not None:
        problem = of_disk
    elif isinstance(cause, ValueError | errors.FileMetadataError):
        problem = f"The hub's client refuses: {cause}"
    elif isinstance(cause, OSError) and cause.errno is None:
        problem = "The download has not the length that the hub says: nothing is kept of it; try again"
    else:
        problem = (
            f"The download failed, and the file has not been downloaded before ({type(cause).__name__}: {cause}): "
            "check the network, HTTPS_PROXY and HF_ENDPOINT, and try again"
        )
    return ValueError, problem


def _of_disk(error: Exception, folder: str | Path, variable: str) -> str | None:
    """Returns what is wrong with a cache's disk and what to do; None if an error is of something else."""
    if getattr(error, "errno", None) in _FULL:
        return f"The disk is full ({error.strerror}): {folder} needs room, or set {variable} to another folder"
    if getattr(error, "filename", None) is not None:
        return f"The cache {folder} cannot be written ({error}): set {variable} to another folder"
    return None


def config(repository: str, revision: str | None = None) -> dict[str, Any]:
    """Returns a repository's `config.json`, as timm writes it.

    Returns:
        "architecture", timm's name of the network; in most files also "num_classes" and "pretrained_cfg", a dictionary.

    Raises:
        ValueError: if it cannot be had, or is not timm's.
    """
    path = hugging_face(repository, "config.json", revision)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): remove it. Received: repository={repository!r}") from None
    checks.require(
        isinstance(found, dict) and isinstance(found.get("architecture"), str),
        "The repository's config.json does not say which of timm's architectures it is of",
        repository=repository,
    )
    for name, kind in (("num_classes", int), ("pretrained_cfg", dict)):
        checks.require(
            isinstance(found.get(name, kind()), kind),
            f"The repository's config.json is not timm's: its {name} is not of type {kind.__name__}",
            repository=repository,
            **{name: found.get(name)},
        )
    return found


def weights_file(repository: str, revision: str | None = None) -> Path:
    """Returns a repository's weights: `model.safetensors`, or `pytorch_model.bin` where there is no such file.

    Raises:
        ValueError: naming the repository and the cure, if they cannot be had.
    """
    for file in _WEIGHTS:
        with contextlib.suppress(_NoSuchFile):
            return hugging_face(repository, file, revision)
    raise ValueError(
        f"The repository has no {' nor '.join(_WEIGHTS)}. Received: repository={repository!r}, revision={revision!r}"
    )


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
        problem = _of_disk(error, folder, "KRESNET_HOME") if not isinstance(error, urllib.error.URLError) else None
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


def _allowed(address: str) -> SplitResult:
    parts = urlsplit(address)
    local = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost")
    remote = parts.scheme == "https" and bool(parts.hostname)
    checks.require(remote or local, "An address must begin with https://", address=address)
    return parts


def _is_whole(file: Path, start: str) -> bool:
    return file.is_file() and _digest(file).startswith(start)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
