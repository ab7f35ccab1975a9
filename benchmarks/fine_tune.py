"""What ImageNet's weights are worth: EfficientNet-Lite0 on Fashion-MNIST in three ways, in the same time each.

    apt install dataset-fashion-mnist
    python benchmarks/fine_tune.py [--seconds 300] [--images 6000] [--size 96] [--test 10000]

Printed is the accuracy on test images, with 95 % confidence intervals: with a frozen body, with all layers, and from
scratch. The images are 28x28 and grey: the first kernel is the sum of the published one's three. Each way
trains with SGD on a cosine over the time that it has. Takes 20 minutes on 2 cores.
"""

import argparse
import contextlib
import gzip
import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np

import kresnet
from kresnet.evaluation.intervals import wilson

FOLDER = pathlib.Path("/usr/share/datasets/fashion-mnist")
BATCH = 32


def read(name):
    """Reads an IDX file: big-endian sizes, and bytes."""
    data = gzip.decompress((FOLDER / name).read_bytes())
    sizes = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(data[3])]
    return np.frombuffer(data, "uint8", offset=4 + 4 * len(sizes)).reshape(sizes)


class Over(Exception):
    """The time is over."""


class Timed(keras.callbacks.Callback):
    """Lets the learning rate fall to zero over so many seconds, and stops then."""

    def __init__(self, seconds, rate):
        super().__init__()
        self.seconds, self.rate, self.start = seconds, rate, None

    def on_train_batch_begin(self, batch, logs=None):
        if self.start is not None:
            share = min(1.0, (time.perf_counter() - self.start) / self.seconds)
            self.model.optimizer.learning_rate = self.rate * (1 + np.cos(np.pi * share)) / 2
            self.model.stop_training = share >= 1

    def on_train_batch_end(self, batch, logs=None):
        self.start = self.start or time.perf_counter()  # the first batch is the compilation
        if self.model.stop_training:
            raise Over


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--images", type=int, default=6000, help="to train with")
    parser.add_argument("--size", type=int, default=96, help="height and width in pixels")
    parser.add_argument("--test", type=int, default=10_000, help="images to test with, at most 10,000")
    options = parser.parse_args()
    train_x, train_y = read("train-images-idx3-ubyte.gz")[: options.images], read("train-labels-idx1-ubyte.gz")
    test_x, test_y = (read(f"t10k-{name}-ubyte.gz")[: options.test] for name in ("images-idx3", "labels-idx1"))
    for name, weights, frozen, rate in (
        ("frozen body", "imagenet", None, 0.1),
        ("all layers", "imagenet", False, 0.02),
        ("from scratch", None, False, 0.05),
    ):
        keras.utils.clear_session()  # or TensorFlow warns of functions that were traced anew
        keras.utils.set_random_seed(0)
        image = keras.Input((28, 28, 1))
        x = keras.layers.Resizing(options.size, options.size)(image)
        model = kresnet.EfficientNetLite0(input_tensor=x, classes=10, weights=weights)
        kresnet.freeze(model, frozen)
        model.compile(keras.optimizers.SGD(rate, 0.9), "sparse_categorical_crossentropy")
        timed = Timed(options.seconds, rate)
        with contextlib.suppress(Over):
            model.fit(train_x[..., None], train_y[: options.images], BATCH, 1000, callbacks=[timed], verbose=0)
        right = int((model.predict(test_x[..., None], 128, verbose=0).argmax(1) == test_y).sum())
        low, high = wilson(right, len(test_y))
        steps = int(model.optimizer.iterations)
        print(
            f"{name:14} {right / len(test_y):.2%} ({low:.2%} to {high:.2%}) after {steps} batches of {BATCH}",
            flush=True,
        )


if __name__ == "__main__":
    main()
