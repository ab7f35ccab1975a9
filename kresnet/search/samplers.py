"""A strategy as a sampler of Optuna's, which draws no network that makes no sense, is too large or was tried."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from kresnet.search.journal import Journal, Trial, process
from kresnet.search.space import PATIENCE, Point, Space
from kresnet.search.strategies import OWN, proposer

WAIT = 0.1  # seconds between looks at whether others have chosen


def sampler(name: str, space: Space, seed: int, allowed: Callable[[Point], bool], journal: Journal) -> Any:
    """Returns a strategy as one of Optuna's samplers, which draws no network that makes no sense or is not allowed.

    Args:
        name: one of `strategies.STRATEGIES`.
        space, seed: of the search.
        allowed: tells whether a network that makes sense may be tried.
        journal: from which a strategy learns.
    """
    import optuna

    class Closed(optuna.samplers.BaseSampler):
        def __init__(self) -> None:
            self.space = space
            self.propose = proposer(name, space, seed) if name in OWN else None
            self.distributions = {
                name: optuna.distributions.CategoricalDistribution(options) for name, options in space.labels.items()
            }

        def before_trial(self, study: Any, trial: Any) -> None:
            journal.storage.set_trial_user_attr(trial._trial_id, "process", process())

        def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
            return self.distributions

        def sample_relative(self, study: Any, trial: Any, search_space: Any) -> Point:
            others = self._others(trial.number)
            tried = {self._text(other.point) for other in others}

            def new(point: Point) -> bool:
                return self._text(point) not in tried and allowed(point)

            # By how many were tried before, in which those that a kill has cut short do not count.
            entropy = [seed, sum(other.number < trial.number for other in others)]
            generator = np.random.default_rng(entropy)
            if self.propose is not None:
                return self.propose(journal.finished(), generator, new)
            inner = self._inner(int(np.random.SeedSequence(entropy).generate_state(1)[0]))
            return self._from_optuna(inner, study, trial, new) or space.sample(generator, new)

        def _others(self, number: int) -> list[Trial]:
            """Returns the other trials, once those that began before have chosen: else two could choose alike."""
            while True:
                others = [other for other in journal.trials(waiting=True) if other.number != number]
                if all(len(other.point) == len(space.labels) for other in others if other.number < number):
                    return others
                time.sleep(WAIT)
                journal.recover()

        def _from_optuna(self, inner: Any, study: Any, trial: Any, new: Callable[[Point], bool]) -> Point | None:
            own = inner.infer_relative_search_space(study, trial)
            for _ in range(PATIENCE):
                drawn = inner.sample_relative(study, trial, own)
                point = {
                    name: drawn[name] if name in drawn else inner.sample_independent(study, trial, name, distribution)
                    for name, distribution in self.distributions.items()
                }
                if space.holds(point) and new(point):
                    return point
            return None

        def _inner(self, own_seed: int) -> Any:
            if name == "tpe":
                return optuna.samplers.TPESampler(seed=own_seed, constant_liar=True)
            return optuna.samplers.NSGAIISampler(population_size=20, seed=own_seed)

        def _text(self, point: Point) -> str:
            return repr([point.get(name) for name in self.distributions])  # a database keeps no order

        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
            raise AssertionError("All choices are made together")

    return Closed()
