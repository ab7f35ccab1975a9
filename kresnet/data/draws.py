"""Random draws that depend only on a key, also in layers of libraries that draw from stateful generators."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras


def fold(key: Any, number: Any) -> Any:
    """Returns the key's number-th key, int64 (2,)."""
    import tensorflow as tf

    return tf.random.experimental.stateless_fold_in(key, number)


class Draws:
    """Draws from one key: the n-th draw depends on the key and n. Replaces tf.random's functions and its Generator."""

    def __init__(self, key: Any) -> None:
        self.key, self.count = key, 0

    def next(self, ordered: bool = True) -> Any:
        self.count += 1
        return fold(self.key, 1000 + self.count)

    def uniform(self, shape, minval=0, maxval=None, dtype="float32", seed=None, name=None):
        import tensorflow as tf

        maxval = 1 if maxval is None and tf.as_dtype(dtype).is_floating else maxval
        return tf.random.stateless_uniform(shape, self.next(), minval, maxval, dtype)

    def normal(self, shape, mean=0.0, stddev=1.0, dtype="float32", seed=None, name=None):
        import tensorflow as tf

        return tf.random.stateless_normal(shape, self.next(), mean, stddev, dtype)

    def gamma(self, shape, alpha, beta=None, dtype="float32", seed=None, name=None):
        import tensorflow as tf

        return tf.random.stateless_gamma(shape, self.next(), alpha, beta, dtype)

    def shuffle(self, value, seed=None, name=None):
        import tensorflow as tf

        return tf.random.experimental.stateless_shuffle(value, self.next())


class Seeds(keras.random.SeedGenerator):
    """Seeds for Keras's layers: the n-th depends on a key and n."""

    def __init__(self, key: Any) -> None:
        self._draws = Draws(key)

    def next(self, ordered: bool = True) -> Any:
        return self._draws.next()


@contextlib.contextmanager
def keyed(key: Any) -> Iterator[None]:
    """While it is open, TensorFlow's random functions, from which keras-cv draws, draw from a key.

    For tracing. The stateful functions that it replaces depend on the order of parallel calls, and repeat in every
    epoch inside tf.data.
    """
    import tensorflow as tf

    draws = Draws(key)
    replaced = {name: getattr(draws, name) for name in ("uniform", "normal", "gamma", "shuffle")}
    replaced["get_global_generator"] = lambda: draws
    originals = {name: getattr(tf.random, name) for name in replaced}
    try:
        for name, function in replaced.items():
            setattr(tf.random, name, function)
        yield
    finally:
        for name, function in originals.items():
            setattr(tf.random, name, function)
