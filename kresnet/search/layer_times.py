"""What a network takes as a .tflite on this machine: measured, or added up from what its layers take alone."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import statistics
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kresnet import checks
from kresnet.deploy.convert import prepared, to_tflite
from kresnet.files import replacing
from kresnet.graph.pieces import pieces
from kresnet.inference.tflite_file import TFLiteFile
from kresnet.models.mobile.mobilenet import MobileNetV2
from kresnet.training.transfer import recalibrate_batch_norm

ROUNDS = 21
WHOLES = 5


class LatencyTable:
    """Milliseconds of networks for one image on one thread, from a table of their layers.

    Each layer, or block with its shortcut, is exported as a `.tflite` of its own and timed when it first occurs; a
    network of layers that are known is added up in milliseconds. Times are of the processor and not of the clock, which
    other programs' turns would lengthen, and in turn with one network that is always the same, so that what else
    the machine does meanwhile, and how fast it is allowed to be, meets both. What it takes to enter any file is taken
    off. The sum is corrected by what a few whole networks take (`calibrate`): caches serve a layer alone better or
    worse than one among others, by up to a fourth, and alike in networks of one space.

    Args:
        path: a file that keeps the table. None: it is forgotten.
        quantize: None (float32) or "int8".

    Raises:
        ValueError: if Keras does not run on TensorFlow, which exports, or the file has a table of other files.
    """

    def __init__(self, path: str | os.PathLike | None = None, quantize: str | None = None):
        checks.choice("quantize", quantize, (None, "int8"))
        checks.require(
            keras.backend.backend() == "tensorflow",
            "Latency is of exported files, for which Keras must run on TensorFlow",
            backend=keras.backend.backend(),
        )
        self.path, self.quantize = None if path is None else Path(path), quantize
        self._times: dict[str, float] = {}  # by the digest of a layer's kind, in yardsticks
        self._unit: float | None = None
        self._share: float | None = None  # of a sum that the whole takes
        self._read()

    def __len__(self) -> int:
        """The number of layers that are known."""
        return len(self._times)

    @property
    def unit(self) -> float:
        """Milliseconds that the network takes with which all are compared, at the machine's best."""
        if self._unit is None:
            self._unit = 1e3 * min(_seconds(_yardstick()) for _ in range(100))
        return self._unit

    def milliseconds(self, model: keras.Model) -> float:
        """Returns what a network takes by the table. It need not have weights; layers that are new are measured."""
        return self.unit * self._sum(model) * (1.0 if self._share is None else self._share)

    def calibrate(self, models: Iterable[keras.Model]) -> None:
        """Compares whole networks with the sums of their layers, unless that was done before.

        Args:
            models: like those that will be asked for, such as five of a space; they need not have weights.
        """
        if self._share is None:
            wholes = [(self._whole(model), self._sum(model)) for model in models]
            # Layers of very small networks may take no longer than it takes to enter a file.
            self._share = statistics.median([whole / added for whole, added in wholes if added] or [1.0])
            self._write()

    def _sum(self, model: keras.Model) -> float:
        found = [(_digest(piece.kind), piece) for piece in pieces(model)]
        new = {digest: piece for digest, piece in found if digest not in self._times}
        for digest, piece in new.items():
            self._times[digest] = max(0.0, _yardsticks(self._converted(piece.model())) - _entry())
        if new:
            self._write()
        return sum(self._times[digest] for digest, _ in found)

    def measured(self, model: keras.Model) -> float:
        """Returns what a network takes as a whole, exported and run, in milliseconds. It need not have weights."""
        return self.unit * self._whole(model)

    def _whole(self, model: keras.Model) -> float:
        return _yardsticks(self._converted(keras.models.clone_model(model)))

    def _converted(self, model: keras.Model) -> bytes:
        """Converts a model of random weights, whose norms it may change."""
        if self.quantize is None:
            return to_tflite(prepared(model))
        # Of random weights no image's numbers are better than others. But integers whose scales differ by more than
        # XNNPACK takes come of what fades from layer to layer, as without statistics it does, and of a squeezed layer
        # whose few channels are all below zero.
        for layer in model.layers:
            if getattr(layer, "bias", None) is not None:
                layer.bias.assign(keras.ops.ones_like(layer.bias))
        images = np.random.default_rng(0).normal(size=(8, *model.inputs[0].shape[1:])).astype("float32")
        recalibrate_batch_norm(model, images)
        return to_tflite(prepared(model, integer=True), quantize="int8", io="int8", calibration=images)

    def _read(self) -> None:
        if self.path is None or not self.path.exists():
            return
        try:
            held = json.loads(self.path.read_text())
            quantize, unit, share, times = (held[key] for key in ("quantize", "yardstick_ms", "share", "layers"))
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{self.path} is no table of latencies. Received: path={str(self.path)!r}") from None
        checks.require(
            quantize == self.quantize, f"{self.path} has a table of other files", quantize=(quantize, self.quantize)
        )
        self._unit, self._share, self._times = unit, share or self._share, times | self._times

    def _write(self) -> None:
        if self.path is None:
            return
        unit = self.unit
        self._read()  # another process may have measured meanwhile
        self._unit = self._unit or unit
        about = {"machine": f"{platform.machine()}, {platform.system()}", "quantize": self.quantize}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as temporary:
            held = {"yardstick_ms": self._unit, "share": self._share, "layers": self._times}
            temporary.write_text(json.dumps(about | held, indent=1))


def latency_table(
    path: str | os.PathLike | None = None, quantize: str | None = None, networks: Any = (), verbose: bool = True
) -> LatencyTable:
    """Returns a table of layers' latencies on this machine; see `LatencyTable`.

    Args:
        path: a file that keeps it.
        quantize: None (float32) or "int8".
        networks: models whose layers are measured now, such as random ones of a space, and the first five as a whole.
            Other layers are when they occur.
        verbose: whether to show a bar.
    """
    from kresnet.progress import track

    table, networks = LatencyTable(path, quantize), list(networks)
    for model in track(networks, "Measuring") if verbose else networks:
        table.milliseconds(model)
    if networks:  # whose layers, which take the most time, are known by now
        table.calibrate(networks[:WHOLES])
    return table


def _digest(kind: str) -> str:
    return hashlib.sha256(kind.encode()).hexdigest()[:16]


@functools.cache
def _yardstick() -> Any:
    """Returns the interpreter of a network of a few milliseconds."""
    return TFLiteFile(to_tflite(prepared(MobileNetV2(input_shape=(128, 128, 3))))).interpreter


@functools.cache
def _entry() -> float:
    """Returns how many times as long as the yardstick a file takes that does next to nothing."""
    image = keras.Input((1, 1, 1), batch_size=1)
    return _yardsticks(to_tflite(keras.Model(image, keras.layers.ReLU()(image))))


def _yardsticks(content: bytes) -> float:
    """Returns how many times as long as the yardstick a file takes, each for the second time in a row."""
    runs = (TFLiteFile(content).interpreter, _yardstick())
    taken = runs[0].get_input_details()[0]
    runs[0].set_tensor(taken["index"], np.zeros(taken["shape"], taken["dtype"]))
    times = []
    for _ in range(ROUNDS):
        for run in runs:
            run.invoke()  # what the other has left in the caches is gone
            times.append(_seconds(run))
    return statistics.median(own / yardstick for own, yardstick in zip(times[::2], times[1::2], strict=True))


def _seconds(interpreter: Any) -> float:
    """Returns the seconds of the processor that a run takes."""
    start = time.thread_time()
    interpreter.invoke()
    return time.thread_time() - start
