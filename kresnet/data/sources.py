"""Where labelled images come from: scikit-learn's digits, folders, tensorflow-datasets."""

from __future__ import annotations

import dataclasses
import io
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kresnet import checks
from kresnet.data import folders, images, shards

# Datasets of tensorflow-datasets whose images all have one size are decoded into memory, up to this many bytes.
IN_MEMORY = 2**30


@dataclasses.dataclass(frozen=True)
class Source:
    """One split of a labelled dataset. Exactly one of `pixels`, `paths` and `stream` is set.

    Attributes:
        name: what error messages call it.
        class_names: in the order of the labels.
        count: number of images.
        labels: integers, (count,); None for a stream.
        pixels: uint8, (count, height, width, channels).
        paths: of the image files, bytes, (count,).
        packed: what holds the files, if they are packed; `paths` are their names then.
        places: of the images among those that are packed, (count,); None for all.
        left_out: a line on the files of a folder that are not read; None if all are.
        stream: a function without arguments that returns a `tf.data.Dataset` of (encoded image, label), always in the
            same order.
    """

    name: str
    class_names: tuple[str, ...]
    count: int
    labels: np.ndarray | None = None
    pixels: np.ndarray | None = None
    paths: np.ndarray | None = None
    stream: Callable[[], Any] | None = None
    left_out: str | None = None
    packed: shards.Shards | None = None
    places: np.ndarray | None = None

    @property
    def record_shape(self) -> tuple[int, ...]:
        """Of one of the `records`."""
        return () if self.pixels is None else self.pixels.shape[1:]

    @property
    def holds_bytes(self) -> bool:
        """Whether the records are files' bytes, and not their paths or pixels."""
        return self.packed is not None or self.stream is not None

    def records(self, indices: np.ndarray) -> np.ndarray:
        """Returns what some images are read from, (number, ...): pixels, files' paths, or a packed folder's files.

        A packed file that cannot be read is empty: decoding it fails, and `read` says why.
        """
        if self.packed is None:
            return self.pixels[indices] if self.pixels is not None else self.paths[indices]

        def read(i: int) -> bytes:
            try:
                return self.read(i)
            except OSError:
                return b""

        return np.array([*self.packed.threads.map(read, indices.tolist())], object)

    def read(self, i: int) -> bytes:
        """Returns the bytes of the i-th image's file, where images have `paths`.

        Raises:
            OSError: if it cannot be read.
        """
        if self.packed is not None:
            return self.packed.read(self.places[i] if self.places is not None else i)
        return Path(os.fsdecode(self.paths[i])).read_bytes()

    def only(self, indices: np.ndarray) -> Source:
        """Returns some of the images of a folder."""
        chosen = {"labels": self.labels[indices], "paths": self.paths[indices]}
        places = None if self.packed is None else indices
        return dataclasses.replace(self, count=len(indices), places=places, **chosen)

    @property
    def file_paths(self) -> tuple[str, ...] | None:
        """The paths as text; None where images are no files."""
        return None if self.paths is None else tuple(map(os.fsdecode, self.paths.tolist()))


def find(
    source: str | os.PathLike,
    split: str,
    *,
    seed: int = 0,
    validation_split: float = 0.2,
    data_dir: str | os.PathLike | None = None,
) -> Source:
    """Finds one split of a source.

    Args:
        source: "digits", "tfds:NAME" or the path of a folder.
        split: "train", "validation" or "test"; "all" for the digits and for a folder without splits; for
            tensorflow-datasets also its own syntax, such as "train[:10%]".
        seed: seed of the split, if the source has none of its own.
        validation_split: fraction of each class that is then held out, in (0, 1).
        data_dir: where tensorflow-datasets keeps its datasets.

    Raises:
        ValueError: if there is no such source or split, or a class has no images.
    """
    checks.number("validation_split", validation_split, 1e-9, 1, "a fraction in (0, 1)")
    if str(source).startswith("tfds:"):
        return _tfds(str(source).removeprefix("tfds:"), split, validation_split, data_dir)
    checks.choice("split", split, ("train", "validation", "test", "all"))
    if str(source) == "digits":
        return _digits(split, seed, validation_split)
    return _folder(Path(source), split, seed, validation_split)


def decoders(source: Source) -> Iterator[tuple[Callable[[], np.ndarray], int]]:
    """Yields for each image, in order, a function that decodes it at full size, and its label."""
    if source.pixels is not None:
        for pixels, label in zip(source.pixels, source.labels, strict=True):
            yield (lambda pixels=pixels: pixels), int(label)
    elif source.paths is not None:
        for i, (path, label) in enumerate(zip(source.paths, source.labels, strict=True)):
            yield (lambda i=i, path=path: images.decode(source.read(i), images.shown(path))), int(label)
    else:
        for i, (encoded, label) in enumerate(source.stream().as_numpy_iterator()):
            yield (lambda encoded=encoded, i=i: images.decode(encoded, f"{source.name}[{i}]")), int(label)


def _split(labels: np.ndarray, split: str, seed: int, fraction: float) -> np.ndarray:
    """Returns the indices of a split that holds out this fraction of every class.

    A class of two or more images has at least one on either side; a class of one image is only trained on.
    """
    if split == "all":
        return np.arange(len(labels))
    rng, chosen = np.random.default_rng(seed), []
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        chosen.append(members[: min(max(1, round(fraction * len(members))), len(members) - 1)])
    held_out = np.zeros(len(labels), bool)
    held_out[np.concatenate(chosen)] = True
    return np.flatnonzero(~held_out if split == "train" else held_out)


