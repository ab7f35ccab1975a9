"""Searches for the most accurate network that answers within a latency, on photographs, and trains what it found.

The photographs are those of scikit-learn and scikit-image, eight classes: networks train on crops of their left three
fifths, are chosen by crops of the next fifth, and are compared at the end on crops of the last, which the search has
not seen. Takes at most 25 minutes on two cores; after Ctrl-C the same call goes on. On the command line:

    kresnet search --space mobile --data searches/photos --latency-ms 0.5 --hours 0.3 --out searches/own
    kresnet train searches/own/best --data searches/photos --out runs/own

    python examples/architecture_search.py [--trials 24] [--epochs 9] [--latency-ms 0.15]
"""

import argparse
import pathlib

import keras
import numpy as np
import skimage
import sklearn.datasets
from PIL import Image

import kresnet
from kresnet import search
from kresnet.evaluation.intervals import wilson

OUT, SIZE = pathlib.Path("searches"), 48
CLASSES = {
    "astronaut": skimage.data.astronaut(),
    "cat": skimage.data.chelsea(),
    "coffee": skimage.data.coffee(),
    "flower": sklearn.datasets.load_sample_image("flower.jpg"),
    "grass": np.stack([skimage.data.grass()] * 3, -1),
    "gravel": np.stack([skimage.data.gravel()] * 3, -1),
    "palace": sklearn.datasets.load_sample_image("china.jpg"),
    "rocket": skimage.data.rocket(),
}
# Where a split's crops are cut, as shares of the width, and how many of a class.
SPLITS = {"train": (0.0, 0.6, 48), "validation": (0.6, 0.8, 48), "test": (0.8, 1.0, 48)}
# MobileNetV2 for images of 48 pixels: rows (t, c, n, s).
TABLE = [(1, 16, 1, 1), (4, 24, 1, 2), (4, 32, 2, 2), (4, 48, 1, 2)]
FIXED = {"table": TABLE, "stem_width": 16, "head_width": 128}


def write_crops(folder):
    """Writes a folder a split and class, of crops that are 48 pixels wide and high."""
    for number, (name, photo) in enumerate(CLASSES.items()):
        for split, (left, right, count) in SPLITS.items():
            draws = np.random.default_rng([number, len(split)])
            part = photo[:, round(left * photo.shape[1]) : round(right * photo.shape[1])]
            (folder / split / name).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                side = int(min(part.shape[:2]) * draws.uniform(0.4, 1))
                y, x = (draws.integers(0, length - side + 1) for length in part.shape[:2])
                crop = Image.fromarray(part[y : y + side, x : x + side]).resize((SIZE, SIZE))
                crop.save(folder / split / name / f"{i}.png")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=9, help="of a network while it is searched for")
    parser.add_argument("--latency-ms", type=float, default=0.15, help="of the .tflite on this machine, one thread")
    options = parser.parse_args()
    photos = OUT / "photos"
    write_crops(photos)
    space = search.mobile(**FIXED)
    print(f"{space.size:.1e} networks")
    settings = {"batch_size": 32, "image_size": SIZE}
    found = search.run(
        space,
        str(photos),
        search.Budget(options.trials, hours=0.3),
        out=OUT / "own",
        limits={"latency_ms": options.latency_ms},
        epochs=options.epochs,
        resume=True,
        **settings,
    )
    print(f"\n{found.folder}/report.html shows all. The Pareto set, by the validation crops:")
    for trial in found.front:
        print(f"  network {trial.number}: {trial.accuracy:.1%}, {trial.costs['latency_ms']:.3f} ms")

    # What it found, trained as long as the network in the middle of the space, on crops that chose nothing.
    test = kresnet.data.load(str(photos), "test", SIZE, shuffle=False)
    table = search.LatencyTable(found.folder / "latency.json")
    for name, key, fields in (
        ("found", str(found.folder / "best"), {}),
        ("not searched", "mobilenetv2_100", FIXED),
    ):
        keras.utils.clear_session()
        run = OUT / name.replace(" ", "-")
        more = {"epochs": 3 * options.epochs, "overwrite": True, "verbose": False, "with_report": False}
        kresnet.train(key, str(photos), out=run, model_fields=fields, **settings, **more)
        result = kresnet.evaluate(run / "last.keras", test, verbose=False)
        low, high = wilson(result.correct(1), result.examples)
        milliseconds = table.milliseconds(keras.saving.load_model(run / "last.keras"))
        print(f"{name:13} {milliseconds:.3f} ms, test accuracy {result.accuracy():.1%} ({low:.1%} to {high:.1%})")


if __name__ == "__main__":
    main()
