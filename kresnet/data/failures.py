"""What became of images that are missing from their batches: errors of tf.data's graph name no file."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from kresnet.data import images, sources
from kresnet.data.order import Epochs, Order

_log = logging.getLogger("kresnet")


def accounted(data: Any, epochs: Epochs, order: Order, failed: Callable[[int, int], None], fewest: int) -> Any:
    """Returns the batches, `where` replaced, and calls a function for each place of an epoch that is in none of them.

    Args:
        data: batches of (where, ...), `where` as `order.records` gives it; some places may be missing.
        epochs, order: what `where` counts.
        failed: a function of the epoch and the place, which may raise. It is called before the batch in which the
            image would have been, or the next, is handed on.
        fewest: batches of fewer images are left out.
    """
    import tensorflow as tf

    count = order.share.images

    def look(state: np.ndarray, where: np.ndarray) -> tuple[np.ndarray, np.bool_]:
        (epoch, first), places = where[0, :2].tolist(), where[:, 2].tolist()
        if state[0] >= 0:
            epoch, due = state.tolist()  # by now another epoch may have begun
        elif places[0] == count:  # the end, and there was no batch
            epoch, first = epochs.begun.tolist()
            due = order.first_place(first)
        else:
            due = first
        if places[-1] - due != len(places) - 1:
            for place in sorted({*range(due, places[-1])} - {*places}):
                failed(epoch, place)
        return np.array([epoch, places[-1] + 1]), np.bool_(fewest <= len(places) and places[-1] < count)

    def looked(state: Any, batch: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
        state, wanted = tf.numpy_function(look, [state, batch[0]], [tf.int64, tf.bool])
        state.set_shape([2])
        wanted.set_shape([])
        return state, (wanted, *batch[1:])

    zeros = (tf.zeros([1, *spec.shape[1:]], spec.dtype) for spec in data.element_spec[1:])
    end = tf.data.Dataset.from_tensors((np.array([[-1, -1, count]]), *zeros))
    data = data.concatenate(end).scan(np.array([-1, -1]), looked)
    return data.filter(lambda wanted, *batch: wanted)


class Failures:
    """Raises an error that names an image which cannot be read, or skips it.

    Args:
        source: whose images they are.
        order: tells which image has which place.
        problem: a function of an image's index and the key of its draws, which returns what is wrong with its file,
            or None if nothing is.
        prepare: the function that failed, which for a healthy file raises the error of its augmentation.
        on_error: "raise" or "skip".

    Attributes:
        skipped: names of the images skipped so far.
    """

    def __init__(
        self,
        source: sources.Source,
        order: Order,
        problem: Callable[[int, np.ndarray], str | None],
        prepare: Callable[..., Any],
        on_error: str,
    ) -> None:
        self._source, self._order, self._problem = source, order, problem
        self._prepare, self._on_error = prepare, on_error
        self.skipped: list[str] = []

    def __call__(self, epoch: int, place: int) -> None:
        """Raises or skips the image at a place of an epoch."""
        name, said = self._named(np.int64(epoch), np.int64(place))
        if self._on_error == "raise":
            raise ValueError(said)
        self.skipped.append(name)
        _log.warning("Skipped %s", said)

    def _named(self, epoch: np.int64, place: np.int64) -> tuple[str, str]:
        import tensorflow as tf

        name = self._source.name
        if self._source.paths is None:
            return name, f"{name}: image {place} of epoch {epoch}, both counted from 0, cannot be decoded"
        i, draw = (np.int64(x) for x in self._order.at(epoch, place))
        name = os.fsdecode(self._source.paths[i])
        key = np.asarray(self._order.key(epoch, draw))
        said = self._problem(i, key)
        if said is None:
            record, label = self._source.records(np.array([i]))[0], self._source.labels[i]
            inputs = map(tf.constant, (np.array([epoch, 0, place]), key, record, label))
            tf.function(self._prepare, autograph=False)(*inputs)  # in a graph, as it failed
        return name, said or f"{images.shown(name)}: it could not be read, and then it could"
