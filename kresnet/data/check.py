"""Looks through a folder of images before anything is trained on it."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import itertools
import os
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

from kresnet import progress
from kresnet.data import folders
from kresnet.data.images import PIXEL_LIMIT, ImageError, shown, verify

# Of many lines or classes alike, this many are shown, and the others counted.
SHOWN = 20
# Files of more bytes are read one at a time: waiting for their turn to be decoded, they would fill memory.
LARGE = 2**24
_ONE_AT_A_TIME = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Findings:
    """What a folder of images is like.

    Attributes:
        whole: number of images that decode.
        counts: whole images by class, by split; a folder without splits has the split "".
        errors: lines on what stops training or spoils what it measures: broken images, classes without any, splits of
            other classes, the same image in two classes or in two splits.
        warnings: lines on what is left out or uneven, with which a network can be trained.
    """

    whole: int
    counts: dict[str, dict[str, int]]
    errors: list[str]
    warnings: list[str]

    def summary(self) -> list[str]:
        """Returns a line of counts for each split, and one that sums up."""
        lines = [f"{split + ': ' if split else ''}{_told(counts)}" for split, counts in self.counts.items()]
        return [*lines, f"{self.whole} whole images, {len(self.errors)} errors, {len(self.warnings)} warnings"]


def check(folder: str | os.PathLike, pixel_limit: int = PIXEL_LIMIT) -> Findings:
    """Reads and decodes every image of a folder.

    Args:
        folder: holds one subfolder per class, or "train", "validation" and "test" folders of that form.
        pixel_limit: an image of more pixels is not decoded, and counts as an error.

    Raises:
        ValueError: if there is no such folder, or it holds no class folders.
    """
    splits = {split: (path, folders.classes(path)) for split, path in folders.split_folders(folder).items()}
    images = [(split, name, Path(path)) for split, (_, found) in splits.items() for name, path in folders.walked(found)]
    counts = {split: dict.fromkeys(found, 0) for split, (_, found) in splits.items()}
    errors, places = [], defaultdict(list)
    with concurrent.futures.ThreadPoolExecutor() as pool, progress.bar() as bar:
        task = bar.add_task("reading", total=len(images), speed=0.0, values="")
        start = time.perf_counter()
        read = pool.map(lambda image: _read(image[2], pixel_limit), images)
        for done, ((split, name, path), (digest, problem)) in enumerate(zip(images, read, strict=True), 1):
            bar.update(task, completed=done, speed=done / (time.perf_counter() - start))
            if problem:
                errors.append(problem)
            else:
                counts[split][name] += 1
                places[digest].append((split, name, path))
    whole = sum(sum(by_class.values()) for by_class in counts.values())
    warnings = []
    for split, (path, found) in splits.items():
        errors += [f"{shown(path / name)}: no image in this class" for name, files in found.items() if not files.images]
        warnings += _left_out(path, found.values())
        counted = counts[split]
        if not split:
            few = [name for name, count in counted.items() if count == 1]
            warnings += [f"{name}: one image, too few to split: it is only trained on" for name in few]
        if len(found) == 1:
            errors.append(f"{shown(path)}: one class only; a classifier needs at least two")
    known = {split: set(found) for split, (_, found) in splits.items()}
    for split, other in known.items():
        if odd := sorted(other ^ known[next(iter(known))]):
            errors.append(f"train and {split} have different classes; only in one: {', '.join(odd[:SHOWN])}")
    for copies in (copies for copies in places.values() if len(copies) > 1):
        (errors if _spoils(copies) else warnings).append(_duplicates(copies))
    return Findings(whole, counts, errors, warnings)


def _read(path: Path, pixel_limit: int) -> tuple[bytes, str | None]:
    """Returns the digest of a file's bytes, and what is wrong with it."""
    if path.is_symlink() and not path.exists():
        return b"", f"{shown(path)}: a broken link"
    try:
        with _ONE_AT_A_TIME if path.stat().st_size > LARGE else contextlib.nullcontext():
            data = path.read_bytes()
            verify(data, shown(path), pixel_limit)
    except ImageError as error:
        return b"", str(error)
    except OSError as error:
        return b"", f"{shown(path)}: {error.strerror}"
    return hashlib.sha256(data).digest(), None


def _left_out(folder: Path, classes: Iterable[folders.Files]) -> list[str]:
    """Returns a line for each reason for which files are not read, and for each link out of the folder."""
    by_reason, lines = defaultdict(list), []
    for files in classes:
        for path, reason in files.left_out:
            by_reason[reason].append(path)
        lines += [f"{shown(path)}: a link out of the folder, to {shown(target)}" for path, target in files.outside]
    if beside := folders.beside_classes(folder):
        by_reason["images beside the classes' folders, in no class"] = beside
    for reason, paths in by_reason.items():
        named = ", ".join(shown(path) for path in paths[:3]) + (", ..." if len(paths) > 3 else "")
        lines.append(f"left out, {len(paths)} {reason}: {named}")
    return lines


def _spoils(copies: list[tuple[str, str, Path]]) -> bool:
    """Tells whether copies of an image contradict each other, or are both trained on and measured with."""
    return any(a[:2] != b[:2] for a, b in itertools.pairwise(copies))


def _duplicates(copies: list[tuple[str, str, Path]]) -> str:
    what = "the same image"
    if len({name for _, name, _ in copies}) > 1:
        what += " in two classes"
    if len({split for split, _, _ in copies}) > 1:
        what += " in two splits"
    named = ", ".join(shown(path) for *_, path in copies[:SHOWN])
    return f"{what}: {named}{', ...' if len(copies) > SHOWN else ''}"


def _told(counts: dict[str, int]) -> str:
    """Returns the classes' counts, of many classes the extremes, and how uneven they are."""
    ordered = Counter(counts).most_common()
    if len(ordered) > SHOWN:
        half = SHOWN // 2
        ordered = [*ordered[:half], ("...", None), *ordered[-half:]]
    named = ", ".join(name if count is None else f"{name} {count}" for name, count in ordered)
    least, most = min(counts.values()), max(counts.values())
    uneven = f"; largest / smallest {most / least:.1f}" if least else ""
    return f"{sum(counts.values())} images of {len(counts)} classes: {named}{uneven}"
