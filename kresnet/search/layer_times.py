"""What a network takes as a .tflite on this machine: measured, or added up from what its layers take alone."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import statistics
import time
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

ROUNDS = 31


class LatencyTable:
    """Milliseconds of networks for one image on one thread, from a table of their layers.

    Each layer, or block with its shortcut, is exported as a `.tflite` of its own and timed when it first occurs; a
    network of layers that are known is added up in milliseconds. Times are of the processor and not of the clock, which
    other programs' turns would lengthen, and in turn with one network that is always the same, so that what else
    the machine does meanwhile, and how fast it is allowed to be, meets both. That network also drives the layer's
    weights out of the nearest cache, as the other layers do between two images; what the layer takes and gives is in
    it, as where the layer before has just written. What it takes to enter any file is taken off.

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
        found = [(_digest(piece.kind), piece) for piece in pieces(model)]
        new = {digest: piece for digest, piece in found if digest not in self._times}
        for digest, piece in new.items():
            self._times[digest] = max(0.0, _yardsticks(self._converted(piece.model())) - _entry())
        if new:
            self._write()
        return self.unit * sum(self._times[digest] for digest, _ in found)

    def measured(self, model: keras.Model) -> float:
        """Returns what a network takes as a whole, exported and run, in milliseconds."""
        return self.unit * _yardsticks(self._converted(model))

    def _converted(self, model: keras.Model) -> bytes:
        if self.quantize is None:
            return to_tflite(prepared(model))
        # Of random weights no image's numbers are better than others.
        images = np.random.default_rng(0).normal(size=(2, *model.inputs[0].shape[1:])).astype("float32")
        return to_tflite(prepared(model, integer=True), quantize="int8", io="int8", calibration=images)

    def _read(self) -> None:
        if self.path is None or not self.path.exists():
            return
        try:
            held = json.loads(self.path.read_text())
            quantize, unit, times = held["quantize"], held["yardstick_ms"], held["layers"]
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{self.path} is no table of latencies. Received: path={str(self.path)!r}") from None
        checks.require(
            quantize == self.quantize, f"{self.path} has a table of other files", quantize=(quantize, self.quantize)
        )
        self._unit, self._times = unit, times | self._times

    def _write(self) -> None:
        if self.path is None:
            return
        unit = self.unit
        self._read()  # another process may have measured meanwhile
        self._unit = self._unit or unit
        about = {"machine": f"{platform.machine()}, {platform.system()}", "quantize": self.quantize}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as temporary:
            temporary.write_text(json.dumps(about | {"yardstick_ms": self._unit, "layers": self._times}, indent=1))


def latency_table(
    path: str | os.PathLike | None = None, quantize: str | None = None, networks: Any = (), verbose: bool = True
) -> LatencyTable:
    """Returns a table of layers' latencies on this machine; see `LatencyTable`.

    Args:
        path: a file that keeps it.
        quantize: None (float32) or "int8".
        networks: models whose layers are measured now, such as random ones of a space. Others are when they occur.
        verbose: whether to show a bar.
    """
    from kresnet.progress import track

    table = LatencyTable(path, quantize)
    for model in track(networks, "Measuring") if verbose else networks:
        table.milliseconds(model)
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
    """Returns how many times as long as the yardstick a file takes."""
    file, yardstick = TFLiteFile(content).interpreter, _yardstick()
    taken, given = file.get_input_details()[0], file.get_output_details()[0]["index"]
    image = np.zeros(taken["shape"], taken["dtype"])
    file.invoke()
    ratios, before = [], _seconds(yardstick)
    for _ in range(ROUNDS):
        file.set_tensor(taken["index"], image)
        file.get_tensor(given)  # both are in the nearest cache now
        own, after = _seconds(file), _seconds(yardstick)
        ratios.append(2 * own / (before + after))
        before = after
    return statistics.median(ratios)


def _seconds(interpreter: Any) -> float:
    """Returns the seconds of the processor that a run takes."""
    start = time.thread_time()
    interpreter.invoke()
    return time.thread_time() - start
