"""The one or two calls of `fit` that a run consists of: with a part of the network frozen, and with all of it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from kresnet.data.loading import broken_image, ended, without_tuning
from kresnet.graph.trainer import may_end_anywhere
from kresnet.training import inputs, states, transfer
from kresnet.training.resume import Resume
from kresnet.training.signals import Interrupted


@dataclasses.dataclass(frozen=True)
class Phases:
    """What `fit` is called with, in one phase or two.

    Attributes:
        model: the network; frozen already where it is to be in the first phase.
        compiled: makes the arguments of `compile` for a phase: its metrics too must be new, or count on.
        data, validation_data: what to train on, and to validate with or None.
        epochs: of both phases.
        freeze_epochs: of the first phase; None: there is but one.
        callbacks: they see both phases as one training, but for `on_train_begin` and `on_train_end`.
        class_weight: as for `fit`.
        states: the folder of the states that a killed run goes on from.
        checkpoint_every: how often they are saved; see `Resume`.
    """

    model: keras.Model
    compiled: Callable[[], dict[str, Any]]
    data: Any
    validation_data: Any
    epochs: int
    freeze_epochs: int | None
    callbacks: list[keras.callbacks.Callback]
    class_weight: dict[int, float] | None
    states: Path
    checkpoint_every: str

    def fit(self) -> None:
        """Trains, from the last state if there is one.

        Raises:
            ValueError: if an image or a label is refused, or the states are of another run.
            Interrupted: after a signal.
        """
        first, second = self.states / "frozen", self.states / "whole"
        before, heard = None, contextlib.nullcontext()
        if self.freeze_epochs and states.place(second) is None:
            self.model.compile(**self.compiled())
            before = self.model.optimizer
            pause = transfer.Pause(self.freeze_epochs)
            with transfer.passing_over("on_train_end", self.callbacks, lambda: pause.reached):
                self._fit([*self.callbacks, pause], first, 0)
            if not pause.reached:  # another callback has ended training
                return
            heard = transfer.passing_over("on_train_begin", self.callbacks)
        if self.freeze_epochs:
            transfer.freeze(self.model, False)
        compiled = self.compiled()
        if before is not None:
            compiled["optimizer"].build(self.model.trainable_variables)
            compiled["optimizer"].go_on_from(before)
        self.model.compile(**compiled)
        with heard:
            self._fit(self.callbacks, second, self.freeze_epochs or 0)

    def _fit(self, callbacks: list[keras.callbacks.Callback], folder: Path, initial_epoch: int) -> None:
        resume = Resume(folder, callbacks, self.data, self.checkpoint_every, delete=False)
        fed = [data for data in (self.data, self.validation_data) if data is not None]
        lengths_are_known = all(data.cardinality() >= 0 for data in fed)
        try:
            with contextlib.nullcontext() if lengths_are_known else may_end_anywhere():
                self.model.fit(
                    without_tuning(self.data),
                    validation_data=without_tuning(self.validation_data),
                    epochs=self.epochs,
                    initial_epoch=initial_epoch,
                    callbacks=[resume],
                    class_weight=self.class_weight,
                    verbose=0,
                    shuffle=False,
                )
            return
        except Interrupted as signal:
            ends = Interrupted(signal.signal, str(self.states.parent))
        except Exception as error:
            refused = inputs.refused_labels(error) or broken_image(error)
            if refused is None:
                raise
            ends = ValueError(refused)
        # Outside of `except`, so that the new error does not keep that one, and with it the iterator.
        ended()
        raise ends
