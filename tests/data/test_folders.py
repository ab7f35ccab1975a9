"""Folders of images as they are found on disks: links, pipes, names that are no text, files of other kinds."""

import os
import shutil
import socket

import numpy as np
import pytest
from pictures import write_folder

import kresnet
from kresnet import cli, data
from kresnet.data import folders
from kresnet.data.check import check


@pytest.fixture
def photos(tmp_path):
    return write_folder(tmp_path / "photos")


def lines(found, kind):
    return [line for line in getattr(found, kind) if line]


def test_a_whole_folder(photos):
    found = check(photos)
    assert (found.whole, found.errors, found.warnings) == (18, [], [])
    assert found.summary() == [
        "18 images of 3 classes: blue 6, green 6, red 6; largest / smallest 1.0",
        "18 whole images, 0 errors, 0 warnings",
    ]


def test_what_does_no_harm_is_a_warning(photos, capsys):
    for name in ("red/Thumbs.db", "red/.DS_Store", "blue/readme.txt", "blue/a.HEIC", "blue/b.heic", "green/c.tiff"):
        (photos / name).write_bytes(b"x")
    shutil.copy(photos / "red" / "0.jpg", photos / "red" / "copy.jpg")
    shutil.copy(photos / "red" / "1.png", photos / "lost.png")
    shutil.rmtree(photos / "green")
    (photos / "green").mkdir()
    shutil.copy(photos / "blue" / "0.jpg", photos / "green" / "only.jpg")
    (photos / "blue" / "0.jpg").unlink()
    (photos / "green" / "c.tiff").write_bytes(b"x")
    assert cli.main(["check-data", str(photos)]) == 0
    out = capsys.readouterr().out
    for expected in (
        "warning: left out, 1 hidden files: ",
        "warning: left out, 2 files that are no images: ",
        "warning: left out, 2 .heic files (convert them: heif-convert a.heic a.jpg): ",
        "warning: left out, 1 .tiff files (convert them: magick a.tiff a.png): ",
        "warning: left out, 1 images beside the classes' folders, in no class: ",
        f"warning: the same image: {photos}/red/0.jpg, {photos}/red/copy.jpg",
        "warning: green: one image, too few to split",
        "13 images of 3 classes: red 7, blue 5, green 1; largest / smallest 7.0\n",
        "13 whole images, 0 errors, 7 warnings",
    ):
        assert expected in out, expected
    said = data.load(photos, "train", 32, 4).left_out
    assert said == (
        f"Left out of {photos}: 2 .heic files (convert them: heif-convert a.heic a.jpg), 2 files that are no images, "
        "1 .tiff files (convert them: magick a.tiff a.png), 1 images beside the classes' folders; "
        "`kresnet check-data` names them."
    )


def test_what_spoils_training_is_an_error(photos, capsys):
    (photos / "red" / "cut.jpg").write_bytes((photos / "red" / "0.jpg").read_bytes()[:-200])
    (photos / "red" / "nothing.png").touch()
    (photos / "blue" / "text.jpg").write_text("no image")
    (photos / "blue" / "gone.jpg").symlink_to(photos / "moved.jpg")
    (photos / "white").mkdir()
    shutil.copy(photos / "red" / "1.png", photos / "blue" / "red.png")
    assert cli.main(["check-data", str(photos)]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == "19 whole images, 6 errors, 0 warnings"
    for name, reason in {
        "red/cut.jpg": "not a complete image",
        "red/nothing.png": "the file is empty",
        "blue/text.jpg": "not a complete image",
        "blue/gone.jpg": "a broken link",
        "white": "no image in this class",
        "blue/red.png": "the same image in two classes",
    }.items():
        assert any(line.startswith("error: ") and name in line and reason in line for line in printed), name


def test_splits_are_compared(tmp_path):
    write_folder(tmp_path / "train", 2)
    write_folder(tmp_path / "val", 2)  # the same pictures
    shutil.move(tmp_path / "val" / "red", tmp_path / "val" / "rde")
    errors = check(tmp_path).errors
    assert "train and validation have different classes; only in one: rde, red" in errors
    assert sum("the same image in two splits: " in line for line in errors) == 4
    assert sum("the same image in two classes in two splits: " in line for line in errors) == 2
    with pytest.raises(ValueError, match=r"the same classes\. Received: only_in_one=\['rde', 'red'\]"):
        kresnet.train("resnet20", tmp_path, out=tmp_path / "run", batch_size=2)


def test_links_end_and_pipes_are_not_opened(photos, tmp_path):
    for name in ("loop", "loop2"):
        (photos / "red" / name).symlink_to(".")
    (photos / "red" / "up.png").symlink_to(photos / "blue" / "1.png")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(photos / "red" / "0.jpg", elsewhere / "a.jpg")
    (elsewhere / "a.jpg").write_bytes((photos / "red" / "0.jpg").read_bytes() + b"\0")
    (photos / "blue" / "more").symlink_to(elsewhere)
    os.mkfifo(photos / "green" / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(photos / "green" / "socket.png"))
    (photos / "green" / "null.png").symlink_to("/dev/null")
    found = check(photos)
    assert found.whole == 20
    assert [line for line in found.errors if "two classes" not in line] == []
    for expected in (
        f"left out, 2 links to a folder that was read already: {photos}/red/loop, {photos}/red/loop2",
        f"left out, 1 pipes: {photos}/green/pipe.jpg",
        f"left out, 1 sockets: {photos}/green/socket.png",
        f"left out, 1 devices: {photos}/green/null.png",
        f"{photos}/blue/more: a link out of the folder, to {elsewhere}",
    ):
        assert expected in found.warnings, expected
    assert data.load(photos, "all", 32, 4, shuffle=False).examples == 20


def test_names_that_are_no_text(photos, tmp_path, capsys):
    odd = os.fsdecode(os.fsencode(photos / "red") + b"/caf\xe9.jpg")
    os.rename(photos / "red" / "0.jpg", odd)
    dataset = data.load(photos, "all", 32, 18, shuffle=False)
    assert odd in dataset.file_paths
    (x, _), *_ = dataset
    assert np.asarray(x).std((1, 2, 3)).min() > 1
    with open(odd, "ab") as file:
        file.truncate(300)
    with pytest.raises(Exception, match=r"red/caf\\xe9\.jpg: not a complete image"):
        list(data.load(photos, "all", 32, 18, shuffle=False))
    skipping = data.load(photos, "all", 32, 18, shuffle=False, on_error="skip")
    list(skipping)
    assert skipping.skipped == [odd]
    assert cli.main(["check-data", str(photos)]) == 1
    assert "red/caf\\xe9.jpg: not a complete image" in capsys.readouterr().out
    os.rename(photos / "red", os.fsdecode(os.fsencode(photos) + b"/r\xe9d"))
    with pytest.raises(ValueError, match=r"must be UTF-8: rename the folder\. Received: .*r\\xe9d"):
        folders.classes(photos)


def test_folders_without_classes_are_refused(photos, tmp_path):
    file = photos / "red" / "0.jpg"
    (tmp_path / "empty").mkdir()
    for folder, message in (
        ("nowhere", r"no such folder\. Received: 'nowhere'"),
        (tmp_path / "empty", "one folder for each class. Received"),
        (photos / "red", "one folder for each class; it holds 6 images itself: move them"),
        (file, "a file, not a folder"),
    ):
        for use in (check, lambda folder: data.load(folder, "train", 32)):
            with pytest.raises(ValueError, match=message):
                use(folder)
