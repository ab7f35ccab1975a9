"""He's initialization, drawn by NumPy."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="kresnet")
class VarianceScaling(keras.initializers.VarianceScaling):
    """Keras's VarianceScaling, drawn by NumPy.

    On the JAX backend Keras's own compiles a program for every weight shape, which takes most of the time of building a
    network. The distributions are the same, the numbers are not. One seed gives the same numbers on every backend.

    Args: as `keras.initializers.VarianceScaling`.
    """

    def __call__(self, shape, dtype=None):
        receptive_field = math.prod(shape[:-2])
        fan_in, fan_out = receptive_field * shape[-2], receptive_field * shape[-1]
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, fan)
        rng = np.random.default_rng(self._entropy())
        if self.distribution == "uniform":
            limit = math.sqrt(3 * variance)
            values = rng.uniform(-limit, limit, shape).astype("float32")
        else:
            values = rng.standard_normal(shape, dtype="float32")
            if self.distribution == "truncated_normal":
                while (outside := np.abs(values) > 2).any():
                    values[outside] = rng.standard_normal(np.count_nonzero(outside), dtype="float32")
                variance /= 0.87962566103423978**2  # the variance of what lies within two standard deviations
            values *= np.float32(math.sqrt(variance))
        return ops.convert_to_tensor(values, dtype=dtype or keras.config.floatx())

    def _entropy(self) -> Any:
        if isinstance(self.seed, keras.random.SeedGenerator):
            return np.asarray(ops.convert_to_numpy(self.seed.next())).tolist()
        return self.seed


def he_normal() -> VarianceScaling:
    """Returns a new He initializer: zero mean, variance 2 / fan-in (He et al. 2015, arXiv:1502.01852, section 2.2)."""
    return VarianceScaling(scale=2.0, mode="fan_in", distribution="untruncated_normal")
