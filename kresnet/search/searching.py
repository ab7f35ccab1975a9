"""`run`: a search from its first network to its report, in a folder that a killed one goes on from."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kresnet import checks
from kresnet.files import replacing
from kresnet.search import report
from kresnet.search.attempts import Attempt, Training
from kresnet.search.budget import Budget, Clock
from kresnet.search.costs import Meter
from kresnet.search.goals import Goal, front
from kresnet.search.journal import Journal, Trial, forget, optuna_package
from kresnet.search.layer_times import LatencyTable
from kresnet.search.samplers import sampler
from kresnet.search.space import Space
from kresnet.search.strategies import STRATEGIES
from kresnet.search.worker import FOUND, TRIALS, Worker, whole
from kresnet.training import recipes

SETTINGS, DATABASE, TABLE = "search.json", "trials.db", "latency.json"


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
        storage: a database URL, or one of Optuna's storages; each holds one search. Default: a file of SQLite in `out`.
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
    checks.integer("seed", seed, minimum=0)
    if reduction is not None:
        checks.integer("reduction", reduction, minimum=2)
    checks.require(not (resume and overwrite), "Only one can be True", resume=resume, overwrite=overwrite)
    budget = budget if isinstance(budget, Budget) else Budget(trials=budget)
    goal = Goal(dict(targets or {}), tuple(exponents), dict(limits or {}))
    size, channels, score = image_size or getattr(space.builder, "input_size", 224), 3, data
    if not callable(data):
        checks.require(space.base is not None, "Training needs a network of the registry", network=space.network)
        score = Training(str(data), recipes.get(recipe), epochs, options)
        channels, classes = score.images(size, grey=len(space.base.mean) == 1)
    else:
        checks.require(not options, "`data` that is a function takes no options of training", **options)
    folder = Path(out)
    timed = LatencyTable(folder / TABLE, quantize) if "latency_ms" in goal.costs else None
    meter = Meter(space, (size, size, channels), classes, goal, timed, latency)
    settings = {
        "network": getattr(space.builder, "key", None) or _name(space.builder),
        "choices": {name: list(labels) for name, labels in space.labels.items()},
        "fixed": json.loads(json.dumps(dict(space.fixed), default=str)),
        "data": _name(data) if callable(data) else str(data),
        "strategy": strategy,
        "targets": dict(goal.targets),
        "limits": dict(goal.limits),
        "exponents": list(goal.exponents),
        "latency": latency,
        "quantize": quantize,
        "recipe": recipes.name(recipes.get(recipe)) or repr(recipe),
        "epochs": epochs,
        "reduction": reduction,
        "inherit": inherit,
        "image_size": size,
        "seed": seed,
        "options": json.loads(json.dumps(options, default=str)),
    }
    storage = storage or f"sqlite:///{(folder / DATABASE).absolute()}"
    _begin(folder, settings, storage, resume, overwrite)
    journal = Journal(storage, settings, goal, several=strategy == "nsga2")
    clock = Clock(budget, len(journal.finished()))
    worker = Worker(space, score, goal, meter, journal, folder, settings, clock, verbose)
    worker.go(sampler(strategy, space, seed, meter.allows, journal))
    ended = sorted(journal.finished(), key=lambda trial: trial.number)
    rows = whole(ended)
    return Found(ended, front(rows, goal.axes), max(rows, key=lambda trial: trial.reward), folder)


def _name(function: Callable[..., Any]) -> str:
    """Returns a name that another process gives the same function."""
    return getattr(function, "__qualname__", type(function).__qualname__)


def _begin(folder: Path, settings: Mapping[str, Any], storage: Any, resume: bool, overwrite: bool) -> None:
    holds = (folder / SETTINGS).exists()
    checks.require(
        resume or overwrite or not holds,
        f"{folder} holds a search already: `resume=True` (--resume) goes on with it, `overwrite=True` (--overwrite) "
        "begins anew",
        out=str(folder),
    )
    if holds and overwrite:
        for name in (SETTINGS, report.FILE):
            (folder / name).unlink(missing_ok=True)
        for name in (TRIALS, FOUND):
            shutil.rmtree(folder / name, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)  # in which SQLite opens its file
    if overwrite:
        forget(storage)
    if not (folder / SETTINGS).exists():
        with replacing(folder / SETTINGS) as temporary:
            temporary.write_text(json.dumps(settings, indent=1))
