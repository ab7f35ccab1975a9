"""TensorFlow's fused batch norm in training, beside Keras's: time of a step, and how far the weights drift.

    python benchmarks/norms.py [--rounds 7] [--steps 100]

The first table has the medians of process time, both sides in turn. The second trains small networks on digits in
float32 and, as the measure, in float64: printed are the largest differences of weights from float64's, in their own
deviations, of Keras's norm, of Keras's when the images of each batch come in another order, and of the fused one.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import time

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np
from rich.progress import track

import kresnet
from kresnet.graph.replacing import replaced
from kresnet.layers.normalization import BatchNormalization

TIMED = (("mobilenetv2_100", 32, 128), ("efficientnet_b0", 16, 128), ("resnet50", 8, 128))
DRIFTING = (("resnet20", 32), ("mobilenetv2_035", 64))


def norms(fused: bool):
    """While it is open, norms that are traced are fused or Keras's."""
    never = replaced(BatchNormalization, "_can_be_fused", lambda self, inputs: False)
    return contextlib.nullcontext() if fused else never


def step_time(key: str, batch: int, size: int, rounds: int) -> tuple[float, float]:
    """Returns seconds of process time of a step with Keras's norms and with fused ones."""
    draw = np.random.default_rng(0)
    images, labels = draw.integers(0, 256, (batch, size, size, 3)).astype("uint8"), draw.integers(0, 10, batch)
    models = {}
    for fused in (False, True):
        models[fused] = kresnet.create_model(key, input_shape=(size, size, 3), classes=10)
        models[fused].compile(keras.optimizers.SGD(0.01), loss="sparse_categorical_crossentropy", jit_compile=False)
        with norms(fused):
            models[fused].train_on_batch(images, labels)
    times = {False: [], True: []}
    for _ in range(rounds):
        for fused, model in models.items():
            start = time.process_time()
            model.train_on_batch(images, labels)
            times[fused].append(time.process_time() - start)
    return statistics.median(times[False]), statistics.median(times[True])


def trained(key: str, size: int, steps: int, fused: bool, dtype: str = "float32", permuted: bool = False) -> list:
    """Returns the weights after so many steps on digits."""
    data = kresnet.data.load("digits", "train", size, 32, seed=0)
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy("float32")
    first = kresnet.create_model(key, input_shape=(size, size, 1), classes=10, mean=(0.5,), std=(0.5,))
    keras.config.set_dtype_policy(dtype)
    model = kresnet.create_model(key, input_shape=(size, size, 1), classes=10, mean=(0.5,), std=(0.5,))
    keras.config.set_dtype_policy("float32")
    model.set_weights(first.get_weights())
    model.compile(keras.optimizers.SGD(0.01, 0.9), loss="sparse_categorical_crossentropy", jit_compile=False)
    order = np.random.default_rng(1).permutation(32)
    with norms(fused):
        for images, labels in data.repeat().take(steps).as_numpy_iterator():
            if permuted:
                images, labels = images[order], labels[order]
            model.train_on_batch(images, labels)
    return [np.asarray(weight, "float64") for weight in model.get_weights()]


def drift(weights: list, true: list) -> float:
    return max(np.abs(one - other).max() / max(other.std(), 1e-3) for one, other in zip(weights, true, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    print(f"{'step, seconds':20}{'Keras':>10}{'fused':>10}{'ratio':>8}")
    for key, batch, size in track(TIMED, "Timing"):
        before, after = step_time(key, batch, size, options.rounds)
        print(f"{key:20}{before:10.3f}{after:10.3f}{after / before:8.2f}")
    print(f"\n{'drift from float64':20}{'steps':>8}{'Keras':>10}{'permuted':>10}{'fused':>10}")
    for key, size in track(DRIFTING, "Training"):
        for steps in (1, 10, options.steps):
            true = trained(key, size, steps, False, "float64")
            sides = ((False, False), (False, True), (True, False))
            found = [drift(trained(key, size, steps, fused, permuted=other), true) for fused, other in sides]
            print(f"{key:20}{steps:8}" + "".join(f"{value:10.1e}" for value in found))


if __name__ == "__main__":
    main()