def _digits(split: str, seed: int, fraction: float) -> Source:
    """scikit-learn's 1797 scans of handwritten digits, 8x8 grey pixels. "test" is the same as "validation"."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("'digits' are scikit-learn's: pip install 'kresnet[examples]'") from error
    digits = load_digits()
    labels = digits.target.astype("int64")
    chosen = _split(labels, split, seed, fraction)
    pixels = np.round(digits.images * 255 / 16).astype("uint8")[..., None]
    names = tuple(str(name) for name in digits.target_names)
    return Source("digits", names, len(chosen), labels[chosen], pixels=pixels[chosen])


def listed(folder: Path) -> Source:
    """Lists all images of a folder that holds one subfolder per class, or of a split of a packed folder.

    Raises:
        ValueError: if there are fewer than two classes, or one has no images.
    """
    if shards.is_packed(folder):
        packed = shards.Shards(folder)
        common = {"labels": packed.labels, "paths": packed.paths, "packed": packed, "left_out": packed.left_out}
        return Source(str(folder), packed.class_names, len(packed.labels), **common)
    found = folders.classes(folder)
    checks.require(len(found) > 1, f"{folder} holds one class only; a classifier needs at least two", classes=[*found])
    empty = [name for name, files in found.items() if not files.images]
    checks.require(
        not empty, f"{folder} has classes without an image; `kresnet check-data` says what they hold", empty=empty
    )
    paths = np.array([os.fsencode(path) for _, path in folders.walked(found)])  # a name need not be text
    labels = np.repeat(np.arange(len(found)), [len(files.images) for files in found.values()])
    left_out = Counter(reason for files in found.values() for _, reason in files.left_out)
    del left_out[folders.HIDDEN]  # nobody misses them
    if beside := folders.beside_classes(folder):
        left_out["images beside the classes' folders"] = len(beside)
    said = folders.left_out(left_out, folder)
    return Source(str(folder), tuple(found), len(paths), labels, paths=paths, left_out=said)


def _folder(folder: Path, split: str, seed: int, fraction: float) -> Source:
    splits = folders.split_folders(folder)
    if "" in splits:
        wanted = splits[""]
    else:
        wanted = splits.get(split) or (splits.get("validation") if split == "test" else None)
        checks.require(wanted, f"{folder} has the splits {', '.join(splits)}", split=split)
    found = listed(wanted)
    return found.only(_split(found.labels, split if "" in splits else "all", seed, fraction))


def _tfds(name: str, split: str, fraction: float, data_dir: Any) -> Source:
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(f"tfds:{name} needs tensorflow-datasets: pip install 'kresnet[datasets]'") from error
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except Exception as error:  # of many kinds, for names that are none
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ValueError(f"tensorflow-datasets has no such dataset: {first} Received: 'tfds:{name}'") from None
    keys = builder.info.supervised_keys
    features = builder.info.features
    ok = (
        keys
        and isinstance(features[keys[0]], tfds.features.Image)
        and isinstance(features[keys[1]], tfds.features.ClassLabel)
    )
    checks.require(bool(ok), "The dataset must consist of images, each with one class", source=f"tfds:{name}")
    builder.download_and_prepare()
    wanted = _tfds_split(list(builder.info.splits), split, fraction)

    def stream() -> Any:
        data = builder.as_dataset(split=wanted, shuffle_files=False, decoders={keys[0]: tfds.decode.SkipDecoding()})
        return data.map(lambda example: (example[keys[0]], example[keys[1]]))

    try:
        count = int(stream().cardinality())
    except (KeyError, ValueError) as error:
        known = ", ".join(builder.info.splits)
        raise ValueError(f"tfds:{name} has the splits {known}: {error}. Received: {split=}") from None
    names = tuple(features[keys[1]].names)
    shape = features[keys[0]].shape
    common = {"name": f"tfds:{name} {wanted}", "class_names": names, "count": count}
    if None in shape or count * np.prod(shape) > IN_MEMORY:
        return Source(**common, stream=stream)
    pixels, labels = np.empty((count, *shape), "uint8"), np.empty(count, "int64")
    for i, (encoded, label) in enumerate(stream().as_numpy_iterator()):
        pixels[i], labels[i] = _small_image(encoded, shape, f"{common['name']}[{i}]"), label
    return Source(**common, labels=labels, pixels=pixels)


def _small_image(encoded: bytes, shape: tuple[int, ...], name: str) -> np.ndarray:
    """Decodes an image with as many channels as the dataset's images have, which may be grey."""
    from PIL import Image

    if shape[2] == 3:
        return images.decode(encoded, name)
    with Image.open(io.BytesIO(encoded)) as image:
        return np.asarray(image.convert({1: "L", 4: "RGBA"}[shape[2]])).reshape(shape)


def _tfds_split(available: list[str], split: str, fraction: float) -> str:
    """Translates a split for tensorflow-datasets. If the dataset has only "train", its last part is held out."""
    if not available or split in available or "[" in split or "+" in split:
        only_train = split == "train" and not {"validation", "test"} & set(available)
        return f"train[:{round(100 * (1 - fraction))}%]" if only_train else split
    for other in ("validation", "test") if split in ("validation", "test") else ():
        if other in available:
            return other
    if split in ("validation", "test") and "train" in available:
        return f"train[{round(100 * (1 - fraction))}%:]"
    return "+".join(available) if split == "all" else split
