"""Trains a ResNeXt with our grouped convolutions and with Keras's, alternating in one process: a step's time.

    python benchmarks/grouped_conv.py

For the TensorFlow backend on a CPU; elsewhere both are the same layer. Takes about two minutes on two cores.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
from timing import alternate, describe

import kresnet
from kresnet.layers import calls
from kresnet.layers.grouped import GroupedConv2D

STEPS, BATCH, SIZE = 5, 16, 96


class KerasGroupedConv2D(GroupedConv2D):
    def convolution_op(self, inputs, kernel):
        return keras.layers.Conv2D.convolution_op(self, inputs, kernel)


def trainer(layer):
    calls.GroupedConv2D = layer  # which `conv` builds
    try:
        model = kresnet.ResNeXt50_32x4d(depths=(2, 2, 2, 2), input_shape=(SIZE, SIZE, 3), classes=20)
    finally:
        calls.GroupedConv2D = GroupedConv2D
    assert any(type(built) is layer for built in model.layers)
    model.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy", jit_compile=False)
    images = np.random.default_rng(0).integers(0, 256, (BATCH, SIZE, SIZE, 3)).astype("float32")
    labels = np.arange(BATCH)
    return lambda: model.train_on_batch(images, labels)


if __name__ == "__main__":
    print(f"ResNeXt (2, 2, 2, 2) 32x4d, {SIZE} pixels, batches of {BATCH}, {describe()}")
    times = alternate({"kresnet": trainer(GroupedConv2D), "Keras": trainer(KerasGroupedConv2D)}, STEPS)
    print(f"Keras / kresnet: {times['Keras'] / times['kresnet']:.1f}")
