"""`run`: a search from its first network to its report, in a folder that a killed one goes on from."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kresnet import checks
from kresnet.data import sources
from kresnet.files import replacing
from kresnet.inference.predictors import BEST
from kresnet.models import registry
from kresnet.progress import say
from kresnet.search import report
from kresnet.search.attempts import Attempt, Training, halving, nearest
from kresnet.search.costs import Meter
from kresnet.search.goals import Goal, front
from kresnet.search.journal import Journal, Trial, optuna_package
from kresnet.search.layer_times import LatencyTable
from kresnet.search.samplers import sampler
from kresnet.search.space import Exhausted, Point, Space
from kresnet.search.strategies import STRATEGIES
from kresnet.training import recipes

SETTINGS, DATABASE, TABLE, TRIALS, FOUND = "search.json", "trials.db", "latency.json", "trials", "best"
KEPT = 20  # of the youngest networks, those on the front besides: weights to inherit
WAIT = 1.0  # seconds between looks at what other processes are at


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


@dataclasses.dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        trials: all that ended, in the order in which they began.
        front: the Pareto set of those that were trained to the end, the most accurate first.
        best: of these the one with the highest reward.
        folder: of the search.
    """

    trials: list[Trial]
    front: list[Trial]
    best: Trial
    folder: Path


def run(
    space: Space,
    data: str | Callable[[Attempt], Any],
    budget: Budget | int,
    *,
    out: str | os.PathLike,
    strategy: str = "evolution",
    targets: Mapping[str, float] | None = None,
    limits: Mapping[str, float] | None = None,
    exponents: tuple[float, float] = (-0.07, -0.07),
    latency: str = "table",
    quantize: str | None = None,
    recipe: Any = recipes.QUICK,
    epochs: int = 9,
    reduction: int | None = 3,
    inherit: bool = True,
    image_size: int | None = None,
    classes: int = 1000,
    seed: int = 0,
    storage: Any = None,
    resume: bool = False,
    overwrite: bool = False,
    verbose: bool = True,
    **options: Any,
) -> Found:
    """Searches a space for the network with the most accuracy for its costs.

    Afterwards the folder `out` holds `report.html` with all networks and the Pareto set; `best/`, which is a key for
    `create_model`, `train` and the command; `trials.db`, the journal, which Optuna's tools read; `search.json`, the
    settings; `latency.json`, the table of layers; and `trials/`, a folder of each network as a run has.

    A search that is killed goes on with `resume=True`: no trial that ended is lost, and what was tried then is tried
    again from its start. Other processes may take part with the same call and `resume=True`, on other machines with a
    `storage` that they share. Which network comes next depends on the seed and on what has ended.

    The accuracies are of the images by which networks were chosen, and so a little too high; see `kresnet.evaluate` for
    others.

    Args:
        space: what to choose from.
        data: a source of `kresnet.data.load`, whose "train" images train and whose "validation" images score. Or a
            function that takes an `Attempt`, calls its `go_on(epoch, accuracy)` once at least, and stops where that
            says so.
        budget: a `Budget`, or a number of trials.
        out: the folder. Without `resume` or `overwrite` it must not hold a search.
        strategy: "controller" (arXiv:1611.01578), "evolution" (arXiv:1802.01548), "random", or Optuna's "tpe" (Bergstra
            et al. 2011) and "nsga2" (Deb et al. 2002), which learns from accuracy and each cost, and not from the
            reward.
        targets, exponents: of the reward, accuracy * (cost / target) ** w; see `Goal`. Without targets it is the
            accuracy.
        limits: by cost, what no network may exceed: such are not trained.
        latency: "table" or "file"; see `Meter`. It is taken if a target or limit is "latency_ms".
        quantize: None or "int8": of the files that are timed.
        recipe, epochs: as in `kresnet.train`.
        reduction: behind each `reduction`-th part of the epochs, one in so many networks trains on. None: all do.
        inherit: whether a network begins with the weights of the nearest one that ended, where names and shapes agree.
        image_size: height and width in pixels. Default: the network's own.
        classes: for a function as `data`: of its networks.
        seed: of what is drawn; of trainings it is an option.
        storage: a database URL. Default: a file of SQLite in `out`.
        resume: whether to go on with the search in `out`, or to take part in it, or else to begin.
        overwrite: whether to remove the search in `out` first.
        verbose: whether to print a line for each network.
        **options: further ones of `kresnet.train`, such as `batch_size` or `flip=False`.

    Returns:
        What was found. After Ctrl-C, `KeyboardInterrupt` is raised, and nothing is lost.

    Raises:
        ValueError: if an argument makes no sense, or the folder holds another search.
        ImportError: if Optuna is not installed: `pip install 'kresnet[search]'`.
    """
    with optuna_package():
        import optuna  # noqa: F401 (before anything is written)
    checks.require(isinstance(space, Space), "`space` must be a Space, such as search.mobile()", space=space)
    checks.choice("strategy", strategy, STRATEGIES)
    checks.integer("epochs", epochs)
    checks.integer("seed", seed, 0)
    if reduction is not None:
        checks.integer("reduction", reduction, 2)
    checks.require(not (resume and overwrite), "Only one can be True", resume=resume, overwrite=overwrite)
    budget = budget if isinstance(budget, Budget) else Budget(trials=budget)
    goal = Goal(dict(targets or {}), tuple(exponents), dict(limits or {}))
    score, classes, channels = data, classes, 3
    if not callable(data):
        checks.require(space.base is not None, "Training needs a network of the registry", network=space.network)
        score = Training(str(data), recipes.get(recipe), epochs, options)
        classes = len(sources.find(str(data), "train", seed=options.get("split_seed", 0)).class_names)
        channels = len(space.base.mean)
    else:
        checks.require(not options, "`data` that is a function takes no options of training", **options)
    size = image_size or getattr(space.builder, "input_size", 224)
    folder = Path(out)
    timed = LatencyTable(folder / TABLE, quantize) if "latency_ms" in goal.costs else None
    meter = Meter(space, (size, size, channels), classes, goal, timed, latency)
    settings = {
        "network": getattr(space.builder, "key", repr(space.network)),
        "choices": {name: list(labels) for name, labels in space.labels.items()},
        "fixed": json.loads(json.dumps(dict(space.fixed), default=str)),
        "data": str(data) if not callable(data) else getattr(data, "__name__", type(data).__name__),
        "strategy": strategy,
        "targets": dict(goal.targets),
        "limits": dict(goal.limits),
        "exponents": list(goal.exponents),
        "latency": latency,
        "quantize": quantize,
        "recipe": recipes.name(recipes.get(recipe)),
        "epochs": epochs,
        "reduction": reduction,
        "inherit": inherit,
        "image_size": size,
        "seed": seed,
        "options": json.loads(json.dumps(options, default=str)),
    }
    _begin(folder, settings, resume, overwrite)
    journal = Journal(
        storage or f"sqlite:///{(folder / DATABASE).absolute()}", settings, goal, several=strategy == "nsga2"
    )
    search = _Search(space, score, goal, meter, journal, folder, settings, budget, verbose)
    search.go(sampler(strategy, space, seed, meter.allows, journal))
    return search.found()


