"""Top-1 accuracy of trained networks in float32, as int8 .tflite, and as int8 after quantization-aware training.

    python benchmarks/int8_accuracy.py [NETWORK ...] [--task digits|dark|numbers] [--steps 2000] [--qat 1] [--out DIR]

The images are scikit-learn's 1797 scans of handwritten digits; one half is for training, the other for testing. There
are three tasks. "digits": one scan, enlarged from 8x8 to 32x32 pixels, shifted and rotated a little in training; 10
classes, 899 test images. "dark": the same at random exposures, from full brightness to a 25th of it; each test scan
appears four times. "numbers": two scans side by side in 32x32 pixels, each at a random height; 100 classes, 4000 test
images.

A network trains with AdamW until its learning rate, on a cosine schedule, is zero, and is exported to int8 with the
ranges of 256 training images. If that loses more than `--qat` points, it trains for half as many steps again, once as
it is and once through `kresnet.quantize_aware`, and both are exported. Both losses are relative to the float network
that trained longer, which separates the gain of rounding in training from the gain of more training. All losses are on
the same images, with 95 % confidence intervals. Trained networks are stored in `--out` and reused by the next run.
Takes half an hour on 2 cores.
"""

import argparse
import functools
import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import kresnet
from kresnet.deploy.quantize import is_quantize_aware
from kresnet.inference.tflite_file import TFLiteFile

NETWORKS = ("ResNet20", "MobileNetV2", "EfficientNetB0", "EfficientNetLite0")
BATCH, RATE = 64, 2e-3


def digits(size):
    """Returns training scans, test scans, both uint8 of that size, training labels and test labels."""
    data = load_digits()
    scans = keras.ops.image.resize(data.images[..., None] * 255 / 16, (size, size))
    scans = np.rint(scans).clip(0, 255).astype("uint8")
    return train_test_split(scans, data.target, test_size=0.5, stratify=data.target, random_state=0)


def single(rng):
    """Returns (training images, labels), (test images, labels); each training scan is 20 shifted and rotated copies."""
    train_x, test_x, train_y, test_y = digits(32)
    move = keras.Sequential(
        [keras.layers.RandomTranslation(0.1, 0.1, seed=1), keras.layers.RandomRotation(0.04, seed=2)]
    )
    copies = [np.rint(move(train_x.astype("float32"), training=True)).astype("uint8") for _ in range(20)]
    return (np.concatenate(copies), np.tile(train_y, 20)), (test_x, test_y)


def dark(rng):
    """As `single`, but darkens each image by a factor with a uniform logarithm, and repeats each test scan 4 times."""

    def darken(images):
        exposure = 25.0 ** -rng.uniform(0, 1, (len(images), 1, 1, 1))
        return np.rint(images * exposure).astype("uint8")

    (train_x, train_y), (test_x, test_y) = single(rng)
    return (darken(train_x), train_y), (darken(np.repeat(test_x, 4, axis=0)), np.repeat(test_y, 4))


def numbers(rng):
    """Returns (training images, labels), (test images, labels): two scans side by side."""
    train_x, test_x, train_y, test_y = digits(16)

    def draw(scans, labels, count):
        images = np.zeros((count, 32, 32, 1), "uint8")
        left, right = rng.integers(0, len(scans), (2, count))
        for image, *pair in zip(images, scans[left], scans[right], strict=True):
            for column, scan in zip((0, 16), pair, strict=True):
                row = rng.integers(0, 17)
                image[row : row + 16, column : column + 16] = scan
        return images, 10 * labels[left] + labels[right]

    return draw(train_x, train_y, 30000), draw(test_x, test_y, 4000)


TASKS = {"digits": single, "dark": dark, "numbers": numbers}
COPIES = {"digits": 1, "dark": 4, "numbers": 1}  # of each test scan, side by side


