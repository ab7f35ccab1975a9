"""Where `fit` keeps what a resumed training must set, and Keras has no public name for."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras


def begin_at(model: keras.Model, epoch: int | None) -> None:
    """Lets the next `fit` begin at an epoch, as `keras.callbacks.BackupAndRestore` does; None: where it is told to."""
    model._initial_epoch = epoch


def pass_over(
    model: keras.Model, batches: int, restore_metrics: Callable[[], None], passed: Callable[[int], None]
) -> None:
    """Lets the `fit` that has begun read its next batches without training on them.

    Args:
        model: a compiled model.
        batches: how many.
        restore_metrics: gives the metrics' variables their values, as soon as there are such variables.
        passed: told how many batches were passed over, each time.
    """
    train, at_once, backend = model.train_function, int(model.steps_per_execution), keras.backend.backend()
    logs: dict[str, float] = {}
    left = batches

    def restore() -> None:
        restore_metrics()
        logs.update({name: float(value) for name, value in model.get_metrics_result().items()})

    def passing(*arguments: Any) -> Any:
        nonlocal left
        if left <= 0:
            model.train_function = train
            return train(*arguments)
        # PyTorch's `fit` hands over batches, the others' an iterator of them.
        read = arguments[-1] if backend == "torch" else [next(arguments[-1]) for _ in range(at_once)]
        if not logs:
            model._symbolic_build(data_batch=read[0])  # metrics' variables are made in the first step otherwise
            restore()
        left -= at_once
        passed(at_once)
        return (dict(logs), arguments[0]) if backend == "jax" else dict(logs)

    if backend == "jax":  # whose metrics are built, and have no values within the step
        restore()
    model.train_function = passing


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
