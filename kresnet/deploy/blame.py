"""Finds the layers that cause the difference between a .tflite and its network."""

from __future__ import annotations

import statistics
from typing import Any

import keras
import numpy as np

from kresnet.deploy import lint, proof
from kresnet.graph.trace import nested
from kresnet.inference.tflite_file import TFLiteFile, dequantized, quantized


def worst_layers(file: TFLiteFile, model: keras.Model, data: Any = None) -> str:
    """Says in a sentence which layers cause a file's error.

    Args:
        file, model: as for `layer_errors`.
        data: images, as for `proof.prove`.
    """
    if nested(model):
        return "To see which layers cause the error, export the inner model by itself."
    images = proof.some_images(model, data, 4)
    rows = [
        f"{layer} (from {before:.2g} to {after:.2g})" for layer, after, before in layer_errors(file, model, images)[:5]
    ]
    return f"The error, in deviations of a layer's channels, grows most in: {', '.join(rows)}."


def layer_errors(file: TFLiteFile, model: keras.Model, images: np.ndarray) -> list[tuple[str, float, float]]:
    """Finds the layers that cause a file's error, by comparing its tensors with the Keras layers they are named after.

    Args:
        file: a .tflite.
        model: the network in the form that was converted, whose layers are the file's.
        images: (n, height, width, channels); a few are enough.

    Returns:
        (layer, error of its output, largest error of its inputs), sorted by how much the layer adds. An error is the
        root mean square over a channel, in standard deviations of the channel and at most 1, averaged over the channels
        that vary.
    """
    interpreter = file.keeping_all_tensors()
    detail = interpreter.get_input_details()[0]
    interpreter.resize_tensor_input(detail["index"], [1, *detail["shape"][1:]])
    interpreter.allocate_tensors()
    tensors = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    model = proof.logits_model(model) or model
    names = [layer.name for layer in model.layers]
    parts: dict[str, list[lint.Operator]] = {}
    for op in lint.operators(file, names):
        if op.layer in names:
            parts.setdefault(op.layer, []).append(op)
    # If a layer is several operators, such as a convolution and its sigmoid, the last one gives the layer's output.
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
    """Returns the error of an output, as in `layer_errors`; over all of a vector, whose channels are single numbers."""
    axes = tuple(range(expected.ndim - 1)) if expected.size > expected.shape[-1] else None
    deviation, error = expected.std(axis=axes), np.sqrt(np.mean((got - expected) ** 2, axis=axes))
    varies = deviation > 0
    return float(np.mean(np.minimum(error[varies] / deviation[varies], 1))) if varies.any() else 0.0