def _begin(folder: Path, settings: Mapping[str, Any], resume: bool, overwrite: bool) -> None:
    holds = (folder / SETTINGS).exists()
    checks.require(
        resume or overwrite or not holds,
        f"{folder} holds a search already: `resume=True` (--resume) goes on with it, `overwrite=True` (--overwrite) "
        "begins anew",
        out=str(folder),
    )
    if holds and overwrite:
        for name in (SETTINGS, DATABASE, report.FILE):
            (folder / name).unlink(missing_ok=True)
        for name in (TRIALS, FOUND):
            shutil.rmtree(folder / name, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / SETTINGS).exists():
        with replacing(folder / SETTINGS) as temporary:
            temporary.write_text(json.dumps(settings, indent=1))


@dataclasses.dataclass
class _Search:
    """A process's part in a search."""

    space: Space
    score: Callable[[Attempt], Any]
    goal: Goal
    meter: Meter
    journal: Journal
    folder: Path
    settings: Mapping[str, Any]
    budget: Budget
    verbose: bool

    def go(self, sampler: Any) -> None:
        """Tries networks until the budget is spent, and what others are at has ended."""
        self.start = time.monotonic()
        while True:
            self.journal.recover()
            try:
                went_on = not self._spent() and self.journal.attempt(self.budget.trials, sampler, self._try)
            except Exhausted as error:
                say(f"The search ends early: {error}")
                went_on = False
            if went_on:
                self._tidy()
            elif not self.journal.running() or self._late():
                break
            else:
                time.sleep(WAIT)
        checks.require(self._whole(), "No network was trained to the end within the budget", budget=self.budget)
        self._tidy()

    def found(self) -> Found:
        """Returns the results so far."""
        whole = self._whole()
        best = max(whole, key=lambda trial: trial.reward)
        ended = sorted(self.journal.finished(), key=lambda trial: trial.number)
        return Found(ended, front(whole, self._axes()), best, self.folder)

    def _axes(self) -> tuple[str, ...]:
        return self.goal.costs or ("macs",)

    def _whole(self) -> list[Trial]:
        """Returns the trials that were trained to the end; if all were given up, those that got furthest."""
        return [trial for trial in self.journal.finished() if trial.whole]

    def _spent(self) -> bool:
        trials = self.journal.trials()
        if self.budget.trials is not None and len(trials) >= self.budget.trials and not self.journal.waiting():
            return True
        if self.budget.hours is None:
            return False
        durations = [trial.seconds for trial in trials if trial.seconds is not None]
        usual = sum(durations) / len(durations) if durations else 0.0
        return time.monotonic() - self.start + usual > 3600 * self.budget.hours

    def _late(self) -> bool:
        """Tells whether what others are at is not waited for."""
        return self.budget.hours is not None and time.monotonic() - self.start > 3600 * self.budget.hours

    def _folder(self, number: int) -> Path:
        return self.folder / TRIALS / f"{number:04}"

    def _try(self, trial: Any, point: Point) -> dict[str, Any]:
        costs = dict(self.meter.costs(point))
        ended = self.journal.finished()
        parent = nearest(point, ended, self._folder) if self.settings["inherit"] else None
        rungs = halving(self.settings["epochs"], self.settings["reduction"], self.goal, costs, self.journal.finished)
        attempt = Attempt(
            trial.number, self.space, point, costs, self._folder(trial.number), parent, rungs, self.meter.arguments
        )
        self.score(attempt)
        checks.require(attempt.accuracies, "`data` must call `go_on`", data=self.settings["data"])
        if self.verbose:
            self._tell(attempt, [*ended])
        return {
            "costs": costs,
            "accuracies": {str(epoch): accuracy for epoch, accuracy in attempt.accuracies.items()},
            "whole": attempt.whole,
            "parent": None if parent is None else parent[0],
        }

    def _tell(self, attempt: Attempt, ended: list[Trial]) -> None:
        accuracy = max(attempt.accuracies.values())
        rewards = [trial.reward for trial in ended if trial.whole]
        reward = self.goal.reward(accuracy, attempt.costs)
        numbers = [f"{report.shown(name, attempt.costs[name])}" for name in self._axes()]
        state = "" if attempt.whole else f", given up after {max(attempt.accuracies)} epochs"
        best = max([*rewards, *([reward] if attempt.whole else [])], default=None)
        parts = [f"accuracy {accuracy:.2%}{state}", *numbers, f"reward {reward:.4f}"]
        parts.append(f"best {best:.4f}" if best is not None else "none trained to the end yet")
        print(f"trial {attempt.number}: {', '.join(parts)}; {self._left(len(ended) + 1)}", flush=True)

    def _left(self, ended: int) -> str:
        elapsed = time.monotonic() - self.start
        self.done = getattr(self, "done", 0) + 1
        ways = []
        if self.budget.trials is not None:
            ways.append(max(0, self.budget.trials - ended) * elapsed / self.done)
        if self.budget.hours is not None:
            ways.append(max(0.0, 3600 * self.budget.hours - elapsed))
        minutes = min(ways) / 60
        return f"about {minutes:.0f} min left" if minutes >= 1 else f"about {60 * minutes:.0f} s left"

    def _tidy(self) -> None:
        """Writes the report and the best network, and removes networks that nothing needs any more."""
        ended = self.journal.finished()
        if whole := [trial for trial in ended if trial.whole]:
            best = max(whole, key=lambda trial: trial.reward)
            keep = {trial.number for trial in (*front(whole, self._axes()), *ended[-KEPT:], best)}
            for trial in ended:
                if trial.number not in keep:
                    (self._folder(trial.number) / BEST).unlink(missing_ok=True)
            self._keep(best)
        report.write(self.folder / report.FILE, self.space, self.goal, self._axes(), ended, self.settings)

    def _keep(self, best: Trial) -> None:
        if self.space.base is None:
            return
        network = {"trial": best.number, "accuracy": best.accuracy, "costs": dict(best.costs)}
        registry.write_description(
            self.folder / FOUND,
            self.settings["network"],
            self.space.fields(best.point),
            self.settings["image_size"],
            {"search": network},
        )
        trained = self._folder(best.number) / BEST
        if trained.exists():
            with replacing(self.folder / FOUND / BEST) as temporary:
                shutil.copyfile(trained, temporary)
