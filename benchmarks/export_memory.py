"""Peak memory of exporting a ResNet-50 to a float32 .tflite: `kresnet.export` beside TensorFlow's converter alone.

    python benchmarks/export_memory.py [--rounds 3] [--latency]

Each side builds the network and writes the file in a process of its own, in turn. The plain side is
`tf.lite.TFLiteConverter.from_keras_model(model).convert()`, written to disk, without any check. Ours folds, converts,
writes, checks and proves; the latency is left out unless asked for. Measured is the process's largest resident set
(`ru_maxrss`), in GB (10^9 bytes); printed are each side's median, least and most, and the ratio of the medians.
Takes 1 to 2 minutes a round.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

SIDES = ("plain", "ours")


def export(side: str, path: Path, latency: bool) -> None:
    """Builds a ResNet-50 and writes it to `path`."""
    import kresnet

    model = kresnet.ResNet50()
    if side == "ours":
        kresnet.export(model, path, latency=latency)
        return
    import tensorflow as tf

    path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())


def peak(side: str, latency: bool) -> float:
    """Returns the peak resident memory of one side's process, in GB."""
    command = [sys.executable, __file__, "--side", side, *(["--latency"] if latency else [])]
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(done.stdout.split()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="processes of each side")
    parser.add_argument("--latency", action="store_true", help="let ours measure the latency too")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)  # a child's
    options = parser.parse_args()
    if options.side:
        with tempfile.TemporaryDirectory() as folder:
            export(options.side, Path(folder) / "x.tflite", options.latency)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9)  # Linux counts in KiB
        return
    peaks: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(options.rounds):
        for side in SIDES:
            peaks[side].append(peak(side, options.latency))
    medians = {side: statistics.median(values) for side, values in peaks.items()}
    for side, values in peaks.items():
        print(f"{side:6} {medians[side]:.2f} GB ({min(values):.2f} to {max(values):.2f}, {len(values)} rounds)")
    print(f"ours / plain: {medians['ours'] / medians['plain']:.2f}")


if __name__ == "__main__":
    main()
