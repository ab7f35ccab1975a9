"""Images per second of a training step of ResNet-50, against keras.applications' own, alternating in one process.

    python benchmarks/train_step.py [--batch 16] [--size 128] [--rounds 15] [--precision float32]

keras.applications.ResNet50 strides in the first 1x1 and has biases, so `stride_in="1x1"` is the same arithmetic but for
those. Runs on whatever backend (KERAS_BACKEND) and device there is.
"""

import argparse

import keras
import numpy as np
from timing import alternate, describe

import kresnet


def trainer(build, batch, size):
    model = build(input_shape=(size, size, 3), weights=None, classes=100)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy")
    images = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), "uint8")
    labels = np.arange(batch) % 100
    return lambda: model.train_on_batch(images, labels)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=16, help="images to a step")
    parser.add_argument("--size", type=int, default=128, help="pixels to a side")
    parser.add_argument("--rounds", type=int, default=15, help="steps of each network")
    parser.add_argument("--precision", default="float32", help="a Keras dtype policy")
    options = parser.parse_args()
    keras.config.set_dtype_policy(options.precision)
    builders = {
        "keras.applications.ResNet50": keras.applications.ResNet50,
        'kresnet.ResNet50(stride_in="1x1")': lambda **kw: kresnet.ResNet50(stride_in="1x1", **kw),
        "kresnet.ResNet50()": kresnet.ResNet50,
    }
    print(f"{options.size} pixels, batches of {options.batch}, {options.precision}, {describe()}")
    candidates = {name: trainer(build, options.batch, options.size) for name, build in builders.items()}
    times = alternate(candidates, options.rounds)
    for name, seconds in times.items():
        ratio = times["keras.applications.ResNet50"] / seconds
        print(f"{name:36} {options.batch / seconds:8.1f} images/s  {ratio:.2f} of keras.applications'")


if __name__ == "__main__":
    main()
