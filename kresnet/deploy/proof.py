"""Proves that an exported file computes what its network computes, by running both on the same images."""

from __future__ import annotations

import functools
import itertools
import math
import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from kresnet.data import samples
from kresnet.deploy import lint
from kresnet.evaluation.intervals import wilson
from kresnet.graph.inputs import PIXELS, input_range
from kresnet.graph.memory import at_once
from kresnet.graph.ranges import RangeCheck
from kresnet.graph.trace import functional, input_of, producer
from kresnet.inference.tflite_file import TFLiteFile
from kresnet.progress import track

IMAGES = 16
# Beside the file's interpreters, the network runs on a fraction of the images that fit in memory elsewhere.
MEMORY_SHARE = 1 / 2
_AFTER_LOGITS = ("SOFTMAX", "LOGISTIC", "DEQUANTIZE")
OPEN_SIZE = 96  # pixels per side of the synthetic images for a network without a fixed input size
Run = Callable[[np.ndarray], np.ndarray]


def prove(file: TFLiteFile, model: keras.Model, data: Any = None, latency: bool = True) -> dict[str, Any]:
    """Runs a .tflite and its network on the same images.

    Args:
        file: what was exported.
        model: the network that it was made from.
        data: images, with or without labels, in any form that `kresnet.data.samples.batches` takes; all of them are
            run. None: 16 synthetic images.
        latency: whether to measure that as well.

    Returns:
        What was measured, ready for JSON: size in bytes, operators, XNNPACK's partitions, differences of logits, top-1
        agreement and, with labels, the accuracies with their 95 % confidence intervals, and milliseconds per image.
    """
    logits = with_logits(file) if logits_model(model) else None
    numbers = {
        "size_bytes": len(file.content),
        "operators": dict(Counter(op.name for op in lint.operators(file)).most_common()),
        "xnnpack_partitions": len(file.partitions),
        **compare(file, model, data, logits=logits),
    }
    return numbers | ({"latency_ms": _latency(file, model)} if latency else {})


def compare(file: Run, model: keras.Model, data: Any = None, *, logits: Run | None = None) -> dict[str, Any]:
    """Compares the outputs of a file and its network for the same images.

    Args:
        file: gives the file's outputs for a batch of images.
        model, data: as for `prove`.
        logits: gives what the file's last softmax or sigmoid takes. None: outputs are compared instead of logits.

    Returns:
        Those of `prove`'s numbers that say how well the two agree.

    Raises:
        ValueError: if the images do not fit, or the file's outputs are not finite.
    """
    shape, dtype = tuple(model.inputs[0].shape[1:]), model.inputs[0].dtype
    images_are = "synthetic, with the spectrum of photographs" if data is None else "given"
    wanted = input_range(model)
    in_range = RangeCheck(None if data is None else wanted, "verify")
    data = _synthetic(shape, wanted or PIXELS) if data is None else data
    network = compared(model, logits is not None)
    images_at_once = functools.cache(functools.partial(at_once, network))
    expected, got, top, labels = [], [], [], []
    for images, classes in track(samples.batches(data, shape, "verify"), "Comparing"):
        in_range(images)
        step = max(1, int(images_at_once(images.shape[1:]) * MEMORY_SHARE))
        for start in range(0, len(images), step):
            part = images[start : start + step]
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


