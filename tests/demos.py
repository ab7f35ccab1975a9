"""A network that tells colours apart, and a demo that runs it."""

import contextlib
import threading

import keras
import numpy as np

import kresnet
from kresnet.inference.demo import Demo

NAMES = ["<i>red</i>", "green", "blue", "white", "black", "grey"]
SIZE = 32
# Each class is a colour, and the network finds the one closest to the image's mean.
COLOURS = np.float32([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (128, 128, 128)]) / 255


def network(channels=3, activation="softmax", size=SIZE):
    colours = COLOURS if channels == 3 else COLOURS[:, :1]
    image = keras.Input((size, size, channels))
    mean = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(image))
    dense = keras.layers.Dense(len(NAMES), activation=activation)
    model = keras.Model(image, dense(mean))
    # -20 |x - c|^2 without |x|^2, which all classes share.
    dense.set_weights([40 * colours.T, -20 * (colours**2).sum(1)])
    return model


def write_files(folder):
    """Writes `colours.tflite` and its `labels.txt`."""
    kresnet.export(network(), folder / "colours.tflite")
    (folder / "labels.txt").write_text("\n".join(NAMES) + "\n")
    return folder


@contextlib.contextmanager
def running(path, **options):
    with Demo(path, port=0, **options) as demo:
        thread = threading.Thread(target=demo.serve_forever)
        thread.start()
        try:
            yield demo
        finally:
            demo.shutdown()
            thread.join()
