"""How long a search goes on: trials, hours, and what is left of them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

from kresnet import checks
from kresnet.search.journal import Trial


@dataclasses.dataclass(frozen=True)
class Budget:
    """How long to search.

    Attributes:
        trials: networks, of all processes together and those of before included. None: any number.
        hours: of this call, which begins no network that it would hardly end. None: any time.

    Raises:
        ValueError: if both are None, or one is no positive number.
    """

    trials: int | None = None
    hours: float | None = None

    def __post_init__(self) -> None:
        checks.require(self.trials is not None or self.hours is not None, "A budget has trials or hours", budget=self)
        if self.trials is not None:
            checks.integer("trials", self.trials)
        if self.hours is not None:
            checks.number("hours", self.hours, 1e-6, 1e6, "a positive number")


class Clock:
    """What is left of a budget, from now on.

    Args:
        budget: of the search.
        ended: trials that have ended already.
    """

    def __init__(self, budget: Budget, ended: int):
        self.budget, self.before, self.start = budget, ended, time.monotonic()

    def spent(self, trials: Sequence[Trial], waiting: int) -> bool:
        """Tells whether no other network may be begun.

        Args:
            trials: those that ended or run.
            waiting: how many wait to be tried again.
        """
        if self.budget.trials is not None and len(trials) >= self.budget.trials and not waiting:
            return True
        if self.budget.hours is None:
            return False
        durations = [trial.seconds for trial in trials if trial.seconds is not None]
        usual = sum(durations) / len(durations) if durations else 0.0
        return time.monotonic() - self.start + usual > 3600 * self.budget.hours

    def late(self) -> bool:
        """Tells whether the hours are over, and what other processes are at is not waited for."""
        return self.budget.hours is not None and time.monotonic() - self.start > 3600 * self.budget.hours

    def left(self, ended: int) -> str:
        """Returns the time left as text, by how many trials have ended since the start, in all processes."""
        elapsed = time.monotonic() - self.start
        ways = []
        if self.budget.trials is not None:
            ways.append(max(0, self.budget.trials - ended) * elapsed / max(1, ended - self.before))
        if self.budget.hours is not None:
            ways.append(max(0.0, 3600 * self.budget.hours - elapsed))
        seconds = min(ways)
        return f"about {seconds / 60:.0f} min left" if seconds >= 60 else f"about {seconds:.0f} s left"
