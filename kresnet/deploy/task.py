"""What an export is asked to do: its arguments, checked, and what is known about the network."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kresnet import __version__, checks
from kresnet.data import samples
from kresnet.deploy import convert, metadata
from kresnet.deploy.limits import TOLERANCES, Limits
from kresnet.deploy.lowering import in_float32
from kresnet.deploy.quantize import is_quantize_aware
from kresnet.graph.inputs import PIXELS, input_range, scales_input
from kresnet.graph.network import description as kresnet_config
from kresnet.graph.ranges import RangeCheck
from kresnet.graph.rebuild import rebuild
from kresnet.graph.trace import all_layers
from kresnet.papers import link

CALIBRATION_IMAGES = 256
# Keys of the written description that belong to the export.
_RESERVED = ("proof", "labels", "input", "output", "format", "quantize", "sha256")


@dataclasses.dataclass(frozen=True)
class Task:
    """An export whose arguments have been checked.

    Attributes:
        model: computes in float32.
        path: where the export will be; what error messages call it.
        image_shape: (height, width, channels) in pixels; for a .tflite all are fixed.
        quantize, io, calibration, latency: as for `export`.
        batch_size: images in one run; None for any number.
        verify: images for the comparison, with or without labels; None for synthetic ones.
        limits: how far the outputs may be from the model's.
        labels: the class names, or None.
        network: what is known about the network, and what its owner says about it, ready for JSON.
        about: all of the written description but the proof, ready for JSON.
    """

    model: keras.Model
    path: Path
    image_shape: tuple[int | None, int | None, int]
    quantize: str | None
    io: str
    batch_size: int | None
    calibration: np.ndarray | None
    verify: Any
    limits: Limits
    latency: bool
    labels: list[str] | None
    network: dict[str, Any]
    about: dict[str, Any]

    def text(self, numbers: dict[str, Any], **more: str) -> str:
        """Returns the description as JSON, with the numbers that the proof measured."""
        return json.dumps({**self.about, **more, "proof": numbers}, indent=2, ensure_ascii=False) + "\n"

    @property
    def description(self) -> str:
        """What travels inside a file as JSON: nothing measured, so that the same export gives the same file."""
        return json.dumps(self.about, ensure_ascii=False)

    @property
    def calibration_in_full(self) -> np.ndarray | None:
        """The calibration images; pixels among them span 0 to 255, so that the file takes them as bytes."""
        pixels = self.calibration is not None and self.about["input"].get("range") == list(PIXELS)
        return samples.full_range(self.calibration) if pixels else self.calibration

    @property
    def metadata(self) -> metadata.Metadata:
        """What travels inside a .tflite."""
        normalization = {key: self.about["input"][key] for key in ("mean", "std") if key in self.about["input"]}
        return metadata.Metadata(
            name=self.model.name,
            description=", ".join(f"{key}: {value}" for key, value in self.network.items()),
            labels=self.labels,
            image_shape=self.image_shape,
            **normalization,
        )


def plan(
    model: Any,
    path: Path,
    format: str,
    *,
    quantize: str | None,
    io: str | None,
    batch_size: int | str | None,
    calibration: Any,
    verify: Any,
    labels: Sequence[str] | None,
    description: Mapping[str, Any] | None,
    tolerance: float | None,
    agreement: float,
    latency: bool,
) -> Task:
    """Checks the arguments of an export, replaces defaults, and warns if the file will be slow.

    Args: as for `export`, with a `format` that exists.

    Raises:
        ValueError: if an argument makes no sense, or the model cannot be exported.
    """
    tflite = format == "tflite"
    shape = _image_shape(model, tflite)
    checks.choice("quantize", quantize, convert.QUANTIZATIONS)
    checks.require(quantize is None or tflite, "Only a .tflite is quantized", quantize=quantize, path=str(path))
    wanted = input_range(model)
    pixels = wanted == PIXELS
    io = checks.choice("io", io or ("uint8" if pixels else "float32"), ("uint8", "float32", "int8"))
    checks.require(io != "int8" or quantize == "int8", 'io="int8" needs quantize="int8"', io=io, quantize=quantize)
    if batch_size == "auto":
        batch_size = 1 if tflite else None
    batch_size = batch_size if batch_size is None else checks.integer("batch_size", batch_size)
    labels = _labels(model, labels)
    if calibration is not None:
        calibration = samples.draw(calibration, CALIBRATION_IMAGES, shape, "calibration")
        RangeCheck(wanted, "calibration")(calibration)
    checks.require(
        quantize != "int8" or calibration is not None or is_quantize_aware(model),
        'quantize="int8" needs `calibration` images, which show the range of the numbers in the network',
        calibration=calibration,
    )
    verify = calibration if verify is None else list(verify) if isinstance(verify, Iterator) else verify
    limits = Limits(
        tolerance=TOLERANCES.get(quantize, np.inf) if tolerance is None else tolerance,
        agreement=agreement if quantize not in TOLERANCES and verify is not None else 0.0,
        rounding=agreement if quantize in TOLERANCES and tolerance is None else None,
    )
    model = _in_float32(model)
    network = _network(model, description or {})
    convert.warn_if_slow(model, quantize, stacklevel=4)  # for the caller of `export`
    about = {
        **network,
        "labels": labels,
        "input": {"name": "image", "dtype": io, "shape": [batch_size, *shape], **_colours(model, shape, wanted)},
        "output": {"name": convert.output_name(model), "shape": [batch_size, *model.outputs[0].shape[1:]]},
        "format": format,
        "quantize": quantize,
        "made_with": {"kresnet": __version__, "keras": keras.__version__},
    }
    return Task(
        model, path, shape, quantize, io, batch_size, calibration, verify, limits, latency, labels, network, about
    )


def _image_shape(model: Any, fixed: bool) -> tuple[int | None, int | None, int]:
    """Returns (height, width, channels) of a model that can be exported; `fixed` tells whether all must be known."""
    inputs, outputs = getattr(model, "inputs", None) or [], getattr(model, "outputs", None) or []
    one = isinstance(model, keras.Model) and len(inputs) == len(outputs) == 1 and len(inputs[0].shape) == 4
    checks.require(
        one,
        "Only a built Keras model with one image input and one output can be exported",
        model=getattr(model, "name", model),
        inputs=[tensor.shape for tensor in inputs],
        outputs=[tensor.shape for tensor in outputs],
    )
    shape = tuple(inputs[0].shape[1:])
    checks.require(
        not fixed or None not in shape,
        "A .tflite has a fixed input size: build the model with a complete `input_shape`",
        input_shape=shape,
    )
    return shape


def _labels(model: keras.Model, labels: Sequence[str] | None) -> list[str] | None:
    """Returns the class names: the given ones, or those that the model knows, if it has as many outputs."""
    classes = model.outputs[0].shape[-1]
    if labels is not None:
        return metadata.check_labels(labels, classes)
    known = kresnet_config(model).get("labels") or []
    return metadata.check_labels(known, classes) if len(known) == classes else None


def _in_float32(model: keras.Model) -> keras.Model:
    """Returns the model, or a copy that computes in float32 if it computes in half precision, which phones do not."""
    half = any(layer.compute_dtype in ("float16", "bfloat16") for layer in all_layers(model))
    checks.require(
        not half or convert.is_rewritable(model),
        "A model that computes in half precision and has no graph cannot be exported; build it in float32",
        model=model.name,
    )
    return rebuild(convert.one_graph(model), in_float32)[1] if half else model


def _network(model: keras.Model, description: Mapping[str, Any]) -> dict[str, Any]:
    known = kresnet_config(model)
    facts = {
        name: known[name] for name in ("key", "changes", "weights", "crop_fraction", "interpolation") if known.get(name)
    }
    if "weights" in facts:
        facts["weights"] = Path(facts["weights"]).name  # the folders of this machine are nobody else's business
    if known.get("paper"):
        facts["paper"] = link(known["paper"])
    clash = [key for key in description if key in _RESERVED]
    checks.require(not clash, "`description` must not use names that the export fills in", description=clash)
    return {"network": model.name, **facts, "parameters": model.count_params(), **description}


def _colours(
    model: keras.Model, shape: tuple[int | None, int | None, int], wanted: tuple[float, float] | None
) -> dict[str, Any]:
    """Says what an app must feed: numbers of the range that the network scales, or (pixel - mean) / std if it scales
    nothing and the normalization that it was built with is known."""
    order = {3: "RGB", 1: "grey"}.get(shape[2], f"{shape[2]} channels")
    if wanted is not None:
        inside = "inside: feed pixels as they are" if wanted == PIXELS else "inside: feed numbers of this range"
        return {"channels": order, "range": [int(end) for end in wanted], "normalization": inside}
    spec = kresnet_config(model).get("spec", {})
    if shape[2] == len(spec.get("mean", ())) and not scales_input(model):
        mean, std = ([round(255 * value, 3) for value in spec[name]] for name in ("mean", "std"))
        return {"channels": order, "normalization": "(pixel - mean) / std", "mean": mean, "std": std}
    return {"channels": order, "normalization": "unknown: whatever the network was trained with"}
