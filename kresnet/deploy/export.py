"""Exports models as SavedModel, TFLite or ONNX; every file is run and compared before it gets its name."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from kresnet import files
from kresnet.deploy import elsewhere
from kresnet.deploy.formats import FORMATS, choose
from kresnet.deploy.task import CALIBRATION_IMAGES, plan
from kresnet.inference.preprocessing import DESCRIPTION, description_of


def export(
    model: keras.Model,
    path: str | os.PathLike,
    format: str | None = None,
    *,
    quantize: str | None = None,
    io: str | None = None,
    batch_size: int | str | None = "auto",
    calibration: Any = None,
    verify: Any = None,
    labels: Sequence[str] | None = None,
    description: Mapping[str, Any] | None = None,
    tolerance: float | None = None,
    agreement: float = 0.95,
    latency: bool = True,
) -> Path:
    """Writes a model for deployment, then runs what was written and compares it with the model.

    Batch norms are folded first, and convolutions side by side merged (`kresnet.reparameterize`). What was measured
    goes, with a description, into a JSON file: `x.json` beside `x.tflite`, `x.onnx.json` beside `x.onnx`,
    `description.json` inside a SavedModel. If anything fails, both paths are left as they were before the call. A file
    also carries its description inside, by which kresnet reads it: it is replaced in one step, and the JSON after it,
    which names its file by "sha256".

    Args:
        model: a functional model with one input and one output. Where Keras's backend is JAX or PyTorch, it goes out
            from a process on TensorFlow, which must be installed.
        path: where to write; missing folders are created.
        format: "tflite", "saved_model" or "onnx". Default: by the path's suffix, `.tflite` or `.onnx`; a path with any
            other suffix becomes the folder of a SavedModel.
        quantize: for .tflite only: None (float32), "float16" (weights; half the size), "dynamic" (int8 weights; a
            quarter of the size) or "int8" (all integers; a quarter of the size, and two to three times as fast).
        io: dtype of the input: "uint8", "float32", or "int8" for int8 files. With "int8" the output is int8 too;
            otherwise it is float32. Default: "uint8" for models that take pixels, 0 to 255, as all networks with
            preprocessing do, and "float32" for others.
        batch_size: images in one run; None for any number, which is slow in a .tflite. Default: 1 in a .tflite, any
            number otherwise.
        calibration: for "int8": images like those of training, of which 256 are drawn: an array (n, height, width,
            channels), a tuple (images, labels), or an iterable of batches such as a `tf.data.Dataset`. A model from
            `quantize_aware` needs none.
        verify: images in the same forms, best with labels, on all of which the file and the model are compared.
            Default: those drawn for calibration, or else 16 synthetic images with the spectrum of photographs.
        labels: the class names in order, which travel inside a .tflite and in the description. Default: those that the
            model knows, such as the classes it was trained on.
        description: what else users of the file should know, such as {"weights": "...", "top1": 0.76}.
        tolerance: largest allowed difference, in standard deviations, between logits of the .tflite and the model, or
            between outputs in other formats. Default: 1e-4 for float32, 1e-2 for float16, no limit for int8 weights;
            beyond it a float file still passes if it computes what the network, in float16 with rounded weights, should
            compute, and no more than rounding sets that apart from the network. A given one is not exceeded.
        agreement: the fraction of images, in [0, 1], on which file and model must choose the same class: for int8
            weights of the given images, since synthetic ones say nothing about it. The file is refused if the 95 %
            confidence interval of the fraction lies below; where the images are too few to tell, a warning says so.
        latency: whether to measure a .tflite's latency too, which takes up to 5 s.

    Returns:
        The path.

    Raises:
        ValueError: if an argument makes no sense; the model cannot be converted; the file would contain operators that
            are not built in, shapes that are not fixed, or numbers that are not finite; or the file differs too much
            from the model, in which case the message names the layers that cause the error.
        ImportError: if a package that the format needs is missing.
    """
    path = Path(path)
    format = choose(format, path)
    settings = {
        "quantize": quantize,
        "io": io,
        "batch_size": batch_size,
        "calibration": calibration,
        "verify": verify,
        "labels": None if labels is None else list(labels),
        "description": description,
        "tolerance": tolerance,
        "agreement": agreement,
        "latency": latency,
    }
    if keras.backend.backend() != "tensorflow":
        elsewhere.export(model, path, {"format": format} | settings, CALIBRATION_IMAGES)
        return path
    task = plan(model, path, format, **settings)
    row = FORMATS[format]
    with _replacing(path, row.folder) as (written, about):
        row.write(task, written)
        numbers = row.prove(task, row.open(task, written))
        about.write_text(task.text(numbers, **({} if row.folder else {"sha256": files.sha256(written)})))
    return path


@contextlib.contextmanager
def _replacing(path: Path, folder: tuple[str, str] | None) -> Iterator[tuple[Path, Path]]:
    """Yields temporary paths for an export and its description, which replace the old ones if nothing fails.

    Args:
        path: of the file or folder.
        folder: as in `Format`; None for a file.
    """
    if folder:
        with files.replacing_folder(path, *folder) as written:
            yield written, written / DESCRIPTION
    else:
        with files.replacing(description_of(path)) as about, files.replacing(path) as written:
            yield written, about
            files.sync(about)  # a disk that is full for it must say so before the file is replaced
