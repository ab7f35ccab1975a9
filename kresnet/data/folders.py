"""Folders of images: their splits, their classes, which files are read and which are left out."""

from __future__ import annotations

import dataclasses
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from kresnet.data.images import SUFFIXES, shown

SPLITS = {"train": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}

# Photographs that no decoder here reads, and what makes JPEGs of them.
CONVERTERS = {
    **dict.fromkeys((".heic", ".heif"), "heif-convert a.heic a.jpg"),
    ".avif": "avifdec a.avif a.png",
    ".jxl": "djxl a.jxl a.jpg",
    **dict.fromkeys((".tif", ".tiff", ".jp2", ".psd", ".tga", ".ico", ".ppm", ".svg"), "magick a{suffix} a.png"),
    **dict.fromkeys((".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf"), "magick a{suffix} a.jpg"),
}
_KINDS = {stat.S_IFIFO: "pipes", stat.S_IFSOCK: "sockets", stat.S_IFCHR: "devices", stat.S_IFBLK: "devices"}
HIDDEN = "hidden files"


@dataclasses.dataclass
class Files:
    """What a class's folder holds.

    Attributes:
        images: paths of the files that are read, sorted folder by folder.
        left_out: paths that are not read, and why.
        outside: links that lead out of the data's folder, and where to; they are followed.
    """

    images: list[str] = dataclasses.field(default_factory=list)
    left_out: list[tuple[Path, str]] = dataclasses.field(default_factory=list)
    outside: list[tuple[Path, str]] = dataclasses.field(default_factory=list)


def split_folders(folder: str | os.PathLike) -> dict[str, Path]:
    """Returns the folders of the splits by name: "train", and "validation" and "test" if they exist.

    Case is ignored, and "val" and "valid" count as "validation". A folder without splits gives {"": folder}.

    Raises:
        ValueError: if there is no such folder.
    """
    folder = _existing(folder)
    found = {SPLITS[entry.name.lower()]: entry for entry in sorted(folder.iterdir()) if entry.name.lower() in SPLITS}
    found = {split: found[split] for split in ("train", "validation", "test") if split in found}
    return found if "train" in found and all(entry.is_dir() for entry in found.values()) else {"": folder}


def classes(folder: str | os.PathLike) -> dict[str, Files]:
    """Returns what each class folder holds, sorted by the classes' names. Names that begin with a dot are no classes.

    A link to a folder is followed once, so that one that leads back to itself ends. Pipes, sockets and devices
    are never opened.

    Raises:
        ValueError: if there is no such folder, it holds no folders, or a folder's name is not text.
    """
    folder = _existing(folder)
    entries = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not entries:
        beside = sum(_is_image(entry) for entry in folder.iterdir())
        hint = f"; it holds {beside} images itself: move them into such folders" if beside else ""
        raise ValueError(f"A folder of images must hold one folder for each class{hint}. Received: {str(folder)!r}")
    for entry in entries:
        if shown(entry.name) != entry.name:
            raise ValueError(f"A class's name must be UTF-8: rename the folder. Received: '{shown(entry)}'")
    root = Path(os.path.realpath(folder))
    found = {}
    for entry in entries:
        found[entry.name] = files = Files()
        _walk(str(entry), root, files, set())
    return found


def beside_classes(folder: Path) -> list[Path]:
    """Returns the images that lie beside the class folders, and so in no class."""
    return sorted(entry for entry in folder.iterdir() if _is_image(entry))


def left_out(reasons: Counter[str], folder: str | os.PathLike) -> str | None:
    """Returns a line on what is not read, with its counts; None if everything is."""
    if not reasons:
        return None
    parts = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    return f"Left out of {shown(folder)}: {parts}; `kresnet check-data` names them."


def _walk(folder: str, root: Path, files: Files, seen: set[str]) -> None:
    """Adds what a folder holds, without a question about each of a million files: its entries tell their kinds."""
    real = os.path.realpath(folder)
    if real in seen:
        files.left_out.append((Path(folder), "links to a folder that was read already"))
        return
    seen.add(real)
    if os.path.islink(folder) and not Path(real).is_relative_to(root):
        files.outside.append((Path(folder), real))
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        files.left_out.append((Path(folder), f"folders that cannot be read ({error.strerror})"))
        return
    for entry in entries:
        if entry.name.startswith("."):
            files.left_out.append((Path(entry.path), HIDDEN))
        elif os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir():
            _walk(entry.path, root, files, seen)
        elif reason := _no_image(entry):
            files.left_out.append((Path(entry.path), reason))
        else:
            files.images.append(entry.path)
            if entry.is_symlink() and not Path(target := os.path.realpath(entry.path)).is_relative_to(root):
                files.outside.append((Path(entry.path), target))


def _no_image(entry: os.DirEntry[str]) -> str | None:
    """Returns why a file is not read, as a plural; None for images, and for broken links to them."""
    suffix = os.path.splitext(entry.name)[1].lower()
    if suffix not in SUFFIXES:
        command = CONVERTERS.get(suffix)
        return (
            f"{suffix} files (convert them: {command.format(suffix=suffix)})" if command else "files that are no images"
        )
    if entry.is_file(follow_symlinks=False):
        return None
    try:
        return _KINDS.get(stat.S_IFMT(entry.stat().st_mode))
    except OSError:  # reading it will say so by its name
        return None


def _is_image(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _existing(folder: str | os.PathLike) -> Path:
    folder = Path(folder)
    if not folder.is_dir():
        what = "This is a file, not a folder" if folder.exists() else "There is no such folder"
        raise ValueError(f"{what}. Received: {str(folder)!r}")
    return folder


def walked(found: dict[str, Files]) -> Iterator[tuple[str, str]]:
    """Yields each image's class and path."""
    for name, files in found.items():
        for path in files.images:
            yield name, path


def expanded(paths: Iterable[str | os.PathLike]) -> list[str]:
    """Returns the paths, with the images in a folder and in the folders within it, sorted, in its place.

    Raises:
        ValueError: if a folder holds no image.
    """
    found: list[str] = []
    for path in map(Path, paths):
        files = Files()
        if path.is_dir():
            _walk(str(path), Path(os.path.realpath(path)), files, set())
            if not files.images:
                kinds = ", ".join(SUFFIXES)
                raise ValueError(f"There is no image ({kinds}) in the folder. Received: {str(path)!r}")
        found += files.images or [str(path)]
    return found
