"""Where labelled images come from: the embedded digits, folders, tensorflow-datasets."""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kresnet import checks
from kresnet.data import images

# Sets of small images of one size, up to so many bytes, are held in memory, decoded.
IN_MEMORY = 2**30


@dataclasses.dataclass(frozen=True)
class Source:
    """One split of a labelled set: either all pixels, or all paths, or a stream of encoded images.

    Attributes:
        name: for errors.
        class_names: in the order of the labels.
        count: images.
        labels: integers, (count,), where they are known at once.
        pixels: uint8, (count, height, width, channels).
        paths: of the files, (count,).
        stream: a function without arguments that gives a `tf.data.Dataset` of (encoded image, label), always in the
            same order.
    """

    name: str
    class_names: tuple[str, ...]
    count: int
    labels: np.ndarray | None = None
    pixels: np.ndarray | None = None
    paths: np.ndarray | None = None
    stream: Callable[[], Any] | None = None


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
        split: "train", "validation" or "test"; "all" of a folder without splits and of the digits; of
            tensorflow-datasets also its own, such as "train[:10%]".
        seed: of the split, where the source has none itself.
        validation_split: the share of each class that is held out there, in (0, 1).
        data_dir: where tensorflow-datasets keeps its sets.

    Raises:
        ValueError: if there is no such source or split, or no image in a class.
    """
    checks.number("validation_split", validation_split, 1e-9, 1, "a fraction in (0, 1)")
    if str(source).startswith("tfds:"):
        return _tfds(str(source).removeprefix("tfds:"), split, validation_split, data_dir)
    checks.choice("split", split, ("train", "validation", "test", "all"))
    if str(source) == "digits":
        return _digits(split, seed, validation_split)
    return _folder(Path(source), split, seed, validation_split)


def each(source: Source) -> Iterator[tuple[Callable[[], np.ndarray], int]]:
    """Gives, in order, for each image a function that decodes it whole, and its label."""
    if source.pixels is not None:
        for pixels, label in zip(source.pixels, source.labels, strict=True):
            yield (lambda pixels=pixels: pixels), int(label)
    elif source.paths is not None:
        for path, label in zip(source.paths, source.labels, strict=True):
            yield (lambda path=path: images.decode(Path(path).read_bytes(), path)), int(label)
    else:
        for i, (encoded, label) in enumerate(source.stream().as_numpy_iterator()):
            yield (lambda encoded=encoded, i=i: images.decode(encoded, f"{source.name}[{i}]")), int(label)


def _held_out(labels: np.ndarray, split: str, seed: int, share: float) -> np.ndarray:
    """Indices of a seeded split in which every class keeps its share, rounded, and at least one image of two."""
    if split == "all":
        return np.arange(len(labels))
    rng, held = np.random.default_rng(seed), []
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        held.append(members[: min(max(1, round(share * len(members))), len(members) - 1)])
    out = np.zeros(len(labels), bool)
    out[np.concatenate(held)] = True
    return np.flatnonzero(~out if split == "train" else out)


def _digits(split: str, seed: int, share: float) -> Source:
    """scikit-learn's 1797 scans of handwritten digits, 8x8 grey pixels ("test" is "validation")."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    labels = digits.target.astype("int64")
    chosen = _held_out(labels, split, seed, share)
    pixels = np.round(digits.images * 255 / 16).astype("uint8")[..., None]
    names = tuple(str(name) for name in digits.target_names)
    return Source("digits", names, len(chosen), labels[chosen], pixels=pixels[chosen])


def _folder(folder: Path, split: str, seed: int, share: float) -> Source:
    splits = images.split_folders(folder)
    if "" in splits:
        wanted = splits[""]
    else:
        wanted = splits.get(split) or (splits.get("validation") if split == "test" else None)
        checks.require(wanted, f"{folder} has the splits {', '.join(splits)}", split=split)
    listed = {name: [path for path in files if images.is_image(path)] for name, files in _classes(wanted).items()}
    empty = [name for name, files in listed.items() if not files]
    checks.require(not empty, f"{wanted} has classes without an image: `kresnet check-data` lists them", empty=empty)
    paths = np.array([str(path) for files in listed.values() for path in files])
    labels = np.repeat(np.arange(len(listed)), [len(files) for files in listed.values()])
    chosen = _held_out(labels, split if "" in splits else "all", seed, share)
    return Source(str(wanted), tuple(listed), len(chosen), labels[chosen], paths=paths[chosen])


def _classes(folder: Path) -> dict[str, list[Path]]:
    classes = images.class_folders(folder)
    checks.require(len(classes) > 1, f"{folder} holds one class: there is nothing to tell apart", classes=[*classes])
    return classes


def _tfds(name: str, split: str, share: float, data_dir: Any) -> Source:
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(f"tfds:{name} needs tensorflow-datasets: pip install 'kresnet[datasets]'") from error
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        raise ValueError(f"tensorflow-datasets has no such set: {error} Received: 'tfds:{name}'") from None
    keys = builder.info.supervised_keys
    features = builder.info.features
    ok = (
        keys
        and isinstance(features[keys[0]], tfds.features.Image)
        and isinstance(features[keys[1]], tfds.features.ClassLabel)
    )
    checks.require(bool(ok), "Not a set of images, each of one class", source=f"tfds:{name}")
    builder.download_and_prepare()
    wanted = _tfds_split(list(builder.info.splits), split, share)

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
    """Decodes with the channels that the set has, grey ones too."""
    from PIL import Image

    if shape[2] == 3:
        return images.decode(encoded, name)
    with Image.open(io.BytesIO(encoded)) as image:
        return np.asarray(image.convert({1: "L", 4: "RGBA"}[shape[2]])).reshape(shape)


def _tfds_split(have: list[str], split: str, share: float) -> str:
    """The set's own split that stands for ours. Where it has only "train", the last part of it is held out."""
    if not have or split in have or "[" in split or "+" in split:
        alone = split == "train" and not {"validation", "test"} & set(have)
        return f"train[:{round(100 * (1 - share))}%]" if alone else split
    for other in ("validation", "test") if split in ("validation", "test") else ():
        if other in have:
            return other
    if split in ("validation", "test") and "train" in have:
        return f"train[{round(100 * (1 - share))}%:]"
    return "+".join(have) if split == "all" else split
