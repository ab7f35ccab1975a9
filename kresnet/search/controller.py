"""A recurrent policy that writes a network choice by choice, and learns by REINFORCE which are rewarded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kresnet.search.space import PATIENCE, Point, Space

UNITS, RATE, DECAY, ENTROPY = 32, 0.02, 0.9, 0.05
BATCH = 16  # networks that are written at a time
_NEVER = -1e9  # logit of what is no option


class Controller:
    """A policy of Keras's layers, on every backend.

    Each step takes the option that the step before chose and gives probabilities of its own options. After a trial the
    policy's log-probability of its choices is raised by its reward's advantage over a moving average of rewards. It is
    trained with `train_on_batch`: the cross-entropy of what was chosen, weighted by the advantage, is REINFORCE's loss.
    A small bonus for entropy keeps it from settling on the first good network.

    Args:
        space: what to choose from.
        seed: of the initial weights.

    Source: Zoph and Le 2017, arXiv:1611.01578, section 3.2. Rates are for a hundred trials, not for their 12,800.
    """

    def __init__(self, space: Space, seed: int):
        self.space, self.options = space, list(space.labels.values())
        self.learned, self.baseline, self.spread = 0, None, 0.0
        widest = max(map(len, self.options))
        self._offsets = 1 + np.cumsum([0, *map(len, self.options)])  # 0 is the start, before the first choice
        mask = np.array([[0.0] * len(own) + [_NEVER] * (widest - len(own)) for own in self.options], "float32")
        self.policy = _policy(int(self._offsets[-1]), mask, seed)
        self.policy.compile(
            keras.optimizers.Adam(RATE),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )

    def __call__(
        self, finished: Sequence[Any], generator: np.random.Generator, allowed: Callable[[Point], bool]
    ) -> Point:
        self._learn(finished[self.learned :])
        self.learned = len(finished)
        written = (point for _ in range(PATIENCE // BATCH + 1) for point in self._draw(generator))
        fit = (point for point in written if self.space.holds(point) and allowed(point))
        # A policy that is sure of itself writes what was tried.
        return next(fit, None) or self.space.sample(generator, allowed)

    def probabilities(self) -> list[np.ndarray]:
        """Returns how likely the options of the first choice are, and of each other one behind the likeliest."""
        chosen = np.zeros((1, len(self.options)), "int32")
        found = []
        for step in range(len(self.options)):
            logits = self.policy.predict_on_batch(self._inputs(chosen))[0, step]
            shares = np.exp(logits - logits.max())
            found.append((shares / shares.sum())[: len(self.options[step])])
            chosen[0, step] = found[-1].argmax()
        return found

    def _learn(self, trials: Sequence[Any]) -> None:
        for trial in trials:
            baseline = trial.reward if self.baseline is None else self.baseline
            advantage = trial.reward - baseline
            self.baseline = DECAY * baseline + (1 - DECAY) * trial.reward
            # In units of the rewards' own deviation, or the bonus for entropy would outweigh their hundredths.
            self.spread = max(DECAY * self.spread + (1 - DECAY) * advantage**2, 1e-12)
            advantage /= self.spread**0.5
            chosen = np.array([[own.index(trial.point[name]) for name, own in self.space.labels.items()]], "int32")
            # The mean over the steps becomes the sum over them, as in the paper's gradient.
            weight = np.full(chosen.shape, advantage * len(self.options), "float32")
            self.policy.train_on_batch(self._inputs(chosen), chosen, sample_weight=weight)

    def _draw(self, generator: np.random.Generator) -> list[Point]:
        chosen = np.zeros((BATCH, len(self.options)), "int32")
        for step, options in enumerate(self.options):
            logits = self.policy.predict_on_batch(self._inputs(chosen))[:, step, : len(options)]
            noise = generator.gumbel(size=logits.shape)  # the largest of logits and such noise is a draw by softmax
            chosen[:, step] = (logits + noise).argmax(-1)
        return [
            {name: own[i] for (name, own), i in zip(self.space.labels.items(), row, strict=True)}
            for row in chosen.tolist()
        ]

    def _inputs(self, chosen: np.ndarray) -> np.ndarray:
        """Returns what each step takes: the option before it as a number that no other choice's option has."""
        tokens = chosen + self._offsets[None, :-1]
        return np.concatenate([np.zeros((len(chosen), 1), "int32"), tokens[:, :-1]], 1).astype("int32")


def _policy(tokens: int, mask: np.ndarray, seed: int) -> keras.Model:
    """Returns a model from tokens, (batch, steps), to logits, (batch, steps, most options)."""
    seeds = keras.random.SeedGenerator(seed)
    steps, widest = mask.shape
    uniform = keras.initializers.RandomUniform(-0.08, 0.08, seed=seeds)  # as in the paper
    before = keras.Input((steps,), dtype="int32")
    x = keras.layers.Embedding(tokens, UNITS, embeddings_initializer=uniform)(before)
    x = keras.layers.LSTM(UNITS, return_sequences=True, kernel_initializer=uniform, recurrent_initializer=uniform)(x)
    # Each step has a classifier of its own: one kernel for all, and a bias that knows the step.
    x = keras.layers.Dense(widest, kernel_initializer=uniform)(x)
    x = _OfStep(mask, name="options")(x)
    return keras.Model(before, x)


class _OfStep(keras.layers.Layer):
    """Adds each step's own bias, lets no option win that it does not have, and rewards entropy."""

    def __init__(self, mask: np.ndarray, **options: Any):
        super().__init__(**options)
        self._mask = mask

    def build(self, shape: Sequence[int | None]) -> None:
        self.bias = self.add_weight(shape=self._mask.shape, initializer="zeros", name="bias")

    def call(self, logits: Any) -> Any:
        logits = logits + self.bias + ops.convert_to_tensor(self._mask)
        shares = ops.softmax(logits)
        entropy = -ops.sum(shares * ops.log(shares + 1e-9), -1)
        self.add_loss(-ENTROPY * ops.mean(ops.sum(entropy, -1)))
        return logits
