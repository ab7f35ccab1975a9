"""What a run is fed: how it is loaded, looked at before the step that would use it, and weighted."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from kresnet import checks
from kresnet.data import resizing, sources
from kresnet.data.loading import load
from kresnet.data.samples import class_indices
from kresnet.graph.inputs import input_range
from kresnet.graph.ranges import RangeCheck, seen_whole
from kresnet.progress import say
from kresnet.training.recipe import Recipe

# A recipe's batches are for a million images: an epoch of a few would be one step, or none.
STEPS, FEWEST = 8, 8
_REFUSED = re.compile(r"assertion failed: \[(Labels .*? Received: .*?)\]")


def first_batch(dataset: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns images and labels of the first batch of a `tf.data.Dataset`.

    Raises:
        ValueError: if it is none of (images, labels) or (images, labels, weights) in batches, or is empty.
    """
    spec = getattr(dataset, "element_spec", None)
    ok = isinstance(spec, tuple) and len(spec) in (2, 3) and getattr(spec[0], "shape", None) is not None
    cure = "such as tf.data.Dataset.from_tensor_slices((images, labels)).batch(32)"
    kind = {name: dataset if spec is not None else type(dataset).__name__}
    checks.require(ok, f"`{name}` must be a source's name or a tf.data.Dataset of (images, labels), {cure}", **kind)
    checks.require(
        spec[0].shape.rank == 4,
        f"`{name}` must hold batches of images, (batch, height, width, channels); see `Dataset.batch`",
        images=tuple(spec[0].shape),
    )
    batch = next(iter(dataset.take(1)), None)
    checks.require(batch is not None and len(batch[1]) > 0, "There are no images", **{name: dataset})
    return np.asarray(batch[0]), np.asarray(batch[1])


def with_overrides(base: Recipe, overrides: dict[str, Any], given: int | None) -> tuple[Recipe, int]:
    """Returns the recipe with the overridden fields, and the batch size.

    The recipe keeps its own batch size, by which its learning rate is scaled, unless a learning rate is given too.

    Args:
        base: the recipe.
        overrides: its fields that are given.
        given: the size of a dataset's batches; None if they are still to be made.
    """
    batch_size = overrides.get("batch_size", base.batch_size if given is None else given)
    checks.require(given in (None, batch_size), f"The dataset's batches hold {given} images", batch_size=batch_size)
    batch_size = checks.integer("batch_size", batch_size)
    recipe = base.replace(**{name: value for name, value in overrides.items() if name != "batch_size"})
    return (recipe.replace(batch_size=batch_size) if "learning_rate" in overrides else recipe), batch_size


def fitting_batch_size(
    source: str, batch_size: int, split_seed: int, data_dir: str | os.PathLike | None, devices: int = 1
) -> int:
    """Returns a recipe's batch size, halved until an epoch has `STEPS` steps, or a batch `FEWEST` images; says so.

    It divides among as many devices as the recipe's does.
    """
    count, wanted = sources.find(source, "train", seed=split_seed, data_dir=data_dir).count, batch_size
    while batch_size >= 2 * FEWEST and count // batch_size < STEPS and batch_size // 2 % devices == 0:
        batch_size //= 2
    if batch_size < wanted:
        say(f"Batches of {batch_size} images and not of {wanted}, with {count} to train on; the learning rate follows.")
    return batch_size


def training_images(source: str, recipe: Recipe, size: int, batch_size: int, options: dict[str, Any]) -> Any:
    """Loads the training images of a source as the recipe says; says which of its files are left out."""
    augment = recipe.augment
    if augment == "auto":
        augment = "cifar" if size < resizing.SMALL else "inception"
    names = ("flip", "mixup", "cutmix", "repeats")
    how = {name: getattr(recipe, name) for name in names}
    found = load(source, "train", size, batch_size, augment=augment, **how, **options)
    if found.left_out:
        say(found.left_out)
    return found


def validation_images(
    source: str, recipe: Recipe, size: int, batch_size: int, options: dict[str, Any], classes: tuple[str, ...]
) -> Any:
    """Loads the validation images of a source, whose classes must be those of the training images.

    Raises:
        ValueError: if they are not.
    """
    found = load(source, "validation", size, batch_size, crop_fraction=recipe.crop_fraction, **options)
    checks.require(
        found.class_names == classes,
        "Training and validation images must have the same classes",
        only_in_one=sorted(set(found.class_names) ^ set(classes)),
    )
    return found


