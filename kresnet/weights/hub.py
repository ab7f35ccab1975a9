"""Files of Hugging Face's hub, by its own client, and never handed out but with the hash that they should have."""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path
from typing import Any

from kresnet import checks
from kresnet.files import sha256
from kresnet.weights.downloads import of_disk

_WEIGHTS = "model.safetensors", "pytorch_model.bin"


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
    if re.fullmatch(r"[0-9a-f]{64}", blob.name) is None or sha256(blob) == blob.name:
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
    elif (full := of_disk(cause, constants.HF_HUB_CACHE, "HF_HOME")) is not None:
        problem = full
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
