"""A training step with and without `Network.rematerialize`: peak memory above what the built network takes, and time.

Each pair runs in processes of its own, one after the other, on the backend of KERAS_BACKEND.

    python benchmarks/remat.py [KEY ...] [--batch-size 16] [--size 224]
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

from rich.progress import track

STEPS = 5


def measured(key: str, batch_size: int, size: int, remat: bool) -> tuple[float, float]:
    """Returns a step's peak in GB and its median in seconds, compilation left out of the second."""
    import keras
    import numpy as np

    import kresnet

    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (batch_size, size, size, 3)).astype("uint8")
    labels = draw.integers(0, 10, batch_size)
    model = kresnet.create_model(key, input_shape=(size, size, 3), classes=10)
    if remat:
        model.rematerialize()
    model.compile(keras.optimizers.SGD(0.01), loss="sparse_categorical_crossentropy")
    before, times = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
    for _ in range(1 + STEPS):
        start = time.perf_counter()
        model.train_on_batch(images, labels)
        times.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # in KiB, on Linux
    return peak * 1024 / 1e9, statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("keys", nargs="*", default=["densenet121", "resnet50"], metavar="KEY")
    parser.add_argument("--batch-size", type=int, default=16, metavar="IMAGES")
    parser.add_argument("--size", type=int, default=224, metavar="PIXELS")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measured(options.keys[0], options.batch_size, options.size, options.child == "remat")))
        return
    cases = [(key, mode) for key in options.keys for mode in ("plain", "remat")]
    found = {}
    for key, mode in track(cases, "Training"):
        sizes = ["--batch-size", str(options.batch_size), "--size", str(options.size)]
        command = [sys.executable, __file__, key, *sizes, "--child", mode]
        found[key, mode] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(f"{'network':20}{'GB':>8}{'remat':>8}{'ratio':>8}{'s/step':>10}{'remat':>8}{'ratio':>8}")
    for key in options.keys:
        (memory, step), (less, longer) = found[key, "plain"], found[key, "remat"]
        print(f"{key:20}{memory:8.2f}{less:8.2f}{less / memory:8.2f}{step:10.2f}{longer:8.2f}{longer / step:8.2f}")


if __name__ == "__main__":
    main()
