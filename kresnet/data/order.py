"""Which images come in which order: that of an epoch, from a batch on, of one process's share."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kresnet.data import sources
from kresnet.data.draws import fold

# Size of the shuffle buffer of a stream, in encoded images of about 100 KB each.
SHUFFLE_BUFFER = 10_000

# Images whose order is found at a time: paths of files, or what is in memory then.
PATHS, BLOCK = 1024, 32


class Share(NamedTuple):
    """What a process reads of each batch: images `first` to `first + size` of its `batch_size`, `images` in all."""

    first: int
    size: int
    batch_size: int
    images: int


class Order(NamedTuple):
    """The order of images in an epoch, and the numbers of their random draws.

    Attributes:
        count: how many images a source has.
        shuffle: whether each epoch has an order of its own.
        repeats: how often an image comes in an epoch.
        seed: of the order, and of all draws.
        share: what this process reads.
        jumps: whether an epoch begins with the first batch that is wanted, and not with the first of all.
    """

    count: int
    shuffle: bool
    repeats: int
    seed: int
    share: Share
    jumps: bool

    def first_place(self, batch: Any) -> Any:
        """Returns the first place that is read if a batch is the first that is wanted."""
        return batch * self.share.size if self.jumps else batch * 0

    def at(self, epoch: Any, place: Any) -> tuple[Any, Any]:
        """Returns which images have places, from 0, among those this process reads, and the numbers of their draws."""
        import tensorflow as tf

        share, seed = self.share, tf.constant(self.seed, tf.int64)
        position = place // share.size * share.batch_size + share.first + place % share.size
        i = position // self.repeats
        if self.shuffle:
            i = tf.random.experimental.index_shuffle(i, tf.stack([seed, epoch]), self.count - 1)
        return i, i + position % self.repeats * self.count

    def root(self, epoch: Any) -> Any:
        """Returns what the keys of an epoch's draws have in common, int64."""
        import tensorflow as tf

        return fold(tf.stack([tf.constant(self.seed, tf.int64), epoch]), np.int64(0))[0]

    def key(self, epoch: Any, draw: Any) -> Any:
        """Returns the key of an image's random draws, int64 (2,)."""
        import tensorflow as tf

        return tf.stack([self.root(epoch), draw])


class Epochs:
    """Counts the epochs of a dataset. All its random draws depend on the count.

    Attributes:
        begun: the number of the last epoch that began, and its first batch.
        next: the number of the next epoch, from 0. Assign it to repeat an epoch or to resume.
        first: the first batch of the next epoch that is wanted, from 0. Those before it come all the same, so that an
            epoch keeps its length, but as zeros where that saves decoding their images.
    """

    def __init__(self) -> None:
        self.next, self.first = 0, 0
        self.begun = np.array([-1, 0])

    def begin(self) -> np.ndarray:
        """Returns the number of the epoch that begins, and its first batch that is wanted; counts the epoch."""
        self.begun = np.array([self.next, self.first])
        self.next, self.first = self.next + 1, 0
        return self.begun


def unwanted(epochs: Epochs, spec: Any, batch_size: int) -> Any:
    """Returns a dataset of zeros, as many batches as the next epoch's first that is wanted comes after."""
    import tensorflow as tf

    def comes_before(number: Any) -> Any:
        before = tf.numpy_function(lambda number: number < epochs.first, [number], tf.bool)
        before.set_shape([])
        return before

    nothing = [tf.zeros([], s.dtype) for s in spec]  # from outside: constant zeros would be computed for every epoch

    def zeros(_: Any) -> Any:
        shapes = ([batch_size if size is None else size for size in s.shape] for s in spec)
        return tuple(tf.fill(shape, zero) for shape, zero in zip(shapes, nothing, strict=True))

    return tf.data.Dataset.range(np.iinfo("int64").max).take_while(comes_before).map(zeros)


def records(source: sources.Source, epochs: Epochs, order: Order) -> Any:
    """Returns a dataset of (where, key, record, label), one epoch long.

    `where` is int64 (3,): the epoch, the first place in it that is read, and the record's own place, from 0. `key` is
    that of the record's random draws.

    Args:
        source: where the records are from.
        epochs: counts the epochs.
        order: of the records; a stream's is as random as a buffer of them allows.
    """
    import tensorflow as tf

    share = order.share
    if source.stream:

        def streamed(begun: Any) -> Any:
            epoch = begun[0]
            data = source.stream().enumerate()
            if order.shuffle:
                # The graph's seed must not be 0: TensorFlow would then compare the other seed, a tensor, in Python.
                tf.compat.v1.set_random_seed(order.seed + 1)
                data = data.shuffle(min(order.count, SHUFFLE_BUFFER), seed=epoch)
            draws, root = tf.data.Dataset.range(0, order.repeats * order.count, order.count), order.root(epoch)
            data = data.flat_map(lambda i, example: draws.map(lambda draw: (tf.stack([root, i + draw]), *example)))
            data = data.take(order.count).enumerate()
            if share.size != share.batch_size:
                mine = share.first // share.size
                data = data.filter(lambda position, _: position % share.batch_size // share.size == mine)
                data = data.map(lambda position, record: record).enumerate()
            return data.map(lambda place, record: (tf.stack([epoch, 0, place]), *record))

        start = tf.data.Dataset.range(1).map(
            lambda _: tf.ensure_shape(tf.numpy_function(epochs.begin, [], tf.int64), [2])
        )
        return start.flat_map(streamed)

    # Python counts, a block at a time: that costs an image nothing, where each operation and each function of the graph
    # is prepared anew for every epoch.
    size = PATHS if source.paths is not None and not source.packed else BLOCK

    def block(begun: np.ndarray, number: np.int64) -> tuple[Any, ...]:
        with tf.device("CPU"):
            if number == 0:
                epoch, first = epochs.begin()
                begun = np.array([epoch, order.first_place(first), order.root(epoch)])
            epoch, first, root = begun
            places = np.arange(first + number * size, min(first + (number + 1) * size, share.images))
            i, draws = map(np.asarray, order.at(epoch, places))
        where = np.stack([np.full_like(places, epoch), np.full_like(places, first), places], 1)
        keys = np.stack([np.full_like(places, root), draws], 1)
        return begun, where, keys, source.records(i), source.labels[i]

    def numbered(begun: Any, number: Any) -> tuple[Any, tuple[Any, ...]]:
        kind = tf.uint8 if source.pixels is not None else tf.string
        shapes = [3], [None, 3], [None, 2], [None, *source.record_shape], [None]
        found = tf.numpy_function(block, [begun, number], [tf.int64, tf.int64, tf.int64, kind, tf.int64])
        for x, shape in zip(found, shapes, strict=True):
            x.set_shape(shape)
        return found[0], tuple(found[1:])

    blocks = tf.data.Dataset.range(-(-share.images // size))
    blocks = blocks.scan(np.zeros(3, np.int64), numbered)
    return (blocks.prefetch(2) if source.packed else blocks).unbatch()  # these are read while others are decoded
