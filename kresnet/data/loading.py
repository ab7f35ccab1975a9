"""Loads labelled images as a `tf.data.Dataset` for `model.fit`."""

from __future__ import annotations

import gc
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np

from kresnet import checks
from kresnet.data import augment as augmentation
from kresnet.data import images, sources
from kresnet.data.order import Epochs, Share, records, unwanted

_log = logging.getLogger("kresnet")


def load(
    source: str | os.PathLike,
    split: str = "train",
    image_size: int = 224,
    batch_size: int = 32,
    *,
    augment: str | None = None,
    flip: bool = True,
    mixup: float = 0.0,
    cutmix: float = 0.0,
    repeats: int = 1,
    shuffle: bool | None = None,
    drop_remainder: bool | None = None,
    seed: int = 0,
    split_seed: int = 0,
    crop_fraction: float | None = None,
    interpolation: str | None = None,
    grey: bool = False,
    validation_split: float = 0.2,
    on_error: str = "raise",
    pixel_limit: int = images.PIXEL_LIMIT,
    data_dir: str | os.PathLike | None = None,
    shard: tuple[int, int] = (0, 1),
) -> Any:
    """Loads labelled images.

    Random draws depend only on `seed`, the epoch and the image: the same call gives the same batches, whatever the
    number of threads.

    Args:
        source: one of
            - "digits": the 1797 scans (8x8 pixels, grey) that come with scikit-learn;
            - the path of a folder with one subfolder per class, or with "train" and "validation" (or "val") folders
              of that form. It may hold jpg, jpeg, png, gif, bmp and webp files; Exif orientation is applied, and what
              is transparent lies on white;
            - "tfds:NAME": a classification dataset of tensorflow-datasets.
        split: "train", "validation", "test" or "all"; for tensorflow-datasets also its own syntax, such as
            "train[:10%]". The digits and a folder without splits are split class by class, by `split_seed`.
        image_size: height and width of the images in pixels.
        batch_size: images in a batch.
        augment: None, "flip-crop", "cifar", "inception", "randaugment", "augmix", "cutout" or "gridmask" (keras-cv's:
            `pip install "kresnet[augment]"`); see `kresnet.data.augment`.
        flip: whether augmentation may mirror images, as every policy does by default; False for characters.
        mixup, cutmix: alpha of MixUp, at least 0, and of CutMix, in [0, 1]. If either is above 0, labels are soft:
            float32 (batch, classes), each row summing to 1.
        repeats: how often an image occurs in an epoch, augmented differently each time (Hoffer et al. 2020,
            arXiv:1901.09335). An epoch keeps its length, and so covers 1 / repeats of the images.
        shuffle: whether to shuffle, differently in each epoch. Default: only for "train".
        drop_remainder: whether to drop a last, smaller batch. Default: the value of `shuffle`.
        seed: seed of the order and the augmentation, at least 0.
        split_seed: seed of the split of a source that has none of its own, at least 0. It is separate from `seed`, so
            that networks trained with different seeds are evaluated on the same images, which none was trained on.
        crop_fraction: without `augment`, the side of the central square crop divided by the image's shorter side, in
            (0, 1]. Default: 0.875, or 1 for images below 64 pixels.
        interpolation: without `augment`, how images become smaller. None: the crop is resized bilinearly between the
            nearest pixels, as in training, and large JPEGs are decoded at a reduced resolution. "bilinear" or
            "bicubic": whole images are resized by Pillow, which averages over all pixels, and cropped then, as timm's
            and torchvision's checkpoints want; slower on large images.
        grey: whether RGB images become grey, one channel of the colours' luminances, as networks of one channel want.
        validation_split: fraction held out if the source has no splits, in (0, 1).
        on_error: what to do with an image that cannot be decoded: "raise" an error that names it, or "skip" it with
            a warning that names it, in the log "kresnet".
        pixel_limit: images of more pixels than this are refused before they are decoded, and treated by `on_error`.
        data_dir: where tensorflow-datasets keeps its datasets.
        shard: (this process's number from 0, how many there are): each reads its share of each batch, so that all of
            them together read what one would; MixUp and CutMix mix within a share.

    Returns:
        A `tf.data.Dataset` of (images, labels): uint8 pixels (batch, height, width, channels), 0 to 255, and int64
        (batch,). Iterating over it is one epoch. It has the attributes `class_names` (tuple), `examples` (images in an
        epoch), `epochs` (`Epochs`), `skipped` (names of the images skipped so far), `labels` (int64, (examples,)) and
        `file_paths` (tuple), these two in the order before shuffling, and None where they are not known, and
        `left_out` (a line on the files of a folder that are not read, or None).

    Raises:
        ValueError: if an argument makes no sense, or a class has no images. During iteration, a broken image raises a
            `tf.errors.InvalidArgumentError` that names it.
        ImportError: if the source or the augmentation needs an extra that is not installed, which it names.
    """
    import tensorflow as tf

    checks.integer("image_size", image_size)
    checks.integer("batch_size", batch_size)
    checks.integer("repeats", repeats)
    checks.integer("seed", seed, 0)
    checks.integer("split_seed", split_seed, 0)
    checks.choice("on_error", on_error, ("raise", "skip"))
    checks.number("mixup", mixup, 0, 1000, "a number of at least 0")
    checks.number("cutmix", cutmix, 0, np.nextafter(1, 2), "a number in [0, 1]")
    if crop_fraction is not None:
        checks.number("crop_fraction", crop_fraction, 0.01, 1.0001, "a fraction in (0, 1]")
    policy = augmentation.policy(augment, image_size, crop_fraction, checks.boolean("flip", flip), interpolation)
    found = sources.find(source, split, seed=split_seed, validation_split=validation_split, data_dir=data_dir)
    checks.boolean("grey", grey)
    shuffle = split == "train" if shuffle is None else checks.boolean("shuffle", shuffle)
    drop_remainder = shuffle if drop_remainder is None else checks.boolean("drop_remainder", drop_remainder)
    whole, rest = divmod(found.count, batch_size)
    checks.require(
        whole > 0 or not drop_remainder,
        f"{found.name}: {found.count} images do not fill a batch",
        batch_size=batch_size,
        split=split,
    )
    checks.require(batch_size % shard[1] == 0, f"A batch must divide among {shard[1]} processes", batch_size=batch_size)
    share = batch_size // shard[1]
    of_rest = 0 if drop_remainder else min(max(rest - shard[0] * share, 0), share)

    epochs, skipped = Epochs(), []
    read = _reader(found, policy, image_size, grey, on_error, pixel_limit, skipped)

    def prepare(epoch: Any, draw: Any, record: Any, label: Any) -> tuple[Any, Any, Any, Any]:
        key = tf.stack([tf.cast(seed, tf.int64), epoch])
        key = tf.random.experimental.stateless_fold_in(key, draw)
        image, ok = read(record, key)
        shape = image.shape
        for function in policy.pixels:
            image = function(image, key)
        return tf.ensure_shape(augmentation.to_uint8(image), shape), label, key, ok

    jumps = on_error == "raise" and not found.stream  # else only reading tells which image begins a batch
    own = found.count if shard[1] == 1 else whole * share + of_rest
    data = records(found, epochs, shuffle, repeats, seed, Share(shard[0] * share, share, batch_size, own), jumps)
    data = data.map(prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    if on_error == "skip":
        data = data.filter(lambda image, label, key, ok: ok)
    data = data.batch(share, drop_remainder, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    if mixup or cutmix:
        mix, classes = augmentation.mixer(mixup, cutmix), len(found.class_names)

        def mixed(image: Any, label: Any, key: Any, ok: Any) -> tuple[Any, Any]:
            return mix(image, tf.one_hot(label, classes), key[0])

        data = data.map(mixed, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    else:
        data = data.map(lambda image, label, key, ok: (image, label))
    if jumps:
        data = unwanted(epochs, data.element_spec, share).concatenate(data)
    if on_error == "raise":  # with "skip" the number of batches is not known in advance
        data = data.apply(tf.data.experimental.assert_cardinality(whole + (of_rest > 0)))
    data = without_tuning(data.prefetch(tf.data.AUTOTUNE))
    data.class_names, data.examples, data.epochs, data.skipped = found.class_names, found.count, epochs, skipped
    data.labels, data.file_paths, data.left_out = found.labels, found.file_paths, found.left_out
    return data


def without_tuning(dataset: Any) -> Any:
    """Returns the dataset with tf.data's autotuning switched off, unless its options set autotuning explicitly.

    The autotuning thread wakes after 10 ms, then 20, 40, and so on up to a minute. If an epoch ends while it sleeps,
    `fit` may wait for it, for up to the length of the epoch (in TensorFlow 2.21: the thread is notified before it can
    see that it was cancelled, and goes back to sleep). Without autotuning, `AUTOTUNE` means the number of cores.
    Anything but a `tf.data.Dataset` is returned unchanged.
    """
    import tensorflow as tf

    if not isinstance(dataset, tf.data.Dataset) or dataset.options().autotune.enabled is not None:
        return dataset
    options = tf.data.Options()
    options.autotune.enabled = False
    options.autotune.initial_parallelism = os.cpu_count()
    return dataset.with_options(options)


def _reader(
    source: sources.Source,
    policy: augmentation.Policy,
    size: int,
    grey: bool,
    on_error: str,
    pixel_limit: int,
    skipped: list[str],
) -> Any:
    """Returns a function from (record, key) to (float32 pixels (size, size, channels), whether decoding worked)."""
    import tensorflow as tf

    def resized(image: Any, channels: int) -> Any:
        # `resize` returns float32, except for an image that already has this size.
        image = tf.cast(tf.image.resize(tf.ensure_shape(image, [None, None, channels]), (size, size)), tf.float32)
        return tf.image.rgb_to_grayscale(image) if grey and channels == 3 else image

    def from_pixels(pixels: Any, key: Any) -> tuple[Any, Any]:
        if policy.whole:
            image = tf.numpy_function(policy.whole, [pixels], tf.uint8, stateful=False)
            return resized(image, pixels.shape[2]), tf.constant(True)
        top, left, height, width = policy.window(pixels.shape[0], pixels.shape[1], key)
        return resized(pixels[top : top + height, left : left + width], pixels.shape[2]), tf.constant(True)

    # Compiled, with a single argument: run one by one, its dozen operations would take as long as the decoding.
    @tf.function(input_signature=[tf.TensorSpec([4], tf.int64)])
    def window_of(size_and_key: Any) -> Any:
        height, width = tf.cast(size_and_key[0], tf.int32), tf.cast(size_and_key[1], tf.int32)
        return tf.stack(policy.window(height, width, size_and_key[2:]))

    with tf.device("CPU"):
        window_of = window_of.get_concrete_function()

    def decoded(record: bytes, key: np.ndarray) -> tuple[np.ndarray, np.bool_]:
        name = os.fsdecode(record) if source.paths is not None else source.name

        def window(height: int, width: int) -> images.Box:
            return tuple(window_of(np.array([height, width, *key])).numpy().tolist())

        try:
            data = Path(name).read_bytes() if source.paths is not None else record
            if policy.whole:  # of a whole JPEG at full resolution: fidelity before speed
                return policy.whole(images.decode(data, images.shown(name), pixel_limit=pixel_limit)), np.True_
            return images.decode(data, images.shown(name), window, size, pixel_limit), np.True_
        except (images.ImageError, OSError) as error:
            said = str(error) if isinstance(error, images.ImageError) else f"{images.shown(name)}: {error.strerror}"
            if on_error == "raise":
                raise ValueError(said) from None
            skipped.append(name)
            _log.warning("Skipped %s", said)
            return np.zeros((1, 1, 3), np.uint8), np.False_

    def from_file(record: Any, key: Any) -> tuple[Any, Any]:
        pixels, ok = tf.numpy_function(decoded, [record, key], [tf.uint8, tf.bool], stateful=False)
        return resized(pixels, 3), tf.ensure_shape(ok, [])

    return from_pixels if source.pixels is not None else from_file


def ended() -> None:
    """Frees the iterators of datasets that nothing holds any more but an error's frames, whose circles keep them.

    Left until Python ends, an iterator waits for its threads, which wait for Python: the process would never end.
    """
    gc.collect()


def broken_image(error: BaseException) -> str | None:
    """Returns which image made iterating over a `load` dataset fail, and why; None if the error has another cause."""
    lines = [line for line in str(error).splitlines() if line.startswith("ValueError: ") or " ValueError: " in line]
    return (
        lines[0].split("ValueError: ", 1)[1].strip()
        if type(error).__module__.startswith("tensorflow") and lines
        else None
    )
