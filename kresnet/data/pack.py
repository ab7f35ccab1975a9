"""Packs a folder of images into shards, which `load` takes as it takes the folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

from kresnet import checks
from kresnet.data import folders, shards, sources


def pack(folder: str | os.PathLike, out: str | os.PathLike | None = None) -> Path:
    """Copies a folder's images into TFRecords. `kresnet.data.load` gives the same batches of either.

    Args:
        folder: of images, as `kresnet.data.load` takes it.
        out: the folder to write, completely or not at all. One that is packed already is replaced. Default: the
            folder's name and "-packed", beside it.

    Returns:
        The path of the packed folder.

    Raises:
        ValueError: if the folder holds no classes of images, is packed itself, or `out` is in it or holds something
            else.
        OSError: if a file cannot be read, which it names, or the disk is full.
    """
    folder = Path(folder)
    checks.require(not (folder / shards.MARK).exists(), "The folder is packed already", folder=str(folder))
    out = Path(out) if out is not None else Path(f"{os.path.abspath(folder)}-packed")
    inside = Path(os.path.abspath(out)).is_relative_to(os.path.abspath(folder))
    checks.require(not inside, "The packed folder must not lie in the folder", out=str(out), folder=str(folder))
    listed = {split: (path, sources.listed(path)) for split, path in folders.split_folders(folder).items()}
    with shards.packing(out) as temporary:
        for split, (path, found) in listed.items():
            shards.write(path, temporary / split, found.class_names, found.paths, found.labels, found.left_out)
        counts = {split or "all": found.count for split, (_, found) in listed.items()}
        about = {"format": shards.FORMAT, "images": counts}
        (temporary / shards.MARK).write_text(json.dumps(about, indent=2) + "\n")
    return out
