"""Every trial of a search, in Optuna's storage: what was tried, what came of it, and what a killed process was at."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kresnet import checks
from kresnet.search.goals import Goal
from kresnet.search.space import Point

STUDY = "search"
BEAT, GRACE = 30, 180  # seconds between signs of life, and after which a process of another machine counts as dead
LOCKED = 60  # seconds that one waits at most for others to be done with the database


@contextlib.contextmanager
def optuna_package() -> Iterator[None]:
    """Names the extra to install if an import within it fails."""
    try:
        yield
    except ImportError as error:
        raise ImportError(f"A search needs more packages: pip install 'kresnet[search]' ({error})") from None


@dataclasses.dataclass(frozen=True)
class Trial:
    """A network that was tried, or is being tried.

    Attributes:
        number: in the order in which they began, from 0.
        point: what was chosen; see `Space`.
        costs: by name, such as "macs" and "latency_ms"; empty until they are known.
        accuracies: validation accuracy after the epochs in which it was measured, by the epoch from 1.
        accuracy: the highest of them, whose network is kept; None while the trial runs.
        reward: of that accuracy and the costs, by the search's goal; None while the trial runs.
        whole: whether it was trained to the end, and not given up on the way.
        parent: the number of the trial that its weights began with; None: at random.
        seconds: that it took.
    """

    number: int
    point: Point
    costs: Mapping[str, float]
    accuracies: Mapping[int, float]
    accuracy: float | None
    reward: float | None
    whole: bool
    parent: int | None
    seconds: float | None


class Journal:
    """The trials of a search, shared by all processes that take part in it.

    Args:
        storage: a database URL, such as "sqlite:///searches/x/trials.db", or one of Optuna's storages.
        settings: what the search is, ready for JSON. Of one that has begun, it must be the same.
        goal: of the search.
        several: whether the strategy minimizes the goal's costs beside the accuracy, and not the reward alone.

    Raises:
        ImportError: if Optuna is not installed.
        ValueError: if the storage holds another search; the differences are named.
    """

    def __init__(self, storage: Any, settings: Mapping[str, Any], goal: Goal, several: bool = False):
        with optuna_package():
            import optuna
        self.goal, self.several = goal, several
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        directions = ["maximize", *["minimize"] * (len(goal.costs) if several else 0)]
        self.storage = self._opened(storage)
        self.study = optuna.create_study(
            study_name=STUDY,
            storage=self.storage,
            directions=directions,
            load_if_exists=True,
            sampler=optuna.samplers.RandomSampler(),
        )
        begun = self.study.user_attrs.get("settings")
        if begun is None:
            self.study.set_user_attr("settings", dict(settings))
            begun = self.study.user_attrs["settings"]  # another process may have been faster
        names = sorted(name for name in {*begun, *settings} if begun.get(name) != settings.get(name))
        checks.require(
            not names,
            "The storage holds a search with other settings",
            **{name: (begun.get(name), settings.get(name)) for name in names},
        )

    def trials(self, waiting: bool = False) -> list[Trial]:
        """Returns all trials that ended or run, or wait too, by their number; not those that a killed process left."""
        return [self._read(trial) for trial in self._stored("COMPLETE", "RUNNING", *["WAITING"] * waiting)]

    def finished(self) -> list[Trial]:
        """Returns the trials that ended, in that order."""
        ended = sorted(self._stored("COMPLETE"), key=lambda trial: (trial.datetime_complete, trial.number))
        return [self._read(trial) for trial in ended]

    def waiting(self) -> int:
        """Returns how many trials wait to be tried again."""
        return len(self._stored("WAITING"))

    def running(self) -> int:
        """Returns how many trials are being tried, or wait for it, here or elsewhere."""
        return len(self._stored("RUNNING", "WAITING"))

    def recover(self) -> int:
        """Puts back what dead processes were at, to be tried by the next that asks, and returns how many those are."""
        import optuna

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            optuna.storages.fail_stale_trials(self.study)
        dead = [trial for trial in self._stored("RUNNING") if not lives(trial.user_attrs.get("process"))]
        for trial in dead:
            with contextlib.suppress(RuntimeError, optuna.exceptions.UpdateFinishedTrialError):  # another was faster
                self.study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
                self._again(_point(trial))
        return len(dead)

    def attempt(self, limit: int | None, sampler: Any, work: Callable[[Any, Point], Mapping[str, Any]]) -> bool:
        """Tries one network.

        Args:
            limit: the trials of the search; None for any number.
            sampler: chooses the network, one of `samplers`; unless one waits that a killed process was at.
            work: from Optuna's trial and the point to what is kept of it: "accuracies", "costs", ...

        Returns:
            Whether one was tried; not if there are as many as the limit.
        """
        import optuna

        self.study.sampler = sampler
        over = []

        def objective(trial: Any) -> float | list[float]:
            point = {name: trial.suggest_categorical(name, options) for name, options in sampler.space.labels.items()}
            before = [other for other in self._stored("COMPLETE", "RUNNING") if other.number < trial.number]
            if limit is not None and len(before) >= limit:  # others began theirs meanwhile
                over.append(trial.number)
                raise _Over
            try:
                found = work(trial, point)
            except BaseException:  # such as Ctrl-C: the next that asks tries it
                self._again(point)
                raise
            for name, value in found.items():
                trial.set_user_attr(name, value)
            accuracy = max(found["accuracies"].values())
            if self.several:
                return [accuracy, *(found["costs"][name] for name in self.goal.costs)]
            return self.goal.reward(accuracy, found["costs"])

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self.study.optimize(objective, n_trials=1, catch=(_Over,))
        return not over

    def _again(self, point: Point) -> None:
        if set(point) == set(self.study.user_attrs["settings"]["choices"]):  # else it had not begun
            self.study.enqueue_trial(point)

    def _opened(self, storage: Any) -> Any:
        """Returns a storage in which processes give signs of life, and what those of other machines leave goes back."""
        import optuna

        if not isinstance(storage, str):
            return storage
        if storage.startswith("sqlite:///"):
            Path(storage.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return _beside_others(
                lambda: optuna.storages.RDBStorage(
                    storage,
                    # Several processes write to the file of SQLite, which is locked meanwhile.
                    engine_kwargs={"connect_args": {"timeout": LOCKED}} if storage.startswith("sqlite") else {},
                    heartbeat_interval=BEAT,
                    grace_period=GRACE,
                    heartbeat_stale_trial_callback=lambda study, trial: self._again(_point(trial)),
                )
            )

    def _stored(self, *states: str) -> list[Any]:
        import optuna

        return self.study.get_trials(deepcopy=False, states=[optuna.trial.TrialState[state] for state in states])

    def _read(self, trial: Any) -> Trial:
        kept = trial.user_attrs
        accuracies = {int(epoch): value for epoch, value in kept.get("accuracies", {}).items()}
        costs, ended = kept.get("costs", {}), trial.datetime_complete is not None
        accuracy = max(accuracies.values()) if ended else None
        return Trial(
            number=trial.number,
            point=_point(trial),
            costs=costs,
            accuracies=accuracies,
            accuracy=accuracy,
            reward=self.goal.reward(accuracy, costs) if ended else None,
            whole=kept.get("whole", True),
            parent=kept.get("parent"),
            seconds=trial.duration.total_seconds() if ended else None,
        )


def _point(trial: Any) -> Point:
    """Returns what was chosen; what is tried again is chosen as a whole from the start, and else one by one."""
    return dict(trial.system_attrs.get("fixed_params", trial.params))


def _beside_others(opened: Callable[[], Any]) -> Any:
    """Returns what is opened, though other processes may create its tables at the same time.

    Optuna looks whether a table is there and then creates it: who comes second fails, and finds it the next time.
    """
    import sqlalchemy

    end = time.monotonic() + LOCKED
    while True:
        try:
            return opened()
        except sqlalchemy.exc.DBAPIError as error:
            there = isinstance(error, sqlalchemy.exc.IntegrityError) or "already exists" in str(error)
            if not there or time.monotonic() > end:
                raise
            time.sleep(0.1)


class _Over(Exception):
    """The search has its trials already."""


def forget(storage: Any) -> None:
    """Removes the search that a storage holds, if it holds one."""
    import optuna

    with contextlib.suppress(KeyError):
        optuna.delete_study(study_name=STUDY, storage=storage)


def process() -> str:
    """Returns what tells this process from others."""
    return f"{_machine()}:{os.getpid()}"


def lives(process: str | None) -> bool:
    """Tells whether the process that tries a network lives; of another machine, its signs of life tell it later."""
    machine, _, number = (process or "").rpartition(":")
    if machine != _machine() or os.name != "posix":
        return True
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _machine() -> str:
    """Returns a name that two machines do not share, though both may be called localhost, nor one before its reboot."""
    booted = Path("/proc/sys/kernel/random/boot_id")
    return f"{socket.gethostname()}/{booted.read_text().strip() if booted.exists() else ''}"
