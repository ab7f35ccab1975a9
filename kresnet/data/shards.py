"""Folders packed into a few large files, for disks on which a million small ones are slow to list and to open.

The files are TFRecords of `tf.train.Example`, as any reader of ImageNet takes them. An index beside them says where in
them each image's bytes lie: images come in the same order as from the folder, shuffled through all of it, and the index
is read in the time in which a folder of a thousand images is listed.
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from kresnet import checks, files, progress

MARK = "packed.json"  # every packed folder has it
INDEX = "index.npz"  # every split of one has it
FORMAT = 1

# Bytes from which on a file is followed by another: large for a disk, and few enough files to keep all open.
SHARD = 2**30

# Images that are read at a time.
AT_A_TIME = 8

_FRAME = 12, 4  # bytes before and behind each record of a TFRecord: its length, and checksums


class Shards:
    """The images of one split of a packed folder.

    Args:
        folder: the split's folder, which holds an index.

    Attributes:
        class_names: in the order of the labels.
        labels: int64, (count,).
        paths: bytes, (count,): the packed folder's path, and in it the name that the file had in its folder. There is
            no such file.
        left_out: as `Source.left_out`, from when the folder was packed.
        threads: in which to read.

    Raises:
        ValueError: if the index or a file is damaged, or another version's.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        folder = Path(folder)
        try:
            with np.load(folder / INDEX, allow_pickle=False) as index:
                kept = {name: index[name] for name in index.files}
            about = json.loads(str(kept["about"]))
            known = about["format"] == FORMAT
            self._shard, self._offset, self._length = kept["shard"], kept["offset"], kept["length"]
            self.labels: np.ndarray = kept["label"]
            names = kept["names"].tobytes().split(b"\0")
        except OSError:
            raise
        except Exception as error:  # of many kinds, for a zip file cut short
            said = f"The index of a packed folder is damaged, pack it anew: {error}"
            raise ValueError(f"{said}. Received: {str(folder / INDEX)!r}") from None
        checks.require(known, "Another version of kresnet packed this folder: pack it anew", folder=str(folder))
        self.class_names: tuple[str, ...] = tuple(about["class_names"])
        self.left_out: str | None = about["left_out"]
        self.paths = np.array([os.path.join(os.fsencode(folder), name) for name in names])
        self._files = []
        for name, size in about["shards"].items():
            there = (folder / name).stat().st_size if (folder / name).exists() else 0
            checks.require(
                there == size, f"{folder / name} has {there} bytes of {size}: copy it anew", folder=str(folder)
            )
            self._files.append(os.open(folder / name, os.O_RDONLY))
            weakref.finalize(self, os.close, self._files[-1])
        # A slow disk answers many questions in the time of one.
        self.threads = concurrent.futures.ThreadPoolExecutor(AT_A_TIME, "kresnet-read")

    def read(self, i: int) -> bytes:
        """Returns the bytes of the i-th image file.

        Raises:
            OSError: if the disk fails.
        """
        return os.pread(self._files[self._shard[i]], int(self._length[i]), int(self._offset[i]))


def is_packed(folder: str | os.PathLike) -> bool:
    """Tells whether a folder is a split of a packed folder, or one without splits."""
    return Path(folder, INDEX).is_file()


def write(
    folder: Path, out: Path, class_names: tuple[str, ...], paths: np.ndarray, labels: np.ndarray, left_out: str | None
) -> None:
    """Writes a split's shards and index.

    Args:
        folder: holds the images; their paths in it are kept.
        out: the folder to write to, which is made.
        class_names, paths, labels, left_out: as of a `Source`. Files are copied as they are, broken ones too.

    Raises:
        OSError: if a file cannot be read, which it names, or the disk is full.
    """
    import tensorflow as tf

    out.mkdir(parents=True, exist_ok=True)
    shard, offset, length = [], [], []
    sizes: dict[str, int] = {}
    writer, name = None, ""
    try:
        for path, label in progress.track([*zip(paths.tolist(), labels.tolist(), strict=True)], f"Packing {folder}"):
            if writer is None or sizes[name] >= SHARD:
                if writer:
                    writer.close()
                name = f"{len(sizes):05d}.tfrecord"
                sizes[name], writer = 0, tf.io.TFRecordWriter(str(out / name))
            data = Path(os.fsdecode(path)).read_bytes()
            record = _example(data, label, class_names[label], os.path.relpath(path, os.fsencode(folder)))
            shard.append(len(sizes) - 1)
            offset.append(sizes[name] + _FRAME[0] + record.index(data))
            length.append(len(data))
            writer.write(record)
            sizes[name] += len(record) + sum(_FRAME)
    finally:
        if writer:
            writer.close()
    about = {"format": FORMAT, "class_names": class_names, "left_out": left_out, "shards": sizes}
    names = b"\0".join(os.path.relpath(path, os.fsencode(folder)) for path in paths.tolist())
    np.savez(
        out / INDEX,
        about=np.array(json.dumps(about)),
        names=np.frombuffer(names, np.uint8),
        label=labels,
        shard=np.array(shard, np.int32),
        offset=np.array(offset, np.int64),
        length=np.array(length, np.int64),
    )


def packing(out: str | os.PathLike) -> Any:
    """Yields a temporary folder to `write` to, which then takes the place of `out`: completely, or not at all.

    Raises:
        ValueError: if `out` holds something else than a packed folder.
    """
    return files.replacing_folder(out, "a packed folder", MARK)


def _example(data: bytes, label: int, text: str, name: bytes) -> bytes:
    """Returns a record with the features that ImageNet's TFRecords have."""
    import tensorflow as tf

    def feature(value: bytes) -> Any:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    features = {
        "image/encoded": feature(data),
        "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
        "image/class/text": feature(text.encode()),
        "image/filename": feature(name),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
