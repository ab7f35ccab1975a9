"""Trying one network: it is trained for as long as it is among the best of its age, from what the nearest one knows."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from kresnet.data.loading import load
from kresnet.inference.predictors import BEST
from kresnet.search.goals import Goal
from kresnet.search.journal import Trial
from kresnet.search.space import Point, Space
from kresnet.training.growth import grow
from kresnet.training.train import train


@dataclasses.dataclass
class Attempt:
    """A network to be scored.

    Attributes:
        number: of the trial.
        space, point: what the network is.
        costs: what it costs, by name.
        folder: for what is kept of it.
        parent: the file of a trained network to inherit weights from, and the number of its trial; None.
        rungs: asked by `go_on`, with the epochs that are over and the best accuracy so far, whether to train on.
        arguments: further ones of `build`: "input_shape" and "classes".
        accuracies: what `go_on` was told.
        whole: whether `go_on` never said no.
    """

    number: int
    space: Space
    point: Point
    costs: Mapping[str, float]
    folder: Path
    parent: tuple[int, Path] | None
    rungs: Callable[[int, float], bool]
    arguments: Mapping[str, Any]
    accuracies: dict[int, float] = dataclasses.field(default_factory=dict)
    whole: bool = True

    def build(self) -> keras.Model:
        """Builds the network."""
        return self.space.build(self.point, **self.arguments)

    def go_on(self, epoch: int, accuracy: float) -> bool:
        """Notes the accuracy behind an epoch, counted from 1, and tells whether it is worth to train on."""
        self.accuracies[epoch] = float(accuracy)
        self.whole = self.rungs(epoch, max(self.accuracies.values()))
        return self.whole


def rungs(epochs: int, reduction: int | None) -> list[int]:
    """Returns the epochs behind which networks are given up: a part of all, a part of that, ...; without one, never."""
    found, epoch = [], epochs
    while reduction and epoch // reduction:
        epoch //= reduction
        found.append(epoch)
    return found[::-1]


def halving(
    epochs: int, reduction: int | None, goal: Goal, costs: Mapping[str, float], others: Callable[[], Sequence[Trial]]
) -> Callable[[int, float], bool]:
    """Returns what tells, behind an epoch, whether a network is among the best share of those that came so far.

    Args:
        epochs: of a whole training.
        reduction: the share that goes on is 1 in so many.
        goal: by whose reward they are compared.
        costs: of the network.
        others: gives the trials that have ended.

    Source: Li et al. 2020, arXiv:1810.05934, algorithm 2: nothing waits until a rung is full.
    """
    at = rungs(epochs, reduction)

    def goes_on(epoch: int, accuracy: float) -> bool:
        if epoch not in at:
            return True
        rivals = [_until(other, epoch) for other in others() if max(other.accuracies) >= epoch]
        rewards = [goal.reward(best, other.costs) for other, best in rivals]
        mine = goal.reward(accuracy, costs)
        better = sum(reward > mine for reward in rewards)
        return better < math.ceil((len(rewards) + 1) / reduction)

    return goes_on


def _until(trial: Trial, epoch: int) -> tuple[Trial, float]:
    return trial, max(accuracy for at, accuracy in trial.accuracies.items() if at <= epoch)


def nearest(point: Point, trials: Sequence[Trial], folder: Callable[[int], Path]) -> tuple[int, Path] | None:
    """Returns the network that differs in the fewest choices of those whose file is there; of equal ones the best."""
    kept = [trial for trial in trials if (folder(trial.number) / BEST).exists()]
    if not kept:
        return None
    found = min(kept, key=lambda trial: (sum(trial.point[name] != point[name] for name in point), -trial.reward))
    return found.number, folder(found.number) / BEST


class Inherit(keras.callbacks.Callback):
    """Begins a training with another network's weights, where layers have the same name and shapes."""

    def __init__(self, path: Path):
        super().__init__()
        self.path = path

    def on_train_begin(self, logs: dict | None = None) -> None:
        with contextlib.suppress(ValueError):  # no layer in common: it begins at random
            grow(keras.models.load_model(self.path, compile=False), self.model)


class _Rungs(keras.callbacks.Callback):
    def __init__(self, attempt: Attempt):
        super().__init__()
        self.attempt = attempt

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if not self.attempt.go_on(epoch + 1, logs["val_accuracy"]):
            self.model.stop_training = True


class Training:
    """Scores networks by `kresnet.train`, each into a folder as a run has.

    Args:
        data: a source's name.
        recipe, epochs, options: as in `kresnet.train`; `options` are any others of its arguments.
    """

    def __init__(self, data: str, recipe: Any, epochs: int, options: Mapping[str, Any]):
        self.data, self.recipe, self.epochs, self.options = data, recipe, epochs, dict(options)

    def images(self, size: int, grey: bool) -> tuple[int, int]:
        """Returns how many channels the images have, and how many classes they are of.

        Args:
            size: height and width in pixels.
            grey: whether the networks want one channel, to which colours are brought.
        """
        own = {name: self.options[name] for name in ("data_dir", "split_seed") if name in self.options}
        found = load(self.data, "train", size, batch_size=1, shuffle=False, grey=grey, **own)
        return int(found.element_spec[0].shape[-1]), len(found.class_names)

    def __call__(self, attempt: Attempt) -> None:
        network, size = attempt.space.builder, attempt.arguments["input_shape"][0]
        callbacks = [_Rungs(attempt)]
        if attempt.parent is not None:
            callbacks.append(Inherit(attempt.parent[1]))
        try:
            train(
                network.key,
                self.data,
                self.recipe,
                out=attempt.folder,
                model_fields=attempt.space.changes(attempt.point),
                image_size=size,
                epochs=self.epochs,
                callbacks=callbacks,
                overwrite=True,
                verbose=False,
                with_report=False,
                **self.options,
            )
        except RuntimeError as error:
            if "NaN" not in str(error):
                raise
            attempt.accuracies, attempt.whole = {1: 0.0}, False  # it cannot be trained so
        for name in ("last.keras", "tensorboard"):
            path = attempt.folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        gc.collect()  # a network and its optimizer hold each other