def _synthetic(shape: tuple[int | None, ...], wanted: tuple[float, float]) -> Iterator[np.ndarray]:
    """Yields the synthetic images in small batches, since making one image takes as much memory as 100 images."""
    for seed in range(IMAGES // 8):
        images = samples.natural_images(8, tuple(size or OPEN_SIZE for size in shape), seed)
        low, high = wanted
        yield images if wanted == PIXELS else np.float32(low + images / 255 * (high - low))


def some_images(model: keras.Model, data: Any, count: int) -> np.ndarray:
    """Returns a few of the images that `prove` runs, (n, height, width, channels), n at most `count`."""
    shape = tuple(model.inputs[0].shape[1:])
    if data is not None:
        return samples.draw(data, count, shape, "verify")
    batches = itertools.islice(_synthetic(shape, input_range(model) or PIXELS), -(-count // 8))
    return np.concatenate(list(batches))[:count]


def summary(numbers: dict[str, Any]) -> str:
    """Formats what `prove` or `compare` measured as lines of text."""
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
    if "rounding" in numbers:
        causes = numbers["rounding"]
        lines.append(
            f"rounding alone makes up to {causes['weights'] + causes['sums']:.1e} of that: "
            f"the file is within {causes['file']:.1e} of what it should compute"
        )
    shares = {"same class": numbers["top1_agreement"]} if "top1_agreement" in numbers else {}
    shares |= {f"accuracy of {side}": share for side, share in numbers.get("accuracy", {}).items()}
    for name, share in shares.items():
        low, high = share["interval95"]
        lines.append(f"{name}: {share['value']:.2%} ({low:.2%} to {high:.2%})")
    if "latency_ms" in numbers:
        lines.append(", ".join(f"{name.replace('_', ' ')}: {ms:.2f} ms" for name, ms in numbers["latency_ms"].items()))
    return "\n".join(lines)


def compared(model: keras.Model, logits: bool) -> keras.Model:
    """Returns the network that gives what a file's logits, or else its outputs, are compared with."""
    return (logits_model(model) if logits else None) or model


def logits_model(model: keras.Model) -> keras.Model | None:
    """Returns a copy of the model without its last layer's softmax or sigmoid; None if that layer has neither."""
    model = functional(model)
    last = producer(model.outputs[0])
    if getattr(last, "activation", None) not in (keras.activations.softmax, keras.activations.sigmoid):
        return None
    linear = type(last).from_config({**last.get_config(), "activation": "linear"})
    outputs = linear(input_of(model.outputs[0]))
    linear.set_weights(last.get_weights())
    return keras.Model(model.input, outputs)


def with_logits(file: TFLiteFile) -> TFLiteFile:
    """Returns a copy of a .tflite whose output is what the last softmax or sigmoid takes."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    graph = file.graph.subgraphs[0]
    makers = {op.outputs[0]: op for op in graph.operators}
    tensor = graph.outputs[0]
    while flatbuffer_utils.opcode_to_name(file.graph, makers[tensor].opcodeIndex) in _AFTER_LOGITS:
        tensor = makers[tensor].inputs[0]
    content = bytearray(file.content)
    # The array is a view: a single index of the copy changes, and the weights need not be packed again.
    schema.Model.GetRootAs(content).Subgraphs(0).OutputsAsNumpy()[0] = tensor
    return TFLiteFile(bytes(content), name=file.name)


def _share(hits: np.ndarray) -> dict[str, Any]:
    """Returns the fraction of hits and its 95 % confidence interval."""
    return {"value": float(hits.mean()), "interval95": list(wilson(int(hits.sum()), len(hits))), "images": len(hits)}


def _latency(file: TFLiteFile, model: keras.Model) -> dict[str, float]:
    """Returns median milliseconds for one image: the file on 1 and 2 threads, and Keras's `predict_on_batch`, in turn.

    Args:
        file: on 1 thread.
        model: the network that it was made from, which runs on as many threads as TensorFlow chooses.
    """
    shape = (1, *model.inputs[0].shape[1:])
    image = samples.natural_images(1, shape[1:]).astype(model.inputs[0].dtype)
    runs = {
        "1_thread": functools.partial(file, image),
        "2_threads": functools.partial(TFLiteFile(file.content, 2), image),
        f"keras_{os.cpu_count()}_cores": functools.partial(model.predict_on_batch, image),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    begin = time.perf_counter()
    for turn in range(53):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
        if turn == 2:  # the first turns trace and warm up
            times, begin = {name: [] for name in runs}, time.perf_counter()
        elif turn > 7 and time.perf_counter() - begin > 5:
            break
    return {name: round(statistics.median(values) * 1e3, 3) for name, values in times.items()}
