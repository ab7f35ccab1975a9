"""What networks take on this machine, side by side: each as a float32 .tflite, one image, one thread."""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import keras

from kresnet.data.samples import natural_images
from kresnet.deploy.export import export
from kresnet.inference.tflite_file import TFLiteFile
from kresnet.progress import track

# All take turns, so that what else the machine does meanwhile meets all alike. A file is opened for each of its turns
# alone: the largest hold a gigabyte.
TURNS, RUNS, SECONDS = 5, 10, 2
_WARM_UPS = 2


def milliseconds(builds: Sequence[Callable[[], keras.Model]]) -> list[float]:
    """Exports networks and times them.

    Each takes `TURNS` turns of `RUNS` runs in a row, as an app would run it, or of `SECONDS` at most, after two that do
    not count. The files, of 4 bytes a parameter, lie in the folder for temporary files meanwhile.

    Args:
        builds: functions that build the networks, which take pixels at a fixed size. One network is held at a time.

    Returns:
        The median of each network's runs, in milliseconds.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{i}.tflite") for i in range(len(builds))]
        for build, path in track(list(zip(builds, paths, strict=True)), "Exporting"):
            model = build()
            # One image is compared: an export needs some, and this is of no trained network.
            export(model, path, verify=natural_images(1, model.input_shape[1:]), latency=False)
        times: list[list[float]] = [[] for _ in paths]
        turns = [i for _ in range(TURNS) for i in random.sample(range(len(paths)), len(paths))]
        for i in track(turns, "Measuring"):
            times[i] += _turn(paths[i])
    return [round(1e3 * statistics.median(seconds), 3) for seconds in times]


def _turn(path: Path) -> list[float]:
    """Returns the seconds of a file's runs in one turn, at least one."""
    file = TFLiteFile(path, threads=1)
    image = natural_images(1, file.image_shape)
    for _ in range(_WARM_UPS):
        file(image)
    seconds: list[float] = []
    while len(seconds) < RUNS and sum(seconds) < SECONDS:
        start = time.perf_counter()
        file(image)
        seconds.append(time.perf_counter() - start)
    return seconds
