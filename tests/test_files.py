"""Files and folders are replaced completely or not at all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kresnet.files import replacing, replacing_csv, replacing_folder


def test_a_new_file_replaces_the_old_one(tmp_path):
    file = tmp_path / "new" / "x.weights.h5"
    for content in (b"one", b"two"):
        with replacing(file) as temporary:
            assert temporary.parent == file.parent
            assert temporary.name.endswith(".x.weights.h5")
            temporary.write_bytes(content)
        assert file.read_bytes() == content
        assert list(file.parent.iterdir()) == [file]


def test_a_csv_keeps_the_bytes_of_names_that_are_no_text(tmp_path):
    with replacing_csv(tmp_path / "x.csv") as writer:
        writer.writerow((os.fsdecode(b"caf\xe9.jpg"), "ü"))
    assert (tmp_path / "x.csv").read_bytes() == b"caf\xe9.jpg,\xc3\xbc\r\n"


def test_a_full_disk_keeps_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "x.txt"
    file.write_text("old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"), replacing(file) as temporary:
        temporary.write_text("new")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_kill_keeps_the_old_file(tmp_path):
    file = tmp_path / "x.txt"
    file.write_text("old")
    code = f"""
import os, signal
from kresnet.files import replacing
with replacing({str(file)!r}) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    # Under the name of the command, kresnet does not import Keras, which is not needed here.
    done = subprocess.run([sys.executable, "-c", f"import sys; sys.argv = ['kresnet']\n{code}"])
    assert done.returncode == -9
    assert file.read_text() == "old"


# In turn: the old folder is moved away, the new one is moved in, and if that fails the old one is moved back.
@pytest.mark.parametrize("allowed", [(True, False, True), (True, False, False)], ids=["back", "not even back"])
def test_a_failing_replacement_of_a_folder_loses_nothing(tmp_path, monkeypatch, allowed):
    folder, rename, turns = tmp_path / "x", Path.rename, iter(allowed)
    folder.mkdir()
    (folder / "mark").write_text("old")

    def sometimes(path, target):
        if not next(turns):
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", sometimes)
    with pytest.raises(OSError, match="Input/output"), replacing_folder(folder, "a thing", "mark") as temporary:
        (temporary / "new").mkdir(parents=True)
    (kept,) = tmp_path.iterdir()
    assert (kept / "mark").read_text() == "old"
    assert (kept == folder) == all(allowed[2:])
