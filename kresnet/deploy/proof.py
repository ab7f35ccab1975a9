"""What an exported file computes beside what its network computes: measured by running both."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import statistics
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from rich.progress import track

from kresnet import checks
from kresnet.data import samples
from kresnet.deploy import lint
from kresnet.evaluation.intervals import wilson
from kresnet.graph.memory import in_parts
from kresnet.graph.trace import nested, producer
from kresnet.inference.tflite_file import TFLiteModel, all_tensors_kept, dequantized, quantized

IMAGES = 64
OPEN_SIZE = 96  # pixels, of the synthetic images where the network leaves its input size open
Run = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Limits:
    """How far a file may be from its network.

    Attributes:
        tolerance: largest difference of numbers, in their deviations; at least 0, may be infinite.
        agreement: least share of images, in [0, 1], of which both choose the same class.
    """

    tolerance: float
    agreement: float

    def __post_init__(self):
        checks.require(self.tolerance >= 0, "`tolerance` must be at least 0", tolerance=self.tolerance)
        checks.number("agreement", self.agreement, 0, np.nextafter(1, 2), "a share in [0, 1]")

    def check(self, numbers: dict[str, Any], name: str, blame: Callable[[], str] = lambda: "") -> None:
        """Raises a ValueError that names the file, its numbers and what is to blame, if it is too far."""
        part = (numbers.get("logits") or numbers["outputs"])["largest_of_deviation"]
        share = numbers.get("top1_agreement", {"value": 1.0})["value"]
        wrong = []
        if not part <= self.tolerance:
            wrong.append(f"its numbers differ by up to {part:.2g} of their deviation (tolerance: {self.tolerance:g})")
        if share < self.agreement:
            images = numbers["images"]
            wrong.append(f"it chooses the network's class for {share:.1%} of {images} images, not {self.agreement:.1%}")
        if wrong:
            raise ValueError(f"{name} is not written: {' and '.join(wrong)}. {blame()}".rstrip())


def prove(content: bytes, model: keras.Model, data: Any = None, latency: bool = True) -> dict[str, Any]:
    """Runs the content of a .tflite and its network on the same images.

    Args:
        content: of the file.
        model: the network that it was made from.
        data: images, with labels or without, as `kresnet.samples.batches` takes them; all of them are run. None: 64
            synthetic images.
        latency: whether to measure that as well.

    Returns:
        What was measured, ready for JSON: size in bytes, operators, XNNPACK's partitions, differences of logits, top-1
        agreement and, with labels, the accuracies with their 95 % intervals, and milliseconds for one image.
    """
    file = TFLiteModel(content)
    numbers = {
        "size_bytes": len(content),
        "operators": dict(Counter(op.name for op in lint.operators(content)).most_common()),
        "xnnpack_partitions": lint.partitions(file),
        **compare(file, model, data, logits=TFLiteModel(with_logits(content)) if logits_model(model) else None),
    }
    return numbers | ({"latency_ms": _latency(content, model)} if latency else {})


def compare(file: Run, model: keras.Model, data: Any = None, *, logits: Run | None = None) -> dict[str, Any]:
    """Compares what a file and its network say of the same images.

    Args:
        file: gives the file's outputs for a batch of images.
        model, data: as for `prove`.
        logits: gives the file's numbers before its softmax or sigmoid. None: outputs are compared, not logits.

    Returns:
        Those of `prove`'s numbers that say how the two agree.

    Raises:
        ValueError: if the images do not fit, or the file's outputs are not finite.
    """
    shape, dtype = tuple(model.inputs[0].shape[1:]), model.inputs[0].dtype
    images_are = "synthetic, with the spectrum of photographs" if data is None else "given"
    data = samples.natural_images(IMAGES, tuple(size or OPEN_SIZE for size in shape)) if data is None else data
    network = (logits_model(model) if logits else None) or model
    split = in_parts(network)
    expected, got, top, labels = [], [], [], []
    for images, classes in track(samples.batches(data, shape, "verify"), "Comparing", transient=True):
        for part in split(images):
            expected.append(keras.ops.convert_to_numpy(network(part.astype(dtype), training=False)))
        outputs = file(images)
        if not np.isfinite(outputs).all():
            raise ValueError("The file gives numbers that are not finite.")
        top.append(outputs.argmax(-1))
        got.append(logits(images) if logits else outputs)
        labels.append(np.full(len(images), -1) if classes is None else classes)
    expected, got, top, labels = (np.concatenate(parts) for parts in (expected, got, top, labels))
    differences, deviation = np.abs(got - expected), float(expected.std())
    largest = float(differences.max())
    numbers = {
        "images": len(top),
        "images_are": images_are,
        "logits" if logits else "outputs": {
            "largest_difference": largest,
            "mean_difference": float(differences.mean()),
            "deviation": deviation,
            "largest_of_deviation": largest / deviation if deviation else math.inf if largest else 0.0,
        },
    }
    if expected.ndim == 2:  # classes, and not a feature map
        best = expected.argmax(-1)
        numbers["top1_agreement"] = _share(top == best)
        if (known := labels >= 0).any():
            right = {"keras": best == labels, "file": top == labels}
            numbers["accuracy"] = {side: _share(hits[known]) for side, hits in right.items()}
    return numbers


def layer_errors(content: bytes, model: keras.Model, images: np.ndarray) -> list[tuple[str, float, float]]:
    """Finds the layers that carry a file's error, by comparing tensors with the Keras layers that they are named after.

    Args:
        content: of the .tflite.
        model: the network as it was converted, so that its layers are the file's.
        images: (n, height, width, channels); a few are enough.

    Returns:
        (layer, error behind it, largest error of what goes in), by how much the layer adds. An error is the root mean
        square over a channel, in the channel's deviations and at most 1, averaged over the channels that vary.
    """
    interpreter = all_tensors_kept(content)
    detail = interpreter.get_input_details()[0]
    interpreter.resize_tensor_input(detail["index"], [1, *detail["shape"][1:]])
    interpreter.allocate_tensors()
    tensors = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    model = logits_model(model) or model
    names = [layer.name for layer in model.layers]
    parts: dict[str, list[lint.Operator]] = {}
    for op in lint.operators(content, names):
        if op.layer in names:
            parts.setdefault(op.layer, []).append(op)
    # Of several operators, such as a convolution and its sigmoid, the last gives what the layer gives.
    last = {layer: ops[-1].outputs[0] for layer, ops in parts.items()}
    reference = keras.Model(model.input, {layer: model.get_layer(layer).output for layer in parts})
    found: dict[int, list[float]] = {}
    for image in images[:, None]:
        interpreter.set_tensor(detail["index"], quantized(image, detail))
        interpreter.invoke()
        outputs = reference(image.astype(model.inputs[0].dtype), training=False)
        for layer, tensor in last.items():
            expected = keras.ops.convert_to_numpy(outputs[layer])
            if tuple(tensors[tensor]["shape"]) == expected.shape:
                got = dequantized(interpreter.get_tensor(tensor), tensors[tensor])
                found.setdefault(tensor, []).append(_error(got, expected))
    errors = {tensor: statistics.fmean(values) for tensor, values in found.items()}
    taken = {layer: [tensor for op in ops for tensor in op.inputs] for layer, ops in parts.items()}
    rows = [
        (layer, errors[tensor], max((errors.get(source, 0.0) for source in taken[layer]), default=0.0))
        for layer, tensor in last.items()
        if tensor in errors
    ]
    return sorted(rows, key=lambda row: row[1] - row[2], reverse=True)


def _error(got: np.ndarray, expected: np.ndarray) -> float:
    """As in `layer_errors`; of vectors, whose channels have one number each, over the whole."""
    axes = tuple(range(expected.ndim - 1)) if expected.size > expected.shape[-1] else None
    deviation, error = expected.std(axis=axes), np.sqrt(np.mean((got - expected) ** 2, axis=axes))
    varies = deviation > 0
    return float(np.mean(np.minimum(error[varies] / deviation[varies], 1))) if varies.any() else 0.0


def summary(numbers: dict[str, Any]) -> str:
    """Returns what `prove` or `compare` measured as lines of text."""
    differences = numbers.get("logits") or numbers["outputs"]
    lines = []
    if "size_bytes" in numbers:
        operators = ", ".join(f"{count} {name}" for name, count in numbers["operators"].items())
        lines.append(f"{numbers['size_bytes'] / 1e6:.1f} MB, {numbers['xnnpack_partitions']} XNNPACK partition(s)")
        lines.append(f"operators: {operators}")
    lines.append(
        f"{'logits' if 'logits' in numbers else 'outputs'} differ by at most {differences['largest_of_deviation']:.1e} "
        f"of their deviation, on {numbers['images']} images ({numbers['images_are']})"
    )
    shares = {"same class": numbers["top1_agreement"]} if "top1_agreement" in numbers else {}
    shares |= {f"accuracy of {side}": share for side, share in numbers.get("accuracy", {}).items()}
    for name, share in shares.items():
        low, high = share["interval95"]
        lines.append(f"{name}: {share['value']:.2%} ({low:.2%} to {high:.2%})")
    if "latency_ms" in numbers:
        lines.append(", ".join(f"{name.replace('_', ' ')}: {ms:.2f} ms" for name, ms in numbers["latency_ms"].items()))
    return "\n".join(lines)


def blame(content: bytes, model: keras.Model, data: Any = None) -> str:
    """Says in a sentence which layers carry a file's error; arguments as for `layer_errors`, images as for `prove`."""
    shape = tuple(model.inputs[0].shape[1:])
    if nested(model):
        return "Export the inner model by itself to see which layers carry the error."
    images = samples.natural_images(4, shape) if data is None else samples.draw(data, 4, shape, "verify")
    rows = [
        f"{layer} (from {before:.2g} to {behind:.2g})"
        for layer, behind, before in layer_errors(content, model, images)[:5]
    ]
    return f"The error, in deviations of a layer's channels, grows most in: {', '.join(rows)}."


