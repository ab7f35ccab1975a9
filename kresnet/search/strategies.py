"""How the next network is chosen: each strategy is a function of what was tried so far, so that a search can go on.

A strategy keeps nothing that it could not learn anew from the journal, and draws from the seed and the trial's number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kresnet import checks
from kresnet.search.space import Point, Space

Allowed = Callable[[Point], bool]
OWN, OPTUNA = ("controller", "evolution", "random"), ("tpe", "nsga2")
STRATEGIES = (*OWN, *OPTUNA)


def proposer(name: str, space: Space, seed: int) -> Callable[[Sequence[Any], np.random.Generator, Allowed], Point]:
    """Returns one of our own strategies: from the finished trials, in the order in which they ended, to a point."""
    if name == "controller":
        from kresnet.search.controller import Controller

        return Controller(space, seed)
    return {"random": Random, "evolution": Evolution}[name](space)


class Random:
    """Every point is as likely, whatever was tried. What does not beat it has learned nothing."""

    def __init__(self, space: Space):
        self.space = space

    def __call__(self, finished: Sequence[Any], generator: np.random.Generator, allowed: Allowed) -> Point:
        return self.space.sample(generator, allowed)


class Evolution:
    """Aging evolution: the best of a few out of the youngest networks is changed in one choice.

    Args:
        space: what to choose from.
        population: how many of the youngest; so many are drawn at random first. The paper has 100 for 20,000 trials;
            an evening has a hundred trials.
        sample: out of how many of them the best is the parent. The paper has 25 of 100: fewer trials, more haste.

    Source: Real et al. 2019, arXiv:1802.01548, algorithm 1.
    """

    def __init__(self, space: Space, population: int = 20, sample: int = 10):
        self.space = space
        self.population = checks.integer("population", population)
        self.sample = checks.integer("sample", sample, maximum=population)

    def __call__(self, finished: Sequence[Any], generator: np.random.Generator, allowed: Allowed) -> Point:
        if len(finished) < self.population:
            return self.space.sample(generator, allowed)
        youngest = finished[-self.population :]
        drawn = generator.choice(len(youngest), self.sample, replace=False)
        parent = max((youngest[i] for i in drawn), key=lambda trial: trial.reward)
        return self.space.mutated(parent.point, generator, allowed)
