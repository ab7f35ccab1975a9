"""Where `fit` keeps what a resumed training must set, and Keras has no public name for."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import keras


def begin_at(model: keras.Model, epoch: int | None) -> None:
    """Lets the next `fit` begin at an epoch, as `keras.callbacks.BackupAndRestore` does; None: where it is told to."""
    model._initial_epoch = epoch


def build_metrics(model: keras.Model, batch: Any) -> None:
    """Creates the variables of a compiled model's metrics, which are made in the first step otherwise.

    Args:
        model: a compiled model.
        batch: (images, labels, ...) as `fit` reads them; only shapes and dtypes count.
    """
    model._symbolic_build(data_batch=batch)


def times_opened(data: Any, epochs: int) -> int:
    """Returns how many iterators of a `tf.data.Dataset` the first epochs of `fit` have opened, read or not.

    Under TensorFlow that is a second one at the end of each epoch, if the dataset knows its length. The other backends
    open an iterator when they first read from it.
    """
    twice = keras.backend.backend() == "tensorflow" and data.cardinality() >= 0
    return 2 * epochs if twice else epochs


@contextlib.contextmanager
def may_end_anywhere() -> Iterator[None]:
    """While it is open, `fit` does not warn of datasets that end before it knows how long they are.

    Keras learns by its end how long such a dataset is, one whose broken images are skipped for example, reads all of it
    in every epoch, and yet says each time that it "ran out of data; interrupting training".
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Your input ran out of data", UserWarning)
        yield