def logits_model(model: keras.Model) -> keras.Model | None:
    """Returns a copy of the model that ends before its last layer's softmax or sigmoid; None if that has neither."""
    last = producer(model.outputs[0])
    if getattr(last, "activation", None) not in (keras.activations.softmax, keras.activations.sigmoid):
        return None
    linear = type(last).from_config({**last.get_config(), "activation": "linear"})
    outputs = linear(last.input)
    linear.set_weights(last.get_weights())
    return keras.Model(model.input, outputs)


def with_logits(content: bytes) -> bytes:
    """Returns the content of a .tflite that gives what its last softmax or sigmoid would take."""
    from ai_edge_litert.tools import flatbuffer_utils

    file = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    graph = file.subgraphs[0]
    makers = {op.outputs[0]: op for op in graph.operators}
    tensor = graph.outputs[0]
    while (op := makers[tensor]) and flatbuffer_utils.opcode_to_name(file, op.opcodeIndex) in (
        "SOFTMAX",
        "LOGISTIC",
        "DEQUANTIZE",
    ):
        tensor = op.inputs[0]
    graph.outputs, file.signatureDefs = [tensor], []
    return bytes(flatbuffer_utils.convert_object_to_bytearray(file))


def _share(hits: np.ndarray) -> dict[str, Any]:
    """Returns a proportion and its 95 % interval."""
    return {"value": float(hits.mean()), "interval95": list(wilson(int(hits.sum()), len(hits))), "images": len(hits)}


def _latency(content: bytes, model: keras.Model) -> dict[str, float]:
    """Returns medians of milliseconds for one image, run in turn; Keras's is `predict_on_batch` on its own threads."""
    shape = (1, *model.inputs[0].shape[1:])
    image = samples.natural_images(1, shape[1:]).astype(model.inputs[0].dtype)
    runs = {
        "1_thread": functools.partial(TFLiteModel(content, 1), image),
        "2_threads": functools.partial(TFLiteModel(content, 2), image),
        f"keras_{os.cpu_count()}_cores": functools.partial(model.predict_on_batch, image),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    begin = time.perf_counter()
    for turn in range(53):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
        if turn == 2:  # the first ones trace and warm up
            times, begin = {name: [] for name in runs}, time.perf_counter()
        elif turn > 7 and time.perf_counter() - begin > 5:
            break
    return {name: round(statistics.median(values) * 1e3, 3) for name, values in times.items()}