def fit(network, images, labels, steps, rate):
    data = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(len(images), seed=0).repeat()
    schedule = keras.optimizers.schedules.CosineDecay(0.0, steps, warmup_target=rate, warmup_steps=steps // 10)
    network.compile(keras.optimizers.AdamW(schedule, weight_decay=0.01), "sparse_categorical_crossentropy")
    network.fit(data.batch(BATCH).take(steps), shuffle=False, verbose=0)
    return network


def kept(file, train):
    """Returns the network in a file; if there is no such file, trains and writes the network first."""
    if not file.exists():
        train().save(file)
    return keras.saving.load_model(file)


def first_training(name, train, classes, steps):
    keras.utils.set_random_seed(1)
    # Momentum 0.9: with the usual 0.99 the statistics lag behind in a short training.
    network = getattr(kresnet, name)(input_shape=(32, 32, 1), classes=classes, momentum=0.9)
    return fit(network, *train, steps, RATE)


def export(network, file, calibration=None):
    """Writes an int8 file, however large its loss, since that is what is measured."""
    options = {"calibration": calibration, "agreement": 0.0, "latency": False}
    return TFLiteFile(kresnet.export(network, file, quantize="int8", io="uint8", **options))


def interval(before, after, copies):
    """Returns the mean loss of accuracy in points, and the half-width of its 95 % confidence interval over scans."""
    lost = 100.0 * (before.astype(float) - after).reshape(-1, copies).mean(1)
    return lost.mean(), 1.96 * lost.std(ddof=1) / len(lost) ** 0.5


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=NETWORKS, help=f"default: {' '.join(NETWORKS)}")
    parser.add_argument("--task", choices=TASKS, default="digits")
    parser.add_argument("--steps", type=int, default=2000, help=f"batches of {BATCH} of the first training")
    parser.add_argument("--qat", type=float, default=1.0, help="loss in points above which it trains further")
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("runs/int8_accuracy"), help="folder for trained networks"
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    train, (images, labels) = TASKS[options.task](np.random.default_rng(0))
    copies, steps = COPIES[options.task], options.steps
    classes, calibration = int(labels.max()) + 1, train[0][:256]
    print(f"{options.task}: {len(train[0])} training, {len(images)} test images, {classes} classes; {steps} steps")

    def compare(label, network, file, reference=None):
        """Prints a line; returns the points lost, and which test images the float network classifies correctly."""
        seen = network.predict(train[0][:4000], verbose=0).argmax(1) == train[1][:4000]
        right = network.predict(images, verbose=0).argmax(1) == labels
        aware = is_quantize_aware(network)
        integer = export(network, file, None if aware else calibration)(images).argmax(1) == labels
        reference = right if reference is None else reference
        lost, error = interval(reference, integer, copies)
        accuracies = f"training {seen.mean():7.2%}, test {right.mean():7.2%}, int8 {integer.mean():7.2%}"
        print(f"{label:24} {accuracies}, loss {lost:5.2f} ± {error:.2f}", flush=True)
        return lost, right

    for name in options.networks:
        start, stem = time.process_time(), options.out / f"{options.task}_{steps}_{name}"
        file = stem.with_suffix(".keras")
        network = kept(file, functools.partial(first_training, name, train, classes, steps))
        lost, _ = compare(name, network, stem.with_suffix(".tflite"))
        if lost > options.qat:
            more = steps // 2, RATE / 10
            further = kept(stem.with_suffix(".further.keras"), lambda: fit(network, *train, *more))  # noqa: B023
            lost, right = compare("  trained further", further, stem.with_suffix(".further.tflite"))
            aware = fit(kresnet.quantize_aware(keras.saving.load_model(file), calibration), *train, *more)
            still, _ = compare("  with quantize_aware", aware, stem.with_suffix(".qat.tflite"), right)
            if lost > 0:
                print(f"  gained back: {lost - still:.2f} points, {1 - still / lost:.0%} of the loss")
        print(f"  {time.process_time() - start:.0f} s of processor time", flush=True)


if __name__ == "__main__":
    main()
