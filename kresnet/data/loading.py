"""Loads labelled images as a `tf.data.Dataset` for `model.fit`."""

from __future__ import annotations

import gc
import os
from typing import Any

import numpy as np

from kresnet import checks
from kresnet.data import augment as augmentation
from kresnet.data import images, sources
from kresnet.data.failures import Failures, accounted
from kresnet.data.order import Epochs, Order, Share, records, unwanted
from kresnet.data.reading import Reader


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
              is transparent lies on white. A folder that `kresnet data pack` wrote gives the same batches;
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
    checks.integer("seed", seed, minimum=0)
    checks.integer("split_seed", split_seed, minimum=0)
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

    own = found.count if shard[1] == 1 else whole * share + of_rest
    jumps = on_error == "raise" and not found.stream  # else only reading tells which image begins a batch
    order = Order(found.count, shuffle, repeats, seed, Share(shard[0] * share, share, batch_size, own), jumps)
    epochs, mixes = Epochs(), bool(mixup or cutmix)
    reader = Reader(found, policy, image_size, pixel_limit, grey)

    def prepare(where: Any, key: Any, record: Any, label: Any) -> tuple[Any, ...]:
        image = reader(record, key)
        shape = image.shape
        for function in policy.pixels:
            image = function(image, key)
        image = augmentation.to_uint8(image) if policy.pixels else tf.cast(tf.round(image), tf.uint8)  # is in range
        image.set_shape(shape)
        return where, image, label, *([key] if mixes else [])

    failures = Failures(found, order, reader.problem, prepare, on_error)
    data = records(found, epochs, order)
    data = data.map(prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    if found.pixels is None:
        data = data.ignore_errors().batch(share)
        data = accounted(data, epochs, order, failures, share if drop_remainder else 1)
    else:
        data = data.batch(share, drop_remainder, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    mix = augmentation.mixer(mixup, cutmix) if mixes else None

    def finish(_: Any, image: Any, label: Any, *key: Any) -> tuple[Any, Any]:
        for x in (image, label):
            x.set_shape([share if drop_remainder else None, *x.shape[1:]])
        return mix(image, tf.one_hot(label, len(found.class_names)), key[0][0]) if mix else (image, label)

    data = data.map(finish, **({"num_parallel_calls": tf.data.AUTOTUNE, "deterministic": True} if mixes else {}))
    # Before another comes first: what prefetches would then prepare the functions of this one, in a thread that has
    # forgotten which operations oneDNN has, and looks each up among thousands of kernels.
    data = data.prefetch(tf.data.AUTOTUNE)
    if jumps:
        data = unwanted(epochs, data.element_spec, share).concatenate(data)
    if on_error == "raise":  # with "skip" the number of batches is not known in advance
        data = data.apply(tf.data.experimental.assert_cardinality(whole + (of_rest > 0)))
    data = without_tuning(data)
    data.class_names, data.examples, data.epochs, data.skipped = (
        found.class_names,
        found.count,
        epochs,
        failures.skipped,
    )
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
