"""What a folder of many images costs before its first batch: listing, `load`, memory; from the folder, and packed.

    python benchmarks/many_files.py [--images 100000] [--classes 1000]

Writes that many JPEGs of 32x32 pixels, and runs each step in a process of its own, which has imported all before. Times
and memory grow in proportion to the number of files; the last columns are of ImageNet's, so extrapolated.
"""

import argparse
import io
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from PIL import Image

IMAGENET = 1_281_167

STEP = """
import json, resource, sys, time
import kresnet.data.loading, kresnet.data.pack, kresnet.data.sources
import tensorflow as tf
what, folder = sys.argv[1:]
tf.data.Dataset.range(2).map(lambda x: x + 1).reduce(tf.constant(0, tf.int64), lambda x, y: x + y)
for name in ("digits",):  # what the first call imports
    next(iter(kresnet.data.load(name, "all", 32, 32)))
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, start, cpu = peak(), time.perf_counter(), time.process_time()
if what == "list":
    kept = kresnet.data.sources.find(folder, "all")
elif what == "pack":
    kresnet.data.pack.pack(folder)
else:
    kept = kresnet.data.load(folder, "all", 32, 32, shuffle=True)
    if what == "first batch":
        next(iter(kept))
print(json.dumps([time.perf_counter() - start, time.process_time() - cpu, peak() - before]))
"""


def write(folder, images, classes):
    rng = np.random.default_rng(0)
    for i in range(images):
        if i < classes:
            (folder / f"n{i:08d}").mkdir(parents=True)
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (4, 4, 3), "uint8")).resize((32, 32)).save(file, "jpeg", quality=75)
        (folder / f"n{i % classes:08d}" / f"n{i % classes:08d}_{i}.JPEG").write_bytes(file.getvalue())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--classes", type=int, default=1000)
    options = parser.parse_args()
    times = IMAGENET / options.images
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name, "train")
        write(folder, options.images, options.classes)
        print(f"{options.images} files in {options.classes} classes{'':12}s     CPU s      MB | ImageNet: s      MB")
        for what, where in (
            ("list", folder),
            ("load", folder),
            ("first batch", folder),
            ("pack", folder),
            ("load", f"{folder}-packed"),
            ("first batch", f"{folder}-packed"),
        ):
            run = subprocess.run(
                [sys.executable, "-c", STEP, what, str(where)], check=True, capture_output=True, text=True
            )
            wall, cpu, memory = json.loads(run.stdout.splitlines()[-1])
            label = f"{what}{', packed' if 'packed' in str(where) else ''}"
            print(f"{label:32}{wall:10.2f}{cpu:10.2f}{memory:8.0f} | {wall * times:11.1f}{memory * times:8.0f}")


if __name__ == "__main__":
    main()
