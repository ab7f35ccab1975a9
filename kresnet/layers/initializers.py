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

_PIECE = 1 << 15  # numbers
_DRAWS = contextvars.ContextVar("draws", default=True)


@contextlib.contextmanager
def undrawn(wanted: bool = True) -> Iterator[None]:
    """Within it `VarianceScaling` gives zeros: for weights that are set to others as soon as they are made."""
    token = _DRAWS.set(not wanted)
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
        values = _normal(rng, math.prod(shape))
        if self.distribution == "truncated_normal":
            while (outside := np.abs(values) > 2).any():
                values[outside] = _normal(rng, np.count_nonzero(outside))
            variance /= 0.87962566103423978**2  # the variance of what lies within two standard deviations
        values *= np.float32(math.sqrt(variance))
        return values.reshape(shape)

    def _entropy(self) -> Any:
        if isinstance(self.seed, keras.random.SeedGenerator):
            return np.asarray(ops.convert_to_numpy(self.seed.next())).tolist()
        return self.seed


def _normal(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draws from the standard normal distribution, float32, in a third of NumPy's time.

    NumPy's sampler draws one number after the other. Pairs of uniform numbers, read as angle and radius, give pairs of
    normal ones by functions that NumPy has in SIMD; of 24 bits each, none is beyond 5.8 deviations.

    Source: Box and Muller 1958, doi:10.1214/aoms/1177706645.
    """
    values = np.empty(count, "float32")
    for start in range(0, count, _PIECE):  # so that what is between stays in the processor's cache
        piece = values[start : start + _PIECE]
        half = (len(piece) + 1) // 2
        radius = np.sqrt(-2 * np.log(1 - rng.random(half, "float32")))
        angle = 2 * math.pi * rng.random(half, "float32")
        piece[:half] = radius * np.cos(angle)
        piece[half:] = (radius * np.sin(angle))[: len(piece) - half]
    return values


def he_normal() -> VarianceScaling:
    """Returns a new He initializer: zero mean, variance 2 / fan-in (He et al. 2015, arXiv:1502.01852, section 2.2)."""
    return VarianceScaling(scale=2.0, mode="fan_in", distribution="untruncated_normal")
