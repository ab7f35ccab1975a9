"""`Resume`: a training run that is killed goes on as if it had not been."""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Sequence
from types import FrameType
from typing import Any

import keras
import numpy as np

from kresnet import checks
from kresnet.graph.devices import agree
from kresnet.graph.seeds import give_to_generators, state_of_generators
from kresnet.graph.trainer import begin_at, pass_over, times_opened
from kresnet.progress import say
from kresnet.training import hosts, states
from kresnet.training.remembered import give_state, packed, remembers, say_of_loss, state_of, unpacked
from kresnet.training.signals import Interrupted, Listener
from kresnet.training.transfer import Pause

_EVERY = re.compile(r"(\d+(?:\.\d+)?) *(step|second|minute|hour)s?")
_AGREE = 8  # batches after which several processes ask each other
_SECONDS = {"second": 1, "minute": 60, "hour": 3600}


class Resume(keras.callbacks.Callback):
    """Saves the state of training as it goes, and goes on from the last one when `fit` is called again.

    A state is whole: weights, raw ones and their averages, the optimizer's variables, seed generators, metrics,
    history, what other callbacks remember, the epoch, and its batches that are done. After a kill the same call of
    `fit` gives the same weights and history, bit for bit, if it reads the same batches in each epoch and the backend
    computes the same in each process (see `keras.config`, and TensorFlow's deterministic operations). In the epoch that
    it was killed in, the batches that were done are read and passed over; from `kresnet.data.load` without decoding.

    SIGTERM, SIGINT (Ctrl-C) and SIGHUP end training after the batch that they come in, with a state saved; a second one
    ends it at once.

        resume = kresnet.callbacks.Resume("states", [keras.callbacks.EarlyStopping("val_loss", patience=3)], data)
        model.fit(data, validation_data=..., epochs=90, callbacks=[resume])

    Args:
        folder: where the states are kept: the last two, each in a file of its own.
        callbacks: all other callbacks of `fit`, which this one calls, so that it sees their work done. Keras's are
            known; of others, `get_state()` is saved (numbers, text, lists, mappings by text, and arrays) and given to
            `set_state(state)`.
        data: the training data: those of `kresnet.data.load` are told which epoch begins, and where in it; another
            `tf.data.Dataset` is opened as often as it was in the epochs that were done, so that a `shuffle` with a seed
            goes on.
        every: how often: "epoch", "500 steps", "10 minutes".
        delete: whether to remove the states when training has ended, so that the next `fit` begins anew. False: it
            then finds that nothing is left to do.

    Raises:
        ValueError: if `every` makes no sense; in `fit`, if the states are of another network or optimizer.
        RuntimeError: in `fit`, if a variable is infinite or NaN when a state is due; those before are kept.
        Interrupted: in `fit`, a `KeyboardInterrupt`, after a signal.
        OSError: in `fit`, if a state cannot be written; those before are kept.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        data: Any = None,
        every: str = "epoch",
        delete: bool = True,
    ) -> None:
        super().__init__()
        self.folder, self.every, self.delete = os.fspath(folder), every, checks.boolean("delete", delete)
        self._steps, self._seconds = _interval(every)
        self._others = keras.callbacks.CallbackList(list(callbacks))
        self._data = data
        self._loaded: tuple[dict[str, np.ndarray], Any] | None = None
        self._began, self._to_pass = False, 0
        self._signals = Listener(self._in_fit)

    def set_params(self, params: dict[str, Any]) -> None:
        super().set_params(params)
        self._others.set_params(params)

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        self._others.set_model(model)

    # What `fit` tells, in its order.

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._loaded = None if self._began else states.newest(self.folder)
        hosts.wait("states are read")
        for callback in self._others.callbacks:
            if self._loaded and isinstance(callback, keras.callbacks.CSVLogger):
                callback.append = True
        self._others.on_train_begin(logs)
        self._signals.start()
        self._epoch, self._batch, self._metrics = 0, 0, None
        self._saved_at, self._since = time.monotonic(), 0
        if self._loaded:
            self._restore(*self._loaded)
        self._began = True

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        loaded, self._loaded = self._loaded, None
        self._epoch, self._batch, self._metrics = epoch, 0, None
        if loaded:
            begin_at(self.model, None)  # else the next `fit` would begin there as well
            self._take_history(loaded[1]["history"])
            self._batch = self._to_pass = loaded[1]["batch"]
        self._begin_reading(epoch, again=bool(loaded))
        self._others.on_epoch_begin(epoch, logs)
        if self._to_pass:
            self._pass_over(loaded[0])
        elif not loaded and (self._due() or self.every == "epoch" or self._first_of_all()):
            self._save()
        self._stop(self._asked())

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        if not self._to_pass:
            self._others.on_train_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if batch + 1 <= self._batch:
            return  # it was done before
        self._others.on_train_batch_end(batch, logs)
        self._since += batch + 1 - self._batch
        self._batch = batch + 1
        asked = self._asked()
        if asked or self._due():
            self._save()
        self._stop(asked)

    def on_test_begin(self, logs: dict | None = None) -> None:
        self._metrics = _values("metrics", self.model.metrics_variables)  # `evaluate` resets them
        self._others.on_test_begin(logs)

    def on_test_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        self._others.on_test_batch_begin(batch, logs)

    def on_test_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._others.on_test_batch_end(batch, logs)
        if self._signals.heard:
            for callback in self._others.callbacks:
                if isinstance(callback, keras.callbacks.SwapEMAWeights):
                    callback.on_test_end()  # the averages were in the place of the weights
            self._save()
        self._stop(self._signals.heard)

    def on_test_end(self, logs: dict | None = None) -> None:
        self._others.on_test_end(logs)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._others.on_epoch_end(epoch, logs)

    def on_train_end(self, logs: dict | None = None) -> None:
        loaded, self._loaded = self._loaded, None
        if loaded:  # nothing was left to do
            begin_at(self.model, None)
            self._take_history(loaded[1]["history"])
        self._others.on_train_end(logs)
        self._signals.stop()
        if self.delete and not hosts.index():
            states.clear(self.folder)
        elif not loaded and not any(isinstance(one, Pause) and one.reached for one in self._others.callbacks):
            self._epoch, self._batch, self._metrics = self._epoch + 1, 0, None
            self._save(ended=True)

    # States.

    def _save(self, ended: bool = False) -> None:
        self._saved_at, self._since = time.monotonic(), 0
        if hosts.index():
            return  # the first process's weights are everyone's
        model = self.model
        agree(model)
        metrics = self._metrics or _values("metrics", model.metrics_variables)
        arrays = _values("model", model.variables) | _values("optimizer", model.optimizer.variables) | metrics
        arrays |= {f"generator.{name}": state for name, state in state_of_generators().items()}
        of_others = []
        for number, callback in enumerate(filter(remembers, self._others.callbacks)):
            state = state_of(callback)
            of_others.append([type(callback).__name__, packed(state, f"callback{number}", arrays)])
        history = getattr(model, "history", None)
        facts = {
            "epoch": self._epoch,
            "batch": self._batch,
            "ended": ended,
            "paths": {"model": _paths(model.variables), "optimizer": _paths(model.optimizer.variables)},
            "callbacks": of_others,
            "history": packed([list(history.epoch), history.history] if history else [[], {}], "history", arrays),
        }
        try:
            states.save(self.folder, self._epoch, self._batch, arrays, facts)
        except states.NotFinite as error:
            paths = {f"{kind}{i}": path for kind in facts["paths"] for i, path in enumerate(facts["paths"][kind])}
            where = f"after batch {self._batch} of epoch {self._epoch + 1}"
            name = paths.get(error.name, error.name)
            raise RuntimeError(f"{name} is infinite or NaN {where}; the states before are kept") from None

    def _restore(self, arrays: dict[str, np.ndarray], facts: Any) -> None:
        model = self.model
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        for kind, variables in (("model", model.variables), ("optimizer", model.optimizer.variables)):
            self._check(kind, variables, arrays, facts["paths"][kind])
        for kind, variables in (("model", model.variables), ("optimizer", model.optimizer.variables)):
            self._assign(variables, kind, arrays)
        remembering = [*filter(remembers, self._others.callbacks)]
        names = [type(callback).__name__ for callback in remembering]
        checks.require(
            names == [name for name, _ in facts["callbacks"]],
            f"The states in {self.folder} are of other callbacks: {', '.join(name for name, _ in facts['callbacks'])}",
            callbacks=names,
        )
        for callback, (_, saved) in zip(remembering, facts["callbacks"], strict=True):
            give_state(callback, unpacked(saved, arrays))
        for callback in itertools.filterfalse(remembers, self._others.callbacks):
            say_of_loss(callback)
        _give_to_generators(arrays)
        begin_at(model, self.params["epochs"] if facts["ended"] else facts["epoch"])
        facts["history"] = unpacked(facts["history"], arrays)
        if not facts["ended"]:
            say(f"Going on in epoch {facts['epoch'] + 1} after {facts['batch']} batches, from {self.folder}")

    def _check(self, kind: str, variables: Sequence[Any], arrays: dict[str, np.ndarray], paths: list[str]) -> None:
        checks.require(
            len(variables) == len(paths),
            f"The states in {self.folder} are of another {kind}, of {len(paths)} variables",
            variables=len(variables),
        )
        for i, variable in enumerate(variables):
            saved = arrays[f"{kind}{i}"].shape
            checks.require(
                tuple(variable.shape) == saved,
                f"The states in {self.folder} are of another {kind}: there {paths[i]} has the shape {saved}",
                variable=variable.path,
                shape=tuple(variable.shape),
            )

    @staticmethod
    def _assign(variables: Sequence[Any], kind: str, arrays: dict[str, np.ndarray]) -> None:
        for i, variable in enumerate(variables):
            variable.assign(arrays[f"{kind}{i}"])

    def _take_history(self, saved: Any) -> None:
        history = self.model.history
        history.epoch[:0] = saved[0]
        for name, values in saved[1].items():
            history.history[name] = [*values, *history.history.get(name, [])]

    def _pass_over(self, arrays: dict[str, np.ndarray]) -> None:
        """Lets `fit` read the batches that were done, without training on them."""

        def restore_metrics() -> None:
            self._assign(self.model.metrics_variables, "metrics", arrays)

        def passed(batches: int) -> None:
            self._to_pass -= batches
            if self._to_pass <= 0:
                _give_to_generators(arrays)  # again: building the metrics may have drawn

        pass_over(self.model, self._to_pass, restore_metrics, passed)

    def _begin_reading(self, epoch: int, again: bool) -> None:
        epochs = getattr(self._data, "epochs", None)
        if epochs is not None:
            epochs.next, epochs.first = epoch, self._batch
        elif again and hasattr(self._data, "element_spec"):
            for _ in range(times_opened(self._data, epoch)):
                iter(self._data)  # draws the seed of its order

    def _first_of_all(self) -> bool:
        return states.place(self.folder) is None

    def _due(self) -> bool:
        if self._steps:
            return self._since >= self._steps
        return bool(self._seconds) and time.monotonic() - self._saved_at >= self._seconds

    def _in_fit(self, frame: FrameType | None) -> bool:
        """An error may have ended `fit`, which tells callbacks nothing."""
        while frame is not None:
            if frame.f_code.co_name == "fit" and frame.f_locals.get("self") is self._model:
                return True
            frame = frame.f_back
        return False

    def _asked(self) -> int:
        """Returns the signal to end by; 0: none. Several processes end after the same batch."""
        if hosts.count() == 1:
            return self._signals.heard
        return hosts.largest(self._signals.heard) if self._batch % _AGREE == 0 else 0

    def _stop(self, number: int) -> None:
        if number and not self._to_pass:
            self._signals.heard = 0
            self._signals.stop()
            raise Interrupted(number, self.folder)


def _interval(every: str) -> tuple[int, float]:
    """Returns the steps and the seconds between states, 0 for what does not count."""
    match = _EVERY.fullmatch(every) if isinstance(every, str) else None
    ok = every == "epoch" or (match is not None and float(match[1]) > 0)
    checks.require(ok, '`every` is written as "epoch", "500 steps" or "10 minutes"', every=every)
    if match is None:
        return 0, 0.0
    if match[2] == "step":
        return max(1, int(float(match[1]))), 0.0
    return 0, float(match[1]) * _SECONDS[match[2]]


def _values(kind: str, variables: Sequence[Any]) -> dict[str, np.ndarray]:
    return {f"{kind}{i}": np.array(keras.ops.convert_to_numpy(v)) for i, v in enumerate(variables)}


def _give_to_generators(arrays: dict[str, np.ndarray]) -> None:
    give_to_generators({name.partition(".")[2]: a for name, a in arrays.items() if name.startswith("generator.")})


def _paths(variables: Sequence[Any]) -> list[str]:
    return [variable.path for variable in variables]
