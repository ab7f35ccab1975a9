"""A strategy as a sampler of Optuna's, which draws no network that makes no sense, is too large or was tried."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kresnet.search.journal import Journal, worker
from kresnet.search.space import DRAWS, Exhausted, Point, Space
from kresnet.search.strategies import OWN, proposer


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
            journal.storage.set_trial_user_attr(trial._trial_id, "worker", worker())

        def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
            return self.distributions

        def sample_relative(self, study: Any, trial: Any, search_space: Any) -> Point:
            others = [other for other in journal.trials() if other.number != trial.number]
            tried = {self._text(other.point) for other in others}

            def new(point: Point) -> bool:
                return self._text(point) not in tried and allowed(point)

            # By how many were tried, in which those that a kill has cut short do not count.
            if self.propose is not None:
                return self.propose(journal.finished(), np.random.default_rng([seed, len(others)]), new)
            return self._from_optuna(self._inner(len(others)), study, trial, new)

        def _from_optuna(self, inner: Any, study: Any, trial: Any, new: Callable[[Point], bool]) -> Point:
            own = inner.infer_relative_search_space(study, trial)
            for _ in range(DRAWS):
                drawn = inner.sample_relative(study, trial, own)
                point = {
                    name: drawn[name] if name in drawn else inner.sample_independent(study, trial, name, distribution)
                    for name, distribution in self.distributions.items()
                }
                if space.holds(point) and new(point):
                    return point
            raise Exhausted(f"None of {DRAWS} networks that {name} drew is valid, allowed and new")

        def _inner(self, number: int) -> Any:
            own_seed = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
            if name == "tpe":
                return optuna.samplers.TPESampler(seed=own_seed, constant_liar=True)
            return optuna.samplers.NSGAIISampler(population_size=20, seed=own_seed)

        def _text(self, point: Point) -> str:
            return repr([point.get(name) for name in self.distributions])  # a database keeps no order

        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
            raise AssertionError("All choices are made together")

    return Closed()
