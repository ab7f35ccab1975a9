"""Time of Keras's `predict_on_batch` with batch norms folded and not, alternating in one process.

    python benchmarks/fold.py [NETWORK ...] [--batch 1] [--size 224] [--rounds 15]

Runs on whatever backend (KERAS_BACKEND) and device there is.
"""

import argparse
import functools

import numpy as np
from timing import alternate, describe

import kresnet
from kresnet.graph.fold import fold_batch_norm

NETWORKS = ("ResNet50", "ResNet50V2", "MobileNetV2", "EfficientNetB0")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=NETWORKS, help=f"default: {' '.join(NETWORKS)}")
    parser.add_argument("--batch", type=int, default=1, help="images to a batch")
    parser.add_argument("--size", type=int, default=224, help="pixels to a side")
    parser.add_argument("--rounds", type=int, default=15, help="batches of each form")
    options = parser.parse_args()
    print(f"{options.size} pixels, batches of {options.batch}, {describe()}")
    images = np.random.default_rng(0).integers(0, 256, (options.batch, options.size, options.size, 3), "uint8")
    for name in options.networks:
        model = getattr(kresnet, name)(input_shape=(options.size, options.size, 3))
        forms = {name: model, f"{name}, folded": fold_batch_norm(model)}
        candidates = {label: functools.partial(form.predict_on_batch, images) for label, form in forms.items()}
        plain, folded = alternate(candidates, options.rounds).values()
        print(f"{name:42} time folded / not: {folded / plain:.2f}")


if __name__ == "__main__":
    main()
