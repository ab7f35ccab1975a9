"""The benchmark that needs a GPU runs without one, so that it still stands when one is at hand."""

import pathlib
import re
import subprocess
import sys

import pytest

BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"


@pytest.mark.slow
def test_gpu():
    options = "ResNet20:2 --size=32 --steps=1 --windows=1 --rounds=1 --loops kresnet keras.applications".split()
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^ResNet20, batches of 2\n  kresnet +[\d.]+ images/s", done.stdout, re.MULTILINE), done.stdout
    assert re.search(r"floor: \d+ MiB an image.*kresnet reaches \d+% of it", done.stdout), done.stdout
    assert "failed" not in done.stdout, "keras.applications has no such network, and is left out"
