"""Images per processor second from JPEG files to batches: ours, Keras's, and plain `tf.data`, for each policy.

    python benchmarks/input_pipeline.py [--policies inception ...] [--images 400] [--size 224] [--rounds 5]

Writes JPEG files of 500x375 pixels, enlarged crops of scikit-learn's two photographs. Keras's pipeline is
`keras.utils.image_dataset_from_directory`, which decodes and resizes whole images, and the Keras layers that correspond
to the policy. Plain `tf.data` is what its guides show: `decode_and_crop_jpeg` of the policy's window, tf.image's own
functions and the policy's shift of colours, without looking at Exif, other kinds of files, limits, or which file an
error is from. All give batches of 32 uint8 or float32 images and run alternately in one process, on one core. A pass
includes its start, for which TensorFlow prepares the pipeline anew. tf.data's autotuning is off in all
(`kresnet.data.without_tuning`), which makes Keras's pipeline up to twice as fast. "bilinear" and "bicubic" are
evaluation with antialiasing, as published weights want it, for which Keras's pipeline has nothing but resizing without.
"""

import argparse
import os
import pathlib
import tempfile
import time

import keras
import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images
from timing import alternate

import kresnet
from kresnet.data import augment

BATCH = 32
ANTIALIASED = ("bilinear", "bicubic")
DEFAULT = ("none", "flip-crop", "inception", *ANTIALIASED)


def write_photographs(folder, count):
    photographs = [Image.fromarray(image) for image in load_sample_images().images]
    rng = np.random.default_rng(0)
    for i in range(count):
        (folder / str(i % 2)).mkdir(exist_ok=True)
        left, top = rng.integers(0, 240), rng.integers(0, 180)
        crop = photographs[i % 2].crop((left, top, left + 400, top + 300)).resize((500, 375))
        crop.save(folder / str(i % 2) / f"{i}.jpg", quality=90)


def ours(folder, policy, size):
    how = {"interpolation": policy} if policy in ANTIALIASED else {"augment": None if policy == "none" else policy}
    return kresnet.data.load(folder, "all", size, BATCH, **how)


def of_keras(folder, policy, size):
    """Returns Keras's pipeline with the layers that correspond to a policy; None if it has none."""
    import tensorflow as tf

    larger = round(size / 0.875)
    layers = {
        "none": (size, []),
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
        **{name: (larger, [keras.layers.CenterCrop(size, size)]) for name in ANTIALIASED},
    }
    if policy not in layers:
        return None
    loaded, chain = layers[policy]
    how = {"interpolation": policy, "crop_to_aspect_ratio": True} if policy in ANTIALIASED else {}
    data = keras.utils.image_dataset_from_directory(
        folder, image_size=(loaded, loaded), batch_size=BATCH, shuffle=False, verbose=False, **how
    )
    for layer in chain:
        data = data.map(lambda x, y, layer=layer: (layer(x, training=True), y), num_parallel_calls=tf.data.AUTOTUNE)
    return kresnet.data.without_tuning(data.prefetch(tf.data.AUTOTUNE))


def plain(folder, policy, size):
    """Returns tf.data's own pipeline of a policy; None for those that it would have to write itself."""
    import tensorflow as tf

    def window(data):
        height, width, _ = tf.unstack(tf.io.extract_jpeg_shape(data))
        if policy == "inception":
            begin, extent, _ = tf.image.sample_distorted_bounding_box(
                [height, width, 3], tf.zeros([1, 0, 4]), 0, 0.0, (3 / 4, 4 / 3), (0.08, 1.0), 10, True
            )
            return tf.concat([begin[:2], extent[:2]], 0)
        shorter = tf.cast(tf.minimum(height, width), tf.float32)
        if policy == "none":
            side = tf.cast(0.875 * shorter, tf.int32)
            return tf.stack([(height - side) // 2, (width - side) // 2, side, side])
        side = tf.cast(shorter * size / tf.random.uniform([], size / 0.875, size / 0.467), tf.int32)
        top, left = (tf.random.uniform([], 0, length - side + 1, tf.int32) for length in (height, width))
        return tf.stack([top, left, side, side])

    def antialiased(data):
        image = tf.io.decode_jpeg(data, 3, dct_method="INTEGER_ACCURATE")
        shape = tf.cast(tf.shape(image)[:2], tf.float32)
        to = tf.cast(shape * (size / 0.875) / tf.reduce_min(shape), tf.int32)
        image = tf.image.resize(image, to, policy, antialias=True)
        top, left = (to[0] - size) // 2, (to[1] - size) // 2
        return image[top : top + size, left : left + size]

    def prepare(path, label):
        data = tf.io.read_file(path)
        if policy in ANTIALIASED:
            return tf.ensure_shape(antialiased(data), [size, size, 3]), label
        image = tf.io.decode_and_crop_jpeg(data, window(data), 3, dct_method="INTEGER_ACCURATE")
        image = tf.image.resize(image, (size, size))
        if policy != "none":
            image = tf.image.random_flip_left_right(image)
            image += 255 * tf.linalg.matvec(augment.PCA_VECTORS, augment.PCA_VALUES * tf.random.normal([3], 0, 0.1))
        if policy == "inception":
            image = tf.image.random_brightness(image, 0.4 * 255)
            image = tf.image.random_contrast(image, 0.6, 1.4)
            image = tf.image.random_saturation(image, 0.6, 1.4)
        return tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8), label

    if policy not in DEFAULT:
        return None
    files = sorted(folder.rglob("*.jpg"))
    data = tf.data.Dataset.from_tensor_slices(([*map(str, files)], [int(path.parent.name) for path in files]))
    data = data.map(prepare, num_parallel_calls=tf.data.AUTOTUNE)
    return kresnet.data.without_tuning(data.batch(BATCH).prefetch(tf.data.AUTOTUNE))


def consume(data):
    for _ in data:
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=400)
    known = ", ".join(("none", *augment.POLICIES, *ANTIALIASED))
    parser.add_argument("--policies", nargs="+", default=DEFAULT, metavar="NAME", help=known)
    parser.add_argument("--size", type=int, default=224, help="height and width in pixels")
    parser.add_argument("--rounds", type=int, default=5, help="passes over the images")
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before TensorFlow starts its threads
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_photographs(folder, options.images)
        candidates = {}
        for policy in options.policies:
            for whose, make in (("ours", ours), ("Keras", of_keras), ("plain tf.data", plain)):
                if (data := make(folder, policy, options.size)) is not None:
                    candidates[whose, policy] = lambda data=data: consume(data)
        named = {f"{policy}, {whose}": run for (whose, policy), run in candidates.items()}
        seconds = dict(zip(candidates, alternate(named, options.rounds, time.process_time).values(), strict=True))
        print(f"\n{options.size} pixels, {options.images} JPEGs of 500x375: images per processor second, and ours / it")
        print(f"{'':12}{'ours':>8}{'Keras':>16}{'plain tf.data':>20}")
        for policy in options.policies:
            time_of_ours = seconds["ours", policy]
            line = f"{policy:12}{options.images / time_of_ours:8.0f}"
            for whose, width in (("Keras", 10), ("plain tf.data", 14)):
                if theirs := seconds.get((whose, policy)):
                    line += f"{options.images / theirs:{width}.0f} ({theirs / time_of_ours:.2f})"
                else:
                    line += f"{'-':>{width + 6}}"
            print(line)


if __name__ == "__main__":
    main()
