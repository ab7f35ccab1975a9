"""Time and memory as the work grows: a step, an evaluation, a report and an export, along one size at a time.

    python benchmarks/growth.py [--axes depth width resolution classes images] [--tasks ...] [--out growth.png]

A ResNet-20 of 10 classes, for 32x32 pixels, with 500 images to work with, grows in one of these. Each point is measured
in a process of its own: the processor's seconds, of a step and an evaluation once they are warm, and by how much the
process's largest memory exceeds that before the network was built.

The exponent is the slope of the last two points in logarithms. 1 is in proportion to the work: to the size itself, or
for width and resolution, with whose squares the arithmetic grows, to that square. What exceeds 1.1 is marked.
"""

import argparse
import json
import math
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

from rich.progress import track

AXES = {
    "depth": (3, 9, 27, 54),  # blocks in each stage
    "width": (1, 2, 4, 8),
    "resolution": (32, 64, 128, 256),
    "classes": (10, 100, 1000, 10_000),
    "images": (500, 2000, 8000, 32_000),
}
POWER = {"width": 2, "resolution": 2}
TASKS = ("step", "evaluate", "report", "export")
LIMIT = 1.1


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB


def measure(task, axis, value):
    """Returns the seconds and bytes of one task, in this process."""
    import numpy as np
    import tensorflow as tf

    import kresnet
    from kresnet.evaluation import report

    size = {"depth": 3, "width": 1, "resolution": 32, "classes": 10, "images": 500} | {axis: value}
    pixels, classes, repeats = size["resolution"], size["classes"], size["images"] // 500
    before = peak()
    model = kresnet.ResNet20(
        depths=(size["depth"],) * 3,
        widths=tuple(width * size["width"] for width in (16, 32, 64)),
        input_shape=(pixels, pixels, 3),
        classes=classes,
    )
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (500, pixels, pixels, 3), "uint8")
    y = np.arange(500) % classes

    def evaluate():
        data = tf.data.Dataset.from_tensor_slices((x, y)).repeat(repeats).batch(32)
        kresnet.evaluate(model, data, verbose=False)

    def write_report():
        labels = np.tile(y, repeats)
        scores = np.full((len(labels), classes), 0.5 / classes, "float32")
        scores[np.arange(len(labels)), (labels + (random.random(len(labels)) < 0.3)) % classes] += 0.5
        with tempfile.TemporaryDirectory() as folder:
            report.write(
                pathlib.Path(folder) / "report.html",
                model=model,
                images=lambda indices: x[indices % 500],
                labels=labels,
                class_names=[f"class {i}" for i in range(classes)],
                history={},
                probabilities=scores,
            )

    def export():
        with tempfile.TemporaryDirectory() as folder:
            kresnet.export(model, pathlib.Path(folder) / "x.tflite", latency=False)

    model.compile("sgd", "sparse_categorical_crossentropy")
    run = {
        "step": lambda: model.train_on_batch(x[:32], y[:32]),
        "evaluate": evaluate,
        "report": write_report,
        "export": export,
    }[task]
    if task in ("step", "evaluate"):
        run()
    start = time.process_time()
    run()
    return {"seconds": time.process_time() - start, "bytes": peak() - before}


def alone(task, axis, value):
    command = [sys.executable, __file__, "--point", task, axis, str(value)]
    done = subprocess.run(command, env={"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def exponent(axis, values, numbers):
    """Returns the power of the work with which the last two numbers grow."""
    return math.log(numbers[-1] / numbers[-2]) / math.log(values[-1] / values[-2]) / POWER.get(axis, 1)


def draw(found, path):
    import matplotlib.pyplot as plt

    axes = list(dict.fromkeys(axis for axis, _ in found))
    figure, rows = plt.subplots(2, len(axes), figsize=(3.2 * len(axes), 6), squeeze=False, layout="constrained")
    for column, axis in enumerate(axes):
        for row, (what, unit, factor) in enumerate((("seconds", "seconds", 1), ("bytes", "MiB", 2**-20))):
            plot = rows[row][column]
            for (of, task), points in found.items():
                if of == axis:
                    plot.loglog(list(points), [point[what] * factor for point in points.values()], "o-", label=task)
            plot.set(xlabel=axis, ylabel=unit)
    rows[0][0].legend()
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--axes", nargs="+", choices=AXES, default=list(AXES))
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--points", type=int, default=4, help="of each axis, from its smallest")
    parser.add_argument("--out", default="growth.png", help="the picture")
    parser.add_argument("--point", nargs=3, help=argparse.SUPPRESS)  # a child's
    options = parser.parse_args()
    if options.point:
        task, axis, value = options.point
        print(json.dumps(measure(task, axis, int(value))))
        return
    # A step sees one batch, and the file of a network no image at all.
    rows = [(a, t) for a in options.axes for t in options.tasks if a != "images" or t in ("evaluate", "report")]
    found = {}
    for axis, task in track(rows, "Measuring", transient=True):
        found[axis, task] = {value: alone(task, axis, value) for value in AXES[axis][: options.points]}
    print(f"{'':28} {'seconds':>36}  exponent {'MiB':>24}  exponent")
    for (axis, task), points in found.items():
        cells = []
        for what, form, factor in (("seconds", "8.2f", 1), ("bytes", "6.0f", 2**-20)):
            numbers = [max(point[what], 1e-9) * factor for point in points.values()]
            power = exponent(axis, list(points), numbers)
            cells.append(" ".join(f"{n:{form}}" for n in numbers) + f"  {power:6.2f}{' *' if power > LIMIT else '  '}")
        print(f"{axis:12} {task:10} {'  '.join(cells)}", flush=True)
    draw(found, options.out)
    print(f"{options.out} draws them. * grows faster than the work.")


if __name__ == "__main__":
    main()
