"""Images per second of a training step, against the same network of keras.applications, alternating in one process.

    python benchmarks/train_step.py [NETWORK ...] [--batch 16] [--size 128] [--rounds 15] [--precision float32]

Their ResNet50 strides in the first 1x1 convolution, so ours with `stride_in="1x1"` does the same arithmetic, except for
the biases that theirs has. Their MobileNets and EfficientNets pad as TensorFlow does, which is `padding="same"` here.
Their Inception-v3's averages do not count the padding, which is `count_padding=False`.
Their VGG16 flattens the last map, whatever its size, which ours pools to 7x7: the same at `--size 224` only.
Runs on any backend (KERAS_BACKEND) and device.
"""

import argparse
import functools

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


NETWORKS = {
    "ResNet50": {"stride_in": "1x1"},
    **{name: {"padding": "same"} for name in ("MobileNetV2", "MobileNetV3Large", "EfficientNetB0", "EfficientNetV2B0")},
    **{"VGG16": {}, "DenseNet121": {}, "InceptionV3": {"count_padding": False}, "InceptionResNetV2": {}},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), help=f"of {', '.join(NETWORKS)} (default: all)")
    parser.add_argument("--batch", type=int, default=16, help="images per step")
    parser.add_argument("--size", type=int, default=128, help="height and width in pixels")
    parser.add_argument("--rounds", type=int, default=15, help="steps of each network")
    parser.add_argument("--precision", default="float32", help="a Keras dtype policy")
    options = parser.parse_args()
    keras.config.set_dtype_policy(options.precision)
    print(f"{options.size} pixels, batches of {options.batch}, {options.precision}, {describe()}")
    for name in options.networks:
        theirs, ours, fields = getattr(keras.applications, name), getattr(kresnet, name), NETWORKS[name]
        same = ", ".join(f"{key}={value!r}" for key, value in fields.items())
        builders = {
            f"keras.applications.{name}": theirs,
            f"kresnet.{name}({same})": functools.partial(ours, **fields),
            f"kresnet.{name}()": ours,
        }
        candidates = {label: trainer(build, options.batch, options.size) for label, build in builders.items()}
        times = alternate(candidates, options.rounds)
        for label, seconds in times.items():
            ratio = times[f"keras.applications.{name}"] / seconds
            print(f"{label:42} {options.batch / seconds:7.1f} images/s  {ratio:.2f} of keras.applications'")
        keras.backend.clear_session()


if __name__ == "__main__":
    main()
