"""Which images come in which order: that of an epoch, from a batch on, of one process's share."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kresnet.data import sources

# Size of the shuffle buffer of a stream, in encoded images of about 100 KB each.
SHUFFLE_BUFFER = 10_000


class Share(NamedTuple):
    """What a process reads of each batch: images `first` to `first + size` of its `batch_size`, `images` in all."""

    first: int
    size: int
    batch_size: int
    images: int


class Epochs:
    """Counts the epochs of a dataset. All its random draws depend on the count.

    Attributes:
        next: the number of the next epoch, from 0. Assign it to repeat an epoch or to resume.
        first: the first batch of the next epoch that is wanted, from 0. Those before it come all the same, so that an
            epoch keeps its length, but as zeros where that saves decoding their images.
    """

    def __init__(self) -> None:
        self.next, self.first = 0, 0

    def begin(self) -> np.ndarray:
        """Returns the number of the epoch that begins, and its first batch that is wanted; counts the epoch."""
        begun = np.array([self.next, self.first])
        self.next, self.first = self.next + 1, 0
        return begun


def unwanted(epochs: Epochs, spec: Any, batch_size: int) -> Any:
    """Returns a dataset of zeros, as many batches as the next epoch's first that is wanted comes after."""
    import tensorflow as tf

    def zeros(first: Any) -> Any:
        shapes = tf.nest.map_structure(lambda s: [batch_size if size is None else size for size in s.shape], spec)
        batch = tuple(tf.zeros(shape, s.dtype) for shape, s in zip(shapes, spec, strict=True))
        return tf.data.Dataset.from_tensors(batch).repeat(first)

    start = tf.data.Dataset.range(1).map(lambda _: tf.numpy_function(lambda: np.int64(epochs.first), [], tf.int64))
    return start.flat_map(lambda first: zeros(tf.ensure_shape(first, [])))


def records(
    source: sources.Source, epochs: Epochs, shuffle: bool, repeats: int, seed: int, share: Share, jumps: bool
) -> Any:
    """Returns a dataset of (epoch, draw, record, label), one epoch long, from the first batch that is wanted on.

    `draw` numbers the random draws of an epoch: the k-th repeat of image i, from 0, has the number i + k * count.
    """
    import tensorflow as tf

    start = tf.data.Dataset.range(1).map(lambda _: tf.ensure_shape(tf.numpy_function(epochs.begin, [], tf.int64), [2]))
    if source.stream:

        def streamed(begun: Any) -> Any:
            epoch = begun[0]
            data = source.stream().enumerate()
            if shuffle:
                # The graph's seed must not be 0: TensorFlow would then compare the other seed, a tensor, in Python.
                tf.compat.v1.set_random_seed(seed + 1)
                data = data.shuffle(min(source.count, SHUFFLE_BUFFER), seed=epoch)
            draws = tf.data.Dataset.range(0, repeats * source.count, source.count)
            data = data.flat_map(lambda i, example: draws.map(lambda draw: (epoch, i + draw, *example)))
            data = data.take(source.count)
            if share.size == share.batch_size:
                return data
            mine = share.first // share.size
            data = data.enumerate().filter(lambda position, _: position % share.batch_size // share.size == mine)
            return data.map(lambda position, record: record)

        return start.flat_map(streamed)

    def draws(begun: Any) -> Any:
        epoch, first = begun[0], begun[1]
        key = tf.stack([tf.constant(seed, tf.int64), epoch])

        def draw(own: Any) -> Any:
            position = own // share.size * share.batch_size + share.first + own % share.size
            i = position // repeats
            i = tf.random.experimental.index_shuffle(i, key, source.count - 1) if shuffle else i
            return epoch, i, i + position % repeats * source.count

        return tf.data.Dataset.range(first * share.size if jumps else 0, share.images).map(draw)

    records = tf.constant(source.paths) if source.paths is not None else tf.constant(source.pixels)
    labels = tf.constant(source.labels)
    return start.flat_map(draws).map(lambda epoch, i, draw: (epoch, draw, tf.gather(records, i), tf.gather(labels, i)))
