"""The Keras callbacks of a training run. Each works in any `model.fit`."""

from __future__ import annotations

import csv
import os
import shutil
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kresnet import checks
from kresnet.files import replacing, replacing_csv
from kresnet.inference.predictors import BEST, LAST
from kresnet.progress import bar
from kresnet.training import hosts
from kresnet.training.resume import Resume
from kresnet.training.signals import Interrupted

__all__ = [
    "Checkpoint",
    "DatasetEpoch",
    "HistoryFile",
    "Interrupted",
    "Meter",
    "PlainValidationLoss",
    "Progress",
    "Resume",
]


class DatasetEpoch(keras.callbacks.Callback):
    """Tells a dataset of `kresnet.data.load` which epoch begins, as its order and augmentation depend on the epoch.

    Args:
        data: the training data, as returned by `kresnet.data.load`.
    """

    def __init__(self, data: Any) -> None:
        super().__init__()
        self.data = data

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.data.epochs.next = epoch


class Meter(keras.callbacks.Callback):
    """Adds "learning_rate" and "images_per_second" to the logs of each epoch, for the callbacks that come after it.

    Args:
        batch_size: images in a batch.
    """

    def __init__(self, batch_size: int) -> None:
        super().__init__()
        self.batch_size = batch_size

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.before, self.last = None, -1

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        if self.before is None:
            self.before, self.start = batch, time.perf_counter()  # batches before were done by a run that was killed

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.last, self.seconds = batch, time.perf_counter() - self.start  # validation does not count

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        logs["learning_rate"] = float(np.asarray(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)))
        speed = 0.0 if self.before is None else (self.last + 1 - self.before) / max(self.seconds, 1e-9)
        logs["images_per_second"] = self.batch_size * speed


class Checkpoint(keras.callbacks.Callback):
    """Saves the whole model after each epoch as `last.keras`, and also as `best.keras` if it is the best so far.

    Each file is replaced completely or not at all. (A kill or a full disk destroys the file that
    `keras.callbacks.ModelCheckpoint` is writing.)

    Args:
        folder: where to save the files.
        monitor: a value in the logs; the higher, the better. If the logs lack it, every epoch counts as the best.

    Attributes:
        best: the best value so far; None if there is none.
        best_epoch: the epoch of `best.keras`, from 0.
    """

    def __init__(self, folder: str | os.PathLike, monitor: str = "val_accuracy") -> None:
        super().__init__()
        self.folder, self.monitor = Path(folder), monitor
        self.best: float | None = None
        self.best_epoch = 0

    def get_state(self) -> dict[str, Any]:
        return {"best": self.best, "best_epoch": self.best_epoch}

    def set_state(self, state: dict[str, Any]) -> None:
        self.best, self.best_epoch = state["best"], state["best_epoch"]

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        last = self.folder / LAST
        with hosts.alone(), replacing(last) as temporary:
            self.model.save(temporary)
        value = (logs or {}).get(self.monitor)
        if value is None or self.best is None or value > self.best:
            self.best, self.best_epoch = value, epoch
            with replacing(self.folder / BEST) as temporary:
                shutil.copyfile(last, temporary)


class HistoryFile(keras.callbacks.Callback):
    """Keeps the logs of each epoch in a CSV file, which is replaced completely or not at all.

    On a full disk an OSError names the file, which holds the epochs before.

    Args:
        path: the file; "epoch" is its first column, counted from 0.

    Attributes:
        rows: the epochs so far, in their order.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        super().__init__()
        self.path = path
        self.rows: list[dict[str, Any]] = []

    def get_state(self) -> list[dict[str, Any]]:
        return self.rows

    def set_state(self, state: list[dict[str, Any]]) -> None:
        self.rows = state

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.rows = [*self.rows, {"epoch": epoch} | {name: float(value) for name, value in (logs or {}).items()}]
        columns = dict.fromkeys(name for row in self.rows for name in row)
        with replacing_csv(self.path) as writer:
            writer.writerow(columns)
            writer.writerows([row.get(name, "") for name in columns] for row in self.rows)

    def read(self) -> None:
        """Takes the rows of the file."""
        with open(self.path, newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            self.rows = [{k: int(v) if k == "epoch" else float(v) for k, v in row.items() if v} for row in rows]

    def epochs(self) -> list[int]:
        return [row["epoch"] for row in self.rows]

    def values(self) -> dict[str, list[float]]:
        """Returns the values of all epochs by their names, as `keras.callbacks.History` has them."""
        names = dict.fromkeys(name for row in self.rows for name in row if name != "epoch")
        return {name: [row[name] for row in self.rows if name in row] for name in names}


class PlainValidationLoss(keras.callbacks.Callback):
    """Lets `val_loss` be the cross-entropy that `kresnet.evaluate` gives of the same weights.

    What a `kresnet.losses.Crossentropy` does to labels in training, smoothing and one decision for each class, is left
    out in validation. Steps of training and of validation are compiled apart, each with what holds while it runs.
    """

    def on_test_begin(self, logs: dict | None = None) -> None:
        self.model.loss.plain = True

    def on_test_end(self, logs: dict | None = None) -> None:
        self.model.loss.plain = False


class Progress(keras.callbacks.Callback):
    """Shows a progress bar during each epoch, and prints a line of its results afterwards.

    If the output is not a terminal, only the lines are printed.

    Args:
        batch_size: images in a batch.
    """

    def __init__(self, batch_size: int) -> None:
        super().__init__()
        self.batch_size = batch_size

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.bar = bar()
        self.bar.start()

    def on_train_end(self, logs: dict | None = None) -> None:
        self.bar.stop()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        name = f"epoch {epoch + 1}/{self.params['epochs']}"
        self.start, self.begun = time.perf_counter(), None
        self.task = self.bar.add_task(name, total=self.params.get("steps"), speed=0.0, values="")

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if self.bar.disable:
            return
        self.begun = batch if self.begun is None else self.begun
        speed = self.batch_size * (batch + 1 - self.begun) / (time.perf_counter() - self.start)
        self.bar.update(self.task, completed=batch + 1, speed=speed, values=_values(logs))

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.bar.remove_task(self.task)
        self.bar.console.print(f"epoch {epoch + 1}/{self.params['epochs']}  {_values(logs)}", highlight=False)


def of_run(batch_size: int, verbose: bool) -> list[keras.callbacks.Callback]:
    """Returns what watches over a run, and shows how it goes."""
    watching = [PlainValidationLoss(), keras.callbacks.TerminateOnNaN(raise_error=True), Meter(batch_size)]
    return [*watching, *([Progress(batch_size)] if verbose else [])]


def stop_early(patience: int) -> keras.callbacks.EarlyStopping:
    """Returns what ends training after so many epochs, at least 1, without a better `val_accuracy`, and says so."""
    return keras.callbacks.EarlyStopping(
        "val_accuracy", patience=checks.integer("patience", patience), mode="max", verbose=1
    )


def _values(logs: dict | None) -> str:
    formats = {"learning_rate": ".2g", "images_per_second": ".0f"}
    return "  ".join(f"{name} {value:{formats.get(name, '.4f')}}" for name, value in (logs or {}).items())
