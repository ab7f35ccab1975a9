"""Notices images whose numbers are of another range than the network's input.

Nothing else would: training on them runs, and accuracy is low for many reasons.
"""

from __future__ import annotations

import contextlib
import sys
import types
import warnings
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

_BELOW_ZERO = "numbers scaled to -1 to 1, or standardized ones"
_any_range = False


@contextlib.contextmanager
def any_range() -> Iterator[None]:
    """While it is open, images may have any range of numbers: for images that are nearly black as they are, say.

    Elsewhere `train`, `fit`, `evaluate`, `quantize_aware` and `export` refuse images whose numbers are plainly not of
    the range that the network scales, such as images in [0, 1] for a network of pixels, 0 to 255.
    """
    global _any_range
    before, _any_range = _any_range, True
    try:
        yield
    finally:
        _any_range = before


class RangeCheck:
    """Checks batches of images, one after the other, against the range that a network is made for.

    A batch of a single number, such as a black image, says nothing, and is passed over.

    Args:
        wanted: lowest and highest number; None where they are not known, and nothing is refused.
        name: of the argument that holds the images, for the error.
        once: whether the first batch that says something is to speak for all.
        warn: whether to warn, once, and raise nothing.
    """

    def __init__(
        self, wanted: tuple[float, float] | None, name: str, *, once: bool = False, warn: bool = False
    ) -> None:
        self.wanted, self.name, self.once, self.warn, self.done = wanted, name, once, warn, False
        self.refusal: ValueError | None = None  # what was raised

    def __call__(self, images: Any) -> None:
        """Looks at a batch of images, of any shape.

        Raises:
            ValueError: if their numbers are of another range; the message names both and the cures.
        """
        if self.wanted is None or self.done or _any_range:
            return
        images = np.asarray(images)
        low, high = float(images.min()), float(images.max())
        if low == high or not np.isfinite([low, high]).all():
            return
        self.done = self.once
        if (seen := _seen(low, high, self.wanted)) is None:
            return
        wanted = f"{self.wanted[0]:g} to {self.wanted[1]:g}"
        self.refusal = ValueError(
            f"The images in `{self.name}` look like {seen}, and the network's first layers are made for {wanted}. Feed "
            f"numbers of that range, or build the network for yours (include_preprocessing=False). Images that are "
            f"right as they are, such as very dark ones, pass within `kresnet.any_range()`. "
            f"Received: {self.name} from {low:.4g} to {high:.4g}, dtype={images.dtype}"
        )
        if not self.warn:
            raise self.refusal
        self.done = True
        warnings.warn(str(self.refusal), stacklevel=3)


def _seen(low: float, high: float, wanted: tuple[float, float]) -> str | None:
    """Returns what numbers from `low` to `high` are instead of what is wanted; None if they may be that."""
    size = wanted[1]
    if size >= 255:
        # Resizing may overshoot, but nobody's pixels lie within two steps above black.
        if high <= 2 and low >= 0:
            return "numbers scaled to 0 to 1"
        if low < 0 and high <= 16:
            return _BELOW_ZERO
        if size == 255 and high > 400:
            return "numbers of more than 8 bits"
        return "pixels, 0 to 255" if size > 255 and high <= 255 else None
    if high > 16:
        return "pixels, 0 to 255"
    # By resizing, and by augmentation, numbers may lie beyond the ends, but not that far.
    if low < wanted[0] - 0.5:
        return _BELOW_ZERO if wanted[0] == 0 else "standardized numbers"
    return "dark pixels, or standardized numbers" if high > 2.5 else None


def watched(data: Any, check: RangeCheck) -> Any:
    """Returns what `fit` takes, such that the check sees its first batch: once, on the host, before the step.

    Args:
        data: `fit`'s `x`: an array, a `tf.data.Dataset`, a generator or a `keras.utils.PyDataset`. Anything else is
            returned unchanged, and nothing is seen.
        check: for the images.
    """
    if check.wanted is None:
        return data
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None and isinstance(data, tensorflow.data.Dataset):
        return _watched_dataset(data, check)
    if isinstance(data, keras.utils.PyDataset):
        return data if data.use_multiprocessing else _WatchedPyDataset(data, check)
    if isinstance(data, types.GeneratorType):
        return _watched_batches(data, check)
    if hasattr(data, "shape") and hasattr(data, "dtype") and len(data.shape) == 4:
        check(keras.ops.convert_to_numpy(data[:32]))
    return data


def seen_whole(data: Any, check: RangeCheck) -> Any:
    """Returns a `tf.data.Dataset` of batches of (images, ...), such that the check sees each of them on the host."""
    return _watched_dataset(data, check, whole=True) if check.wanted is not None else data


def _watched_dataset(data: Any, check: RangeCheck, whole: bool = False) -> Any:
    import tensorflow as tf

    if not isinstance(data.element_spec, tuple) or not isinstance(data.element_spec[0], tf.TensorSpec):
        return data

    def look(images: Any) -> np.bool_:
        check(images)
        return np.True_

    def watch(index: Any, batch: Any) -> Any:
        wanted = whole | (index == 0)
        seen = tf.cond(wanted, lambda: tf.numpy_function(look, [batch[0]], tf.bool), lambda: tf.constant(True))
        with tf.control_dependencies([seen]):
            return tf.nest.map_structure(tf.identity, batch)

    return data.enumerate().map(watch)


def _watched_batches(data: Any, check: RangeCheck) -> Iterator[Any]:
    for batch in data:
        check(_images_of(batch))
        yield batch


class _WatchedPyDataset(keras.utils.PyDataset):
    def __init__(self, data: keras.utils.PyDataset, check: RangeCheck):
        super().__init__(workers=data.workers, max_queue_size=data.max_queue_size)
        self.data, self.check = data, check

    @property
    def num_batches(self) -> int | None:
        return self.data.num_batches

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        batch = self.data[index]
        self.check(_images_of(batch))
        return batch

    def on_epoch_begin(self) -> None:
        self.data.on_epoch_begin()

    def on_epoch_end(self) -> None:
        self.data.on_epoch_end()


def _images_of(batch: Any) -> Any:
    images = batch[0] if isinstance(batch, tuple | list) else batch
    return keras.ops.convert_to_numpy(images) if hasattr(images, "dtype") else np.zeros(1)
