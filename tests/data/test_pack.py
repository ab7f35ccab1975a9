"""Packed folders: the same batches as of the folder, written whole or not at all."""

import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from pictures import encoded, picture, write_folder

from kresnet import cli, data
from kresnet.data import shards, sources
from kresnet.data.pack import pack

SIZE = 32


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data") / "photos", count=10)


@pytest.fixture
def packed(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD", 60_000)
    return pack(photos, tmp_path / "packed")


def batches(source, *arguments, **options):
    return [(np.asarray(x), np.asarray(y)) for x, y in data.load(source, *arguments, **options)]


def assert_equal(some, others):
    for (x, y), (u, v) in zip(some, others, strict=True):
        np.testing.assert_array_equal(x, u)
        np.testing.assert_array_equal(y, v)


def test_batches_are_the_folders(photos, packed):
    assert len(list(packed.glob("*.tfrecord"))) > 2
    for split, how in (("train", {"augment": "inception", "seed": 3}), ("validation", {"split_seed": 1})):
        assert_equal(batches(photos, split, SIZE, 4, **how), batches(packed, split, SIZE, 4, **how))
    loaded, kept = data.load(photos, "all", SIZE, 4), data.load(packed, "all", SIZE, 4)
    assert (kept.class_names, kept.examples, kept.left_out) == (loaded.class_names, loaded.examples, None)
    assert [os.path.relpath(path, packed) for path in kept.file_paths] == [
        os.path.relpath(path, photos) for path in loaded.file_paths
    ]
    whole = zip(*(sources.decoders(sources.find(source, "validation")) for source in (photos, packed)), strict=True)
    for (decode, label), (decode_packed, label_packed) in whole:
        assert label == label_packed
        np.testing.assert_array_equal(decode(), decode_packed())


def test_records_are_what_others_read(photos, packed):
    kinds = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/class/label": tf.io.FixedLenFeature([], tf.int64),
        "image/class/text": tf.io.FixedLenFeature([], tf.string),
        "image/filename": tf.io.FixedLenFeature([], tf.string),
    }
    names = sorted(map(str, packed.glob("*.tfrecord")))
    found = [tf.io.parse_single_example(record, kinds) for record in tf.data.TFRecordDataset(names)]
    assert len(found) == 30
    for one in found:
        path = photos / one["image/filename"].numpy().decode()
        assert path.read_bytes() == one["image/encoded"].numpy()
        assert path.parent.name == one["image/class/text"].numpy().decode()
        assert sorted(os.listdir(photos)).index(path.parent.name) == one["image/class/label"]


def test_splits_broken_files_and_odd_names(tmp_path):
    folder = tmp_path / "photos"
    for split in ("train", "Val"):
        write_folder(folder / split, 3)
    odd = os.fsencode(folder / "train" / "red") + b"/\xff.jpg"
    for path in (odd, os.fsencode(folder / "train" / "blue" / "a-cut.jpg")):
        with open(path, "wb") as file:
            file.write(encoded(picture("red"))[:-300] if path != odd else encoded(picture("red")))
    (folder / "train" / "red" / "empty.png").touch()
    (folder / "train" / "red" / "a.heic").write_bytes(b"x")
    out = pack(folder)
    assert out == tmp_path / "photos-packed"
    assert json.loads((out / "packed.json").read_text())["images"] == {"train": 12, "validation": 9}
    options = {"on_error": "skip", "shuffle": False, "drop_remainder": False}
    some, others = (data.load(source, "train", SIZE, 4, **options) for source in (folder, out))
    assert_equal(some, others)
    assert "1 .heic files" in some.left_out
    assert others.left_out == some.left_out
    assert others.skipped == [path.replace(str(folder), str(out)) for path in some.skipped]
    assert [os.path.basename(path) for path in others.skipped] == ["a-cut.jpg", "empty.png"]
    assert os.fsencode(others.file_paths[-1]).endswith(b"train/red/\xff.jpg")
    assert data.load(out, "validation", SIZE, 4).examples == 9
    with pytest.raises(Exception, match=f"{out}/train/blue/a-cut.jpg: not a complete image"):
        batches(out, "train", SIZE, 4, shuffle=False)


def test_it_is_written_whole_or_not_at_all(photos, tmp_path):
    folder = shutil.copytree(photos, tmp_path / "photos")
    out = tmp_path / "packed"
    (folder / "red" / "gone.jpg").symlink_to(tmp_path / "nothing")
    with pytest.raises(OSError, match=r"red/gone\.jpg"):
        pack(folder, out)
    assert sorted(os.listdir(tmp_path)) == ["photos"]
    (folder / "red" / "gone.jpg").unlink()
    assert cli.main(["data", "pack", str(folder), "--out", str(out)]) == 0
    (folder / "red" / "gone.jpg").symlink_to(tmp_path / "nothing")
    with pytest.raises(OSError, match=r"red/gone\.jpg"):
        pack(folder, out)
    assert sources.find(out, "all").count == 30  # the old one
    (folder / "red" / "gone.jpg").unlink()
    (folder / "red" / "0.jpg").unlink()
    assert sources.find(pack(folder, out), "all").count == 29
    assert sorted(os.listdir(tmp_path)) == ["packed", "photos"]


def test_what_is_refused(photos, packed, tmp_path, capsys):
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").touch()
    for arguments, said in (
        ((packed, tmp_path / "again"), "The folder is packed already. Received: folder="),
        ((photos, photos / "packed"), "must not lie in the folder. Received: out="),
        ((photos, full), "holds something other than a packed folder"),
        ((tmp_path / "none",), "no such folder. Received: "),
        ((full,), "must hold one folder for each class. Received: "),
    ):
        with pytest.raises(ValueError, match=said):
            pack(*arguments)
    assert cli.main(["data", "pack", str(packed)]) == 2
    assert "packed already" in capsys.readouterr().err


def test_damage_is_told(packed):
    shard, index = packed / "00001.tfrecord", packed / "index.npz"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-100])
    with pytest.raises(ValueError, match=rf"{shard} has {len(whole) - 100} bytes of {len(whole)}: copy it anew"):
        data.load(packed, "all", SIZE, 4)
    shard.unlink()
    with pytest.raises(ValueError, match=f"{shard} has 0 bytes"):
        data.load(packed, "all", SIZE, 4)
    shard.write_bytes(bytes(len(whole)))  # zeros, as after a crash: the images in it are named, the others come
    loaded = data.load(packed, "all", SIZE, 4, on_error="skip")
    assert sum(len(x) for x, _ in loaded) == 30 - len(loaded.skipped) < 30
    with np.load(index) as kept:
        fields = dict(kept)
    about = json.loads(str(fields["about"]))
    np.savez(index, **fields | {"about": np.array(json.dumps(about | {"format": 99}))})
    with pytest.raises(ValueError, match="Another version of kresnet packed this folder"):
        data.load(packed, "all", SIZE, 4)
    index.write_bytes(index.read_bytes()[:200])
    with pytest.raises(ValueError, match="index of a packed folder is damaged, pack it anew: "):
        data.load(packed, "all", SIZE, 4)
