"""Files and folders are replaced completely or not at all."""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kresnet import files
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
    with pytest.raises(OSError, match=rf"No space left on device: '{file}'"), replacing(file) as temporary:
        temporary.write_text("new")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_full_disk_is_named_by_the_path_whatever_writes(tmp_path):
    """Writing itself names no file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    file = tmp_path / "x.csv"
    file.write_text("old")
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))  # Python passes over the signal
    try:
        with pytest.raises(OSError, match=rf"too large: '{file}'"), replacing_csv(file) as writer:  # noqa: PT012
            for i in range(10_000):
                writer.writerow((i, i))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
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


# Calls the step of a write that its number names, or is killed there; then what the child is to do.
STEP = """
import os, signal, sys
sys.argv = ["kresnet"]  # under this name kresnet does not import Keras, which is not needed here
import pathlib
from kresnet import files
turn, count = int(os.environ["TURN"]), 0
def step():
    global count
    count += 1
    if count == turn:
        os.kill(os.getpid(), signal.SIGKILL)
def stepping(run):
    def stepped(*arguments, **options):
        step()
        done = run(*arguments, **options)
        step()
        return done
    return stepped
for owner, names in ((os, ("replace", "rename", "fsync", "unlink", "rmdir")), (files, ("_swapped",))):
    for name in names:
        setattr(owner, name, stepping(getattr(owner, name)))
if os.environ.get("NO_EXCHANGE"):
    files._swapped = lambda one, other: False
"""
FILE = """
with files.replacing(pathlib.Path("x.txt")) as temporary:
    step()
    temporary.write_text("new")
    step()
"""
FOLDER = """
with files.replacing_folder(pathlib.Path("x"), "a thing", "mark") as temporary:
    temporary.mkdir()
    for name in ("mark", "more"):
        (temporary / name).write_text("new")
        step()
"""


def killed_at_each_step(folder, code, prepare, **environment):
    """Yields after each kill: the number of the step. Ends when none was left to be killed at."""
    for turn in range(1, 100):
        prepare()
        command = [sys.executable, "-c", STEP + code]
        done = subprocess.run(command, cwd=folder, env=os.environ | {"TURN": str(turn)} | environment)
        if done.returncode == 0:
            return
        assert done.returncode == -9
        yield turn


def test_a_kill_at_any_step_leaves_the_old_file_or_the_new(tmp_path):
    file, found = tmp_path / "x.txt", []
    for _ in killed_at_each_step(tmp_path, FILE, lambda: file.write_text("old")):
        found.append(file.read_text())
    assert found == ["old"] * (found.count("old")) + ["new"] * (found.count("new"))
    assert found.count("old") >= 5
    assert found.count("new") >= 1
    assert list(tmp_path.iterdir()) == [file], "what the killed ones left is cleared"


def prepared(folder):
    def prepare():
        folder.mkdir(exist_ok=True)
        for name in ("mark", "more"):
            (folder / name).write_text("old")

    return prepare


@pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="two folders cannot be exchanged")
def test_a_kill_at_any_step_leaves_the_old_folder_or_the_new(tmp_path):
    folder, found = tmp_path / "x", []
    for _ in killed_at_each_step(tmp_path, FOLDER, prepared(folder)):
        (content,) = {(folder / name).read_text() for name in ("mark", "more")}
        found.append(content)
    assert found == ["old"] * (found.count("old")) + ["new"] * (found.count("new"))
    assert found.count("old") >= 8
    assert found.count("new") >= 1
    assert list(tmp_path.iterdir()) == [folder]


def test_where_folders_cannot_be_exchanged_the_old_one_is_never_lost(tmp_path):
    folder, contents = tmp_path / "x", []
    for _ in killed_at_each_step(tmp_path, FOLDER, prepared(folder), NO_EXCHANGE="1"):
        whole = [one for one in tmp_path.iterdir() if len([*one.glob("*")]) == 2]
        contents.append({(one / "mark").read_text() for one in whole})
        if not folder.exists():
            (aside,) = [one for one in whole if (one / "mark").read_text() == "old"]
            with replacing_folder(tmp_path / "y", "a thing", "mark") as temporary:
                prepared(temporary)()
            assert aside.exists(), "what another process clears is not this"
            for other in (aside, tmp_path / "y"):
                files._remove(other)
    assert all(contents)


def test_a_link_to_a_folder_is_replaced_by_a_folder(tmp_path):
    prepared(tmp_path / "elsewhere")()
    (tmp_path / "x").symlink_to(tmp_path / "elsewhere")
    with replacing_folder(tmp_path / "x", "a thing", "mark") as temporary:
        temporary.mkdir()
        (temporary / "mark").write_text("new")
    assert (tmp_path / "x" / "mark").read_text() == "new"
    assert (tmp_path / "elsewhere" / "mark").read_text() == "old"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["elsewhere", "x"]


def test_the_temporaries_of_the_dead_are_cleared_and_no_others(tmp_path, monkeypatch):
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    dead, here = process.pid, files._host()
    two_days_ago = time.time() - 2 * 24 * 3600

    def left(host, process, name, old=False):
        path = tmp_path / f".kresnet-{host}-{process}-0123abcd.{name}"
        if name == "folder":
            (path / "within").mkdir(parents=True)
            (path / "within" / "file").write_text("half")
        else:
            path.write_text("half")
        if old:
            os.utime(path, (two_days_ago, two_days_ago))
        return path

    cleared = [left(here, dead, "x.keras"), left(here, dead, "folder"), left(here, 10**30, "y.keras")]
    cleared += [left("00000000", 1, "x.keras", old=True), left("00000000", 1, "folder", old=True)]
    kept = [left(here, os.getpid(), "x.keras", old=True), left(here, os.getppid(), "folder", old=True)]
    kept += [left("00000000", dead, "z.keras"), left("00000000", dead, "folder")]
    for name in (
        f".kresnet-{here}-{dead}-0123abcd",
        f"x.kresnet-{here}-{dead}-0123abcd.x",
        f".{dead}.x",
        ".0123abcd.x",
    ):
        kept.append(tmp_path / name)
        kept[-1].write_text("somebody's")
    with replacing(tmp_path / "new.txt") as temporary:
        temporary.write_text("new")
    assert not [path for path in cleared if path.exists()]
    assert all(path.exists() for path in kept)
    again = left(here, dead, "w.keras")
    listings = []
    monkeypatch.setattr(os, "listdir", listings.append)
    monkeypatch.chdir(tmp_path)
    with replacing("new.txt") as temporary:
        temporary.write_text("new")
    assert again.exists(), "a folder is looked through once"
    assert not listings


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

    monkeypatch.setattr(files, "_swapped", lambda one, other: False)
    monkeypatch.setattr(Path, "rename", sometimes)
    with pytest.raises(OSError, match="Input/output"), replacing_folder(folder, "a thing", "mark") as temporary:
        (temporary / "new").mkdir(parents=True)
    (kept,) = tmp_path.iterdir()
    assert (kept / "mark").read_text() == "old"
    assert (kept == folder) == all(allowed[2:])
