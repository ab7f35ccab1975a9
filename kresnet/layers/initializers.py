"""He's initialization, drawn by NumPy."""

from __future__ import annotations

import contextlib
import contextvars
import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

_DRAWS = contextvars.ContextVar("draws", default=True)


@contextlib.contextmanager
def undrawn() -> Iterator[None]:
    """Within it `VarianceScaling` gives zeros: for weights that are set to others as soon as they are made."""
    token = _DRAWS.set(False)
    try:
        yield
    finally:
        _DRAWS.reset(token)


@keras.saving.register_keras_serializable(package="kresnet")
class VarianceScaling(keras.initializers.VarianceScaling):
    """Keras's VarianceScaling, drawn by NumPy.

    On the JAX backend Keras's own compiles a program for every weight shape, which takes most of the time of building a
    network. The distributions are the same, the numbers are not. One seed gives the same numbers on every backend.

    Args: as `keras.initializers.VarianceScaling`.
    """

    def __call__(self, shape, dtype=None):
        values = self._drawn(shape) if _DRAWS.get() else np.zeros(shape, "float32")
        return ops.convert_to_tensor(values, dtype=dtype or keras.config.floatx())

    def _drawn(self, shape) -> np.ndarray:
        receptive_field = math.prod(shape[:-2])
        fan_in, fan_out = receptive_field * shape[-2], receptive_field * shape[-1]
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, fan)
        rng = np.random.default_rng(self._entropy())
        if self.distribution == "uniform":
            limit = math.sqrt(3 * variance)
            return rng.uniform(-limit, limit, shape).astype("float32")
        values = rng.standard_normal(shape, dtype="float32")
        if self.distribution == "truncated_normal":
            while (outside := np.abs(values) > 2).any():
                values[outside] = rng.standard_normal(np.count_nonzero(outside), dtype="float32")
            variance /= 0.87962566103423978**2  # the variance of what lies within two standard deviations
        values *= np.float32(math.sqrt(variance))
        return values

    def _entropy(self) -> Any:
        if isinstance(self.seed, keras.random.SeedGenerator):
            return np.asarray(ops.convert_to_numpy(self.seed.next())).tolist()
        return self.seed


def he_normal() -> VarianceScaling:
    """Returns a new He initializer: zero mean, variance 2 / fan-in (He et al. 2015, arXiv:1502.01852, section 2.2)."""
    return VarianceScaling(scale=2.0, mode="fan_in", distribution="untruncated_normal")
