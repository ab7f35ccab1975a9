"""The formats that `export` knows: how each is written, opened again and proved."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kresnet import checks
from kresnet.deploy import blame, convert, lint, proof, rounding
from kresnet.deploy.quantize import quantize_aware
from kresnet.deploy.task import Task
from kresnet.graph.trace import all_layers
from kresnet.inference import exported
from kresnet.inference.tflite_file import TFLiteFile
from kresnet.layers.response import LocalResponseNormalization


@dataclasses.dataclass(frozen=True)
class Format:
    """A format of exported models.

    Attributes:
        suffix: of its files' names; "" if it is a folder.
        write: writes a task's model to a path.
        open: returns what was written, as a function that runs a batch of images.
        prove: runs what `open` returned beside the model, and returns what was measured, ready for JSON. Raises a
            ValueError if the two differ by more than the task's limits.
        folder: for a folder: what error messages call it, and the name of a file that every folder of this format
            contains, by which it is recognised.
    """

    suffix: str
    write: Callable[[Task, Path], None]
    open: Callable[[Task, Path], Any]
    prove: Callable[[Task, Any], dict[str, Any]]
    folder: tuple[str, str] | None = None


def choose(format: str | None, path: Path) -> str:
    """Returns the name of a format: the given one, else that of the path's suffix, else that of folders.

    Raises:
        ValueError: if there is no such format.
    """
    by_suffix = {row.suffix: name for name, row in FORMATS.items()}
    return checks.choice("format", format or by_suffix.get(path.suffix, by_suffix[""]), FORMATS)


def _write_tflite(task: Task, path: Path) -> None:
    metadata, (model, calibration) = task.metadata, _calibrated(task)
    content = convert.to_tflite(
        convert.prepared(model, integer=task.quantize == "int8"),
        quantize=task.quantize,
        io=task.io,
        batch_size=task.batch_size,
        calibration=calibration,
        metadata=metadata,
    )
    path.write_bytes(content)
    metadata.append_to(path, task.description)


def _calibrated(task: Task) -> tuple[keras.Model, np.ndarray | None]:
    """Returns the model, and the calibration images, or None if the model holds its own ranges.

    The converter quantizes a logarithm too, which XNNPACK has in floats only. Of a network that holds its own ranges it
    leaves in floats what has none.
    """
    calibration = task.calibration_in_full
    normalized = any(isinstance(layer, LocalResponseNormalization) for layer in all_layers(task.model))
    if normalized and task.quantize == "int8" and calibration is not None and convert.is_rewritable(task.model):
        with contextlib.suppress(ValueError):  # a layer that it does not know: in parts, as `lint` says
            return quantize_aware(convert.one_graph(task.model), calibration), None
    return task.model, calibration


def _open_tflite(task: Task, path: Path) -> TFLiteFile:
    # Not loaded yet: the checks name the operator that would keep LiteRT from loading it.
    return TFLiteFile(path, name=str(task.path), load=False)


def _prove_tflite(task: Task, file: TFLiteFile) -> dict[str, Any]:
    layers = [layer.name for layer in task.model.layers]
    for slow in lint.check(file, static=task.batch_size is not None, layers=layers):
        warnings.warn(slow, stacklevel=3)  # for the caller of `export`

    def explain() -> str:
        return blame.worst_layers(file, convert.prepared(task.model, integer=task.quantize == "int8"), task.verify)

    def alone() -> dict[str, float] | None:
        logits = "logits" in numbers
        run = proof.with_logits(file) if logits else file
        deviation = numbers["logits" if logits else "outputs"]["deviation"]
        half = task.quantize == "float16"
        return rounding.measure(run, task.model, task.verify, deviation, logits=logits, half=half)

    numbers = proof.prove(file, task.model, task.verify, task.latency)
    task.limits.check(numbers, str(task.path), explain, alone, stacklevel=4)  # for the caller of `export`
    return numbers


def _served(task: Task) -> Any:
    """Returns the model with fewer layers, and with the input and output that an app sees."""
    return convert.wrapped(convert.fused(task.model), task.io, task.batch_size)


def _write_saved_model(task: Task, path: Path) -> None:
    # Grouped convolutions as this machine runs them: without oneDNN, TensorFlow refuses to run its own operator once it
    # is fused with a bias.
    _served(task).export(path, format="tf_saved_model", verbose=False)


def _open_saved_model(task: Task, path: Path) -> proof.Run:
    return exported.open_saved_model(path).run


def _write_onnx(task: Task, path: Path) -> None:
    convert.to_onnx(_served(task), path, task.description)


def _open_onnx(task: Task, path: Path) -> proof.Run:
    return exported.open_onnx(path).run


def _prove_outputs(task: Task, run: proof.Run) -> dict[str, Any]:
    def alone() -> dict[str, float] | None:
        return rounding.measure(run, task.model, task.verify, numbers["outputs"]["deviation"], logits=False, half=False)

    numbers = proof.compare(run, task.model, task.verify)
    task.limits.check(numbers, str(task.path), rounding=alone, stacklevel=4)
    return numbers


FORMATS = {
    "tflite": Format(".tflite", _write_tflite, _open_tflite, _prove_tflite),
    "saved_model": Format(
        "", _write_saved_model, _open_saved_model, _prove_outputs, folder=("a SavedModel", "saved_model.pb")
    ),
    "onnx": Format(".onnx", _write_onnx, _open_onnx, _prove_outputs),
}
