"""Benchmarks that must not wait for a GPU, or for an hour, to be found broken."""

import pathlib
import re
import subprocess
import sys

import pytest

BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"


@pytest.mark.thorough
def test_five_kills(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setenv("PYTHONPATH", str(BENCHMARKS))  # of the processes that are killed
    from kill_and_resume import survive

    found = survive(tmp_path, "kresnet", kills=5, epochs=2)
    assert sum(count for count, _ in found) == 5
    assert all(wrong is None for _, wrong in found), found


@pytest.mark.thorough
def test_a_few_of_what_must_be_survived():
    command = [sys.executable, str(BENCHMARKS / "survival.py"), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = re.findall(r"^(\S.*?) +\| +(\d+) \| +(\d+)$", done.stdout, re.MULTILINE)
    assert len(rows) == 7
    assert all(tried == survived != "0" for _, tried, survived in rows), done.stdout


@pytest.mark.thorough
def test_gpu():
    options = "ResNet20:2 --size=32 --steps=1 --windows=1 --rounds=1 --loops kresnet keras.applications".split()
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^ResNet20, batches of 2\n  kresnet +[\d.]+ images/s", done.stdout, re.MULTILINE), done.stdout
    assert re.search(r"floor: \d+ MiB an image.*kresnet reaches \d+% of it", done.stdout), done.stdout
    assert "failed" not in done.stdout, "keras.applications has no such network, and is left out"


@pytest.mark.thorough
def test_peers():
    options = [*"resnet20 --size=32 --rounds=1 --peers kresnet keras.applications".split(), "kresnet, folded"]
    command = [sys.executable, str(BENCHMARKS / "peers.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for row, unit in [("training step, 32 images", "ms"), ("inference, 1 image", "ms"), ("peak memory", "MiB")]:
        assert re.search(rf"^  {row} +kresnet +[\d.]+ {unit} .*1\.00$", done.stdout, re.MULTILINE), done.stdout
    assert "keras.applications left out: KeyError: 'resnet20'" in done.stdout
