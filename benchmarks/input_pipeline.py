"""Images per second on one core for each augmentation policy, from JPEG files, against Keras's own input pipeline.

    python benchmarks/input_pipeline.py [--policies inception ...] [--images 400] [--size 224] [--rounds 5]

Writes JPEG files of 500x375 pixels, enlarged crops of scikit-learn's two photographs. Keras's pipeline is
`keras.utils.image_dataset_from_directory`, which decodes and resizes whole images, and the Keras layers that correspond
to the policy. Both give batches of 32, and run alternately in one process, on one core. tf.data's autotuning is off in
both (`kresnet.data.without_tuning`), which makes Keras's pipeline up to twice as fast.
"""

import argparse
import os
import pathlib
import tempfile

import keras
import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images
from timing import alternate

import kresnet
from kresnet.data import augment

BATCH = 32


def write_photographs(folder, count):
    photographs = [Image.fromarray(image) for image in load_sample_images().images]
    rng = np.random.default_rng(0)
    for i in range(count):
        (folder / str(i % 2)).mkdir(exist_ok=True)
        left, top = rng.integers(0, 240), rng.integers(0, 180)
        crop = photographs[i % 2].crop((left, top, left + 400, top + 300)).resize((500, 375))
        crop.save(folder / str(i % 2) / f"{i}.jpg", quality=90)


def theirs(folder, policy, size):
    """Returns Keras's pipeline with the layers that correspond to a policy."""
    import tensorflow as tf

    larger = round(size / 0.875)
    layers = {
        None: (size, []),
        "flip-crop": (larger, [keras.layers.RandomCrop(size, size), keras.layers.RandomFlip("horizontal")]),
        "inception": (
            larger,
            [
                # Our policy draws area and aspect ratio; here the crop has a fixed size.
                keras.layers.RandomCrop(round(0.7 * larger), round(0.7 * larger)),
                keras.layers.Resizing(size, size),
                keras.layers.RandomFlip("horizontal"),
                keras.layers.RandomColorJitter(
                    value_range=(0, 255), brightness_factor=0.4, contrast_factor=0.4, saturation_factor=(0.3, 0.7)
                ),
            ],
        ),
        "randaugment": (
            larger,
            [
                keras.layers.RandomCrop(size, size),
                keras.layers.RandomFlip("horizontal"),
                keras.layers.RandAugment((0, 255), num_ops=2, factor=0.9),
            ],
        ),
    }
    loaded, chain = layers[policy]
    data = keras.utils.image_dataset_from_directory(
        folder, image_size=(loaded, loaded), batch_size=BATCH, shuffle=False, verbose=False
    )
    for layer in chain:
        data = data.map(lambda x, y, layer=layer: (layer(x, training=True), y), num_parallel_calls=tf.data.AUTOTUNE)
    return kresnet.data.without_tuning(data.prefetch(tf.data.AUTOTUNE))


def consume(data):
    for _ in data:
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--policies", nargs="+", default=["none", *augment.POLICIES], metavar="NAME")
    parser.add_argument("--size", type=int, default=224, help="height and width in pixels")
    parser.add_argument("--rounds", type=int, default=5, help="passes over the images")
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before TensorFlow starts its threads
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_photographs(folder, options.images)
        candidates = {}
        for policy in [None if name == "none" else name for name in options.policies]:
            ours = kresnet.data.load(folder, "all", options.size, BATCH, augment=policy)
            candidates[f"kresnet, {policy}"] = lambda data=ours: consume(data)
            if policy in (None, "flip-crop", "inception", "randaugment"):
                data = theirs(folder, policy, options.size)
                candidates[f"Keras, as {policy}"] = lambda data=data: consume(data)
        seconds = alternate(candidates, options.rounds)
        print(f"\n{options.size} pixels, {options.images} JPEGs of 500x375, one core: images per second")
        for label, time in seconds.items():
            line = f"{label:24} {options.images / time:8.0f}"
            keras_label = label.replace("kresnet, ", "Keras, as ")
            if label.startswith("kresnet") and keras_label in seconds:
                line += f"   {seconds[keras_label] / time:.2f} times Keras's"
            print(line)


if __name__ == "__main__":
    main()
