"""Models out: SavedModel, TFLite and ONNX; every file is run and compared before it gets its name."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kresnet import __version__, checks, files
from kresnet.data import samples
from kresnet.deploy import convert, lint, metadata, proof
from kresnet.deploy.lowering import in_float32, lower
from kresnet.deploy.quantize import is_quantize_aware
from kresnet.graph.fold import fold_batch_norm
from kresnet.graph.network import description as known
from kresnet.graph.rebuild import rebuild
from kresnet.graph.trace import all_layers, is_functional, nested
from kresnet.inference import predictors
from kresnet.layers.grouped import native_grouped_convolution

FORMATS = ("tflite", "saved_model", "onnx")
SUFFIXES = {".tflite": "tflite", ".onnx": "onnx"}
TOLERANCES = {None: 1e-4, "float16": 1e-2}
CALIBRATION_IMAGES = 256


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
    """Writes a model for deployment, after running what it writes and comparing it with the model.

    Batch norms are folded first. The proof goes, with the description, into a JSON file: `x.json` beside `x.tflite`,
    `x.onnx.json` beside `x.onnx`, `description.json` inside a SavedModel. If anything fails, nothing is left under
    these names, or what was there before.

    Args:
        model: a functional model of one input and one output, on the TensorFlow backend.
        path: where to write; folders on the way are made.
        format: "tflite", "saved_model" or "onnx". Default: from the path's suffix; a folder for a SavedModel if that is
            neither `.tflite` nor `.onnx`.
        quantize: for .tflite only: None (float32), "float16" (weights; half the size), "dynamic" (int8 weights; a
            quarter) or "int8" (all integers; a quarter, and two to three times as fast).
        io: dtype of the input: "uint8", "float32", or "int8" for int8 files; then the output is int8 too, else it is
            float32. Default: "uint8" for models that take pixels, 0 to 255, as all of ours with preprocessing do, and
            "float32" for others.
        batch_size: images in one run; None for any number, which is slow in a .tflite. Default: 1 in a .tflite, any
            number else.
        calibration: for "int8": images, such as those of training, from which 256 are drawn: an array (n, height,
            width, channels), a tuple (images, labels), or an iterable of batches such as a `tf.data.Dataset`. A
            `quantize_aware` model needs none.
        verify: images like these, best with labels: the file and the model are compared on all of them. Default: those
            drawn for calibration, or else 64 synthetic images with the spectrum of photographs.
        labels: the classes' names in order, which travel inside the .tflite.
        description: what else a user of the file should know, such as {"weights": "...", "top1": 0.76}.
        tolerance: largest difference of logits, in their deviations. Default: 1e-4 for float32, 1e-2 for float16, none
            for int8 weights. For SavedModel and ONNX: of outputs.
        agreement: for int8 weights: the least share of the given images, in [0, 1], on which file and model choose the
            same class. Not asked of synthetic images, of which it says nothing.
        latency: whether to measure that too (up to 5 s).

    Returns:
        The path.

    Raises:
        ValueError: if an argument makes no sense; the model cannot be converted; the file would hold operators that are
            not built in, shapes that are not fixed, or numbers that are not finite; or the file differs too much from
            the model: then it names the layers that carry the error.
    """
    path = Path(path)
    checks.require(
        keras.backend.backend() == "tensorflow",
        "Exporting needs Keras's TensorFlow backend: save the model as .keras, set KERAS_BACKEND=tensorflow, load it "
        "and export",
        backend=keras.backend.backend(),
    )
    format = checks.choice("format", format or SUFFIXES.get(path.suffix, "saved_model"), FORMATS)
    shape = _check_model(model, format)
    checks.choice("quantize", quantize, convert.QUANTIZATIONS)
    checks.require(
        quantize is None or format == "tflite", "Only a .tflite is quantized", quantize=quantize, path=str(path)
    )
    pixels = convert.takes_pixels(model)
    io = checks.choice("io", io or ("uint8" if pixels else "float32"), ("uint8", "float32", "int8"))
    checks.require(io != "int8" or quantize == "int8", 'io="int8" needs quantize="int8"', io=io, quantize=quantize)
    if batch_size == "auto":
        batch_size = 1 if format == "tflite" else None
    batch_size = batch_size if batch_size is None else checks.integer("batch_size", batch_size)
    if labels is not None:
        labels = metadata.check_labels(labels, model.outputs[0].shape[-1])
    if calibration is not None:
        calibration = samples.draw(calibration, CALIBRATION_IMAGES, shape, "calibration")
    checks.require(
        quantize != "int8" or calibration is not None or is_quantize_aware(model),
        'quantize="int8" needs `calibration` images, which show what numbers go through the network',
        calibration=calibration,
    )
    verify = calibration if verify is None else list(verify) if isinstance(verify, Iterator) else verify
    limits = proof.Limits(
        tolerance=TOLERANCES.get(quantize, np.inf) if tolerance is None else tolerance,
        agreement=agreement if quantize in ("dynamic", "int8") and verify is not None else 0.0,
    )
    model = _in_float32(model)
    summary = _summary(model, description or {})
    colours = _colours(model, shape, pixels)
    about = {
        **summary,
        "labels": labels,
        "input": {"name": "image", "dtype": io, "shape": [batch_size, *shape], **colours},
        "output": {"name": convert.output_name(model), "shape": [batch_size, *model.outputs[0].shape[1:]]},
        "format": format,
        "quantize": quantize,
        "made_with": {"kresnet": __version__, "keras": keras.__version__},
    }

    def text(numbers: dict[str, Any]) -> str:
        return json.dumps({**about, "proof": numbers}, indent=2, ensure_ascii=False) + "\n"

    simple = _is_simple(model)
    folded = fold_batch_norm(model) if simple else model
    if format == "tflite":
        convert.warn_if_slow(model, quantize)
        converted = lower(folded, integer=quantize == "int8") if simple and not is_quantize_aware(model) else folded
        content = metadata.attach(
            convert.to_tflite(converted, quantize=quantize, io=io, batch_size=batch_size, calibration=calibration),
            name=model.name,
            description=", ".join(f"{key}: {value}" for key, value in summary.items()),
            labels=labels,
            image_shape=shape,
            mean=colours.get("mean", [0.0]),
            std=colours.get("std", [1.0]),
        )
        with files.replacing(description_of(path)) as about_file, files.replacing(path) as written:
            written.write_bytes(content)
            content, layers = written.read_bytes(), [layer.name for layer in converted.layers]
            for slow in lint.check(content, str(path), static=batch_size is not None, layers=layers):
                warnings.warn(slow, stacklevel=2)
            numbers = proof.prove(content, model, verify, latency)
            limits.check(numbers, str(path), lambda: proof.blame(content, converted, verify))
            about_file.write_text(text(numbers))
        return path
    served = convert.wrapped(folded, io, batch_size)
    if format == "onnx":
        with files.replacing(description_of(path)) as about_file, files.replacing(path) as written:
            numbers = proof.compare(convert.to_onnx(served, written), model, verify)
            limits.check(numbers, str(path))
            about_file.write_text(text(numbers))
        return path
    with files.replacing_folder(path, "a SavedModel", "saved_model.pb") as written:
        with native_grouped_convolution():
            served.export(written, format="tf_saved_model", verbose=False)
        numbers = proof.compare(predictors.predictor(written).run, model, verify)
        limits.check(numbers, str(path))
        (written / "description.json").write_text(text(numbers))
    return path


def description_of(path: str | os.PathLike) -> Path:
    """Returns where `export` writes the description of what it writes to `path`."""
    path = Path(path)
    if path.is_dir():
        return path / "description.json"
    return path.with_suffix(".json") if path.suffix == ".tflite" else path.with_name(f"{path.name}.json")


def _check_model(model: Any, format: str) -> tuple[int, int, int]:
    """Returns (height, width, channels)."""
    inputs, outputs = getattr(model, "inputs", None) or [], getattr(model, "outputs", None) or []
    one = isinstance(model, keras.Model) and len(inputs) == len(outputs) == 1 and len(inputs[0].shape) == 4
    checks.require(
        one,
        "Only a built Keras model of one image input and one output is exported",
        model=getattr(model, "name", model),
        inputs=[tensor.shape for tensor in inputs],
        outputs=[tensor.shape for tensor in outputs],
    )
    shape = tuple(inputs[0].shape[1:])
    checks.require(
        format != "tflite" or None not in shape,
        "A .tflite has one input size: build the model with a whole `input_shape`",
        input_shape=shape,
    )
    return shape


def _is_simple(model: keras.Model) -> bool:
    """Tells whether the model can be rewritten: a functional one whose layers are no models."""
    return is_functional(model) and not nested(model)


def _in_float32(model: keras.Model) -> keras.Model:
    """Returns the model, or if it computes in half precision its copy that does not: phones get float32 or integers."""
    half = any(layer.compute_dtype in ("float16", "bfloat16") for layer in all_layers(model))
    checks.require(
        not half or _is_simple(model),
        "A model that computes in half precision and holds other models cannot be exported; build it in float32",
        model=model.name,
    )
    return rebuild(model, in_float32)[1] if half else model


def _summary(model: keras.Model, description: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what is known of the network, and what its owner says of it."""
    about = known(model)
    facts = {name: about[name] for name in ("key", "changes", "weights") if about.get(name)}
    if "paper" in about:
        facts["paper"] = f"https://arxiv.org/abs/{about['paper']}"
    clash = [key for key in description if key in ("proof", "labels", "input", "output", "format", "quantize")]
    checks.require(not clash, "`description` must not use the names that the export fills in", description=clash)
    return {"network": model.name, **facts, "parameters": model.count_params(), **description}


def _colours(model: keras.Model, shape: tuple[int, int, int], pixels: bool) -> dict[str, Any]:
    """Returns what an app must feed: pixels, or pixels less `mean` divided by `std` as far as the network is known."""
    order = {3: "RGB", 1: "grey"}.get(shape[2], f"{shape[2]} channels")
    if pixels:
        return {"channels": order, "range": [0, 255], "normalization": "inside: feed pixels as they are"}
    spec = known(model).get("spec", {})
    if shape[2] == len(spec.get("mean", ())):
        mean, std = ([round(255 * value, 3) for value in spec[name]] for name in ("mean", "std"))
        return {"channels": order, "normalization": "(pixel - mean) / std", "mean": mean, "std": std}
    return {"channels": order, "normalization": "unknown: whatever the network was trained with"}
