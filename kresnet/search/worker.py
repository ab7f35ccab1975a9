"""A process's part in a search: it takes networks to try until the budget is spent, and keeps the folder in order."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kresnet import checks
from kresnet.files import replacing
from kresnet.inference.predictors import BEST
from kresnet.models import registry
from kresnet.progress import say
from kresnet.search import report
from kresnet.search.attempts import Attempt, halving, nearest
from kresnet.search.budget import Clock
from kresnet.search.costs import Meter
from kresnet.search.goals import Goal, front
from kresnet.search.journal import Journal, Trial
from kresnet.search.space import Exhausted, Point, Space

TRIALS, FOUND = "trials", "best"  # folders
KEPT = 20  # of the youngest networks, those on the front besides: weights to inherit
WAIT = 1.0  # seconds between looks at what other processes are at


@dataclasses.dataclass
class Worker:
    """What a process needs to take part in a search; see `searching.run` for what all this is."""

    space: Space
    score: Callable[[Attempt], Any]
    goal: Goal
    meter: Meter
    journal: Journal
    folder: Path
    settings: Mapping[str, Any]
    clock: Clock
    verbose: bool

    def go(self, sampler: Any) -> None:
        """Tries networks until the budget is spent, and what others are at has ended.

        Raises:
            ValueError: if no network was trained to the end.
        """
        exhausted = False
        while True:
            self.journal.recover()
            went_on, waiting = False, self.journal.waiting()
            try:
                if (waiting or not exhausted) and not self.clock.spent(self.journal.trials(), waiting):
                    went_on = self.journal.attempt(self.clock.budget.trials, sampler, self._try)
            except Exhausted as error:
                exhausted = True
                say(f"The search ends early: {error}")
            if went_on:
                self._tidy(self.journal.finished())
            elif not self.journal.running() or self.clock.late():
                break
            else:
                time.sleep(WAIT)
        ended = self.journal.finished()
        if ended:
            self._tidy(ended)
        checks.require(whole(ended), "No network was trained to the end within the budget", budget=self.clock.budget)

    def _try(self, trial: Any, point: Point) -> dict[str, Any]:
        costs = dict(self.meter.costs(point))
        ended = self.journal.finished()
        parent = nearest(point, ended, self._folder) if self.settings["inherit"] else None
        if parent is not None:
            trial.set_user_attr("parent", parent[0])  # at once, so that no other process removes its file
        rungs = halving(self.settings["epochs"], self.settings["reduction"], self.goal, costs, self.journal.finished)
        attempt = Attempt(
            trial.number, self.space, point, costs, self._folder(trial.number), parent, rungs, self.meter.arguments
        )
        self.score(attempt)
        checks.require(attempt.accuracies, "`data` must call `go_on`", data=self.settings["data"])
        if self.verbose:
            self._tell(attempt)
        return {
            "costs": costs,
            "accuracies": {str(epoch): accuracy for epoch, accuracy in attempt.accuracies.items()},
            "whole": attempt.whole,
        }

    def _tell(self, attempt: Attempt) -> None:
        ended, accuracy = self.journal.finished(), max(attempt.accuracies.values())
        reward = self.goal.reward(accuracy, attempt.costs)
        rewards = [trial.reward for trial in whole(ended)] + [reward] * attempt.whole
        state = "" if attempt.whole else f", given up after {max(attempt.accuracies)} epochs"
        parts = [f"accuracy {accuracy:.2%}{state}"]
        parts += [report.shown(name, attempt.costs[name]) for name in self.goal.axes]
        parts += [f"reward {reward:.4f}", f"best {max(rewards):.4f}" if rewards else "none trained to the end yet"]
        print(f"trial {attempt.number}: {', '.join(parts)}; {self.clock.left(len(ended) + 1)}", flush=True)

    def _folder(self, number: int) -> Path:
        return self.folder / TRIALS / f"{number:04}"

    def _tidy(self, ended: Sequence[Trial]) -> None:
        """Writes the report and the best network, and removes networks that nothing needs any more."""
        report.write(self.folder / report.FILE, self.space, self.goal, ended, self.settings)
        if not (rows := whole(ended)):
            return
        best = max(rows, key=lambda trial: trial.reward)
        keep = {trial.number for trial in (*front(rows, self.goal.axes), *ended[-KEPT:], best)}
        keep |= {trial.parent for trial in self.journal.trials() if trial.accuracy is None}
        for trial in ended:
            if trial.number not in keep:
                (self._folder(trial.number) / BEST).unlink(missing_ok=True)
        if self.space.base is not None:
            self._write_best(best)

    def _write_best(self, best: Trial) -> None:
        registry.write_description(
            self.folder / FOUND,
            self.settings["network"],
            self.space.changes(best.point),
            self.settings["image_size"],
            {"search": {"trial": best.number, "accuracy": best.accuracy, "costs": dict(best.costs)}},
        )
        trained, kept = self._folder(best.number) / BEST, self.folder / FOUND / BEST
        if trained.exists():
            with replacing(kept) as temporary:
                shutil.copyfile(trained, temporary)
        else:  # it was trained on another machine: what lies there is of another network
            kept.unlink(missing_ok=True)


def whole(trials: Sequence[Trial]) -> list[Trial]:
    """Returns the trials that were trained to the end."""
    return [trial for trial in trials if trial.whole]