def steps_per_epoch(data: Any, batch_size: int) -> int:
    """Returns the number of batches of a dataset; where images may be skipped, what it is without that."""
    steps = int(data.cardinality())
    if steps >= 0:
        return steps
    examples = getattr(data, "examples", None)
    checks.require(examples, "`data` must know its length; see tf.data.experimental.assert_cardinality", data=data)
    return max(1, examples // batch_size)


def batched(arrays: tuple[Any, ...], batch_size: int) -> Any:
    """Returns arrays of (images, labels) or (images, labels, weights) as a `tf.data.Dataset` of batches."""
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(arrays).batch(batch_size)


def checked(
    model: keras.Model, several: bool, seen: Mapping[str, tuple[np.ndarray, np.ndarray]], datasets: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns a user's datasets, whose labels are checked from now on, after a look at their first batches.

    Args:
        model: the network.
        several: as in `with_checked_labels`.
        seen: first images and labels that were read already, by the names of their arguments.
        datasets: by the names of their arguments; the training data first.

    Raises:
        ValueError: if images are not of the range that the network is made for, or of different ranges, or a label
            cannot be right; of validation images, every batch is looked at when it is used.
    """
    wanted, classes, sizes, found = input_range(model), model.output_shape[-1], {}, {}
    for name, data in datasets.items():
        pictures, labels = seen[name] if name in seen else first_batch(data, name)
        in_range = RangeCheck(wanted, name)
        in_range(pictures)
        sizes[name] = float(np.abs(pictures.astype("float32")).max())
        found[name] = with_checked_labels(data, classes, several, name)
        check_labels(labels, classes, several, name)
        if name != "data":  # of the training data the first batch speaks for all
            found[name] = seen_whole(found[name], in_range)
    alike = len(sizes) < 2 or not min(sizes.values()) or max(sizes.values()) / min(sizes.values()) < 20
    checks.require(alike, "Training and validation images have different ranges; their largest numbers", **sizes)
    return found


def check_labels(labels: np.ndarray, classes: int, several: bool, name: str) -> None:
    """Refuses a batch's labels as `with_checked_labels` does.

    Raises:
        ValueError: if one cannot be right.
    """
    import tensorflow as tf

    try:
        list(with_checked_labels(tf.data.Dataset.from_tensors((0, labels)), classes, several, name))
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(refused_labels(error) or str(error)) from None


def with_checked_labels(dataset: Any, classes: int, several: bool, name: str) -> Any:
    """Returns the dataset, whose iteration ends with an error at the first batch with a label that cannot be right.

    XLA would turn it into a NaN, or into a wrong class, without a word. What it takes is to compare a few numbers.

    Args:
        dataset: a `tf.data.Dataset` of batches of (images, labels, ...).
        classes: of the network; 1 where its only output is the probability of class 1 of 0 and 1.
        several: whether an image may have several classes, as with a sigmoid for each: its shares need not sum to 1.
        name: of the argument, for the error.
    """
    import tensorflow as tf

    labels = dataset.element_spec[1]
    checks.require(
        isinstance(labels, tf.TensorSpec)
        and (labels.dtype.is_floating or labels.dtype.is_integer or labels.dtype == bool),
        f"Labels in `{name}` must be numbers",
        labels=labels,
    )
    columns = labels.shape[-1] if labels.shape.rank == 2 else 1
    checks.require(
        columns in (1, classes),
        "The network and the labels must have the same classes",
        network=classes,
        labels=columns,
    )
    shares = columns > 1
    highest = max(1, classes - 1)

    def check(index: Any, batch: tuple[Any, ...]) -> tuple[Any, ...]:
        values = tf.cast(batch[1], tf.float64)
        if shares:
            total, least, most = (f(values, axis=-1) for f in (tf.reduce_sum, tf.reduce_min, tf.reduce_max))
            wrong = ~((least >= 0) & (most <= 1) & (several | (tf.abs(total - 1) < 1e-3)))
            text = "shares in 0 to 1" if several else "shares in 0 to 1 that sum to 1"
            told, numbers = "smallest={}, largest={}, sum={}", (least, most, total)
        else:
            values = tf.reshape(values, [-1])
            whole = (values == tf.floor(values)) | (classes == 1)
            wrong, text = ~((values >= 0) & (values <= highest) & whole), f"whole numbers in 0 to {highest}"
            told, numbers = "label={}", (values,)
        # Of the first label that is wrong, if there is one.
        bad = [tf.concat([tf.boolean_mask(number, wrong), [0.0]], 0)[0] for number in numbers]
        said = tf.strings.format(
            f"Labels in `{name}` must be {text}. Received: {told}, batch={{}}, counted from 0", (*bad, index)
        )
        with tf.control_dependencies([tf.debugging.Assert(~tf.reduce_any(wrong), [said], summarize=20)]):
            return tf.nest.map_structure(tf.identity, batch)

    return dataset.enumerate().map(check)


def refused_labels(error: BaseException) -> str | None:
    """Returns what `with_checked_labels` said, if that is what an error of TensorFlow's is about."""
    found = _REFUSED.search(str(error).replace("\n", " "))
    return found[1] if found else None


def class_weights(wanted: Mapping[int, float] | str | None, data: Any, classes: int) -> dict[int, float] | None:
    """Returns what each class's losses are multiplied by, for `fit`.

    Args:
        wanted: "balanced", so that each class counts alike and the weights are 1 on average over the images; or a
            number of at least 0 for each class, by its index, 1 where none is given.
        data: the training data, a `tf.data.Dataset`; read once for "balanced" unless its labels are known.
        classes: of the network.

    Raises:
        ValueError: if there is no such class, or a class has no images.
    """
    if wanted is None:
        return None
    classes = max(2, classes)
    two = classes == 2
    if wanted == "balanced":
        known = getattr(data, "labels", None)
        if known is None:
            known = np.concatenate([class_indices(batch[1], two) for batch in data.as_numpy_iterator()])
        counts = np.bincount(np.asarray(known, "int64"), minlength=classes)
        checks.require(counts.all(), 'class_weight="balanced" needs images of every class', images=counts.tolist())
        return {index: float(counts.sum() / (classes * count)) for index, count in enumerate(counts)}
    ok = isinstance(wanted, Mapping) and all(
        isinstance(index, int | np.integer) and 0 <= index < classes and float(weight) >= 0
        for index, weight in wanted.items()
    )
    checks.require(
        ok,
        f'`class_weight` must be "balanced", or map classes, 0 to {classes - 1}, to numbers of at least 0',
        class_weight=wanted,
    )
    return dict.fromkeys(range(classes), 1.0) | {int(index): float(weight) for index, weight in wanted.items()}
