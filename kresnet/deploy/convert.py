"""Keras model to the content of a .tflite."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from kresnet.data import samples
from kresnet.graph.trace import all_layers, last_operation
from kresnet.layers.fake_quantize import FakeQuantize
from kresnet.layers.grouped import native_grouped_convolution

QUANTIZATIONS = (None, "float16", "dynamic", "int8")


def to_tflite(
    model: keras.Model,
    *,
    quantize: str | None = None,
    io: str = "float32",
    batch_size: int | None = 1,
    calibration: np.ndarray | None = None,
) -> bytes:
    """Converts a model of one input and one output.

    The file has one signature, with an input "image" and an output "probs", or "logits" if the network ends without
    softmax or sigmoid.

    Args:
        model: a Keras model of known input size, on the TensorFlow backend.
        quantize: None (float32), "float16" (weights), "dynamic" (int8 weights) or "int8" (all integers, weights by
            channel).
        io: dtype of the input; "int8" is the output's too, which is float32 else.
        batch_size: images in a run; None for any number.
        calibration: for "int8": images whose ranges at each layer become the ranges of the integers, (n, height, width,
            channels), 0 to 255 where the network takes pixels. None for a network that holds its ranges itself.

    Returns:
        The file's content.
    """
    import tensorflow as tf

    integer = quantize == "int8"
    # Integer files get their input's dtype from the converter; in the others it is a cast.
    model = wrapped(model, "float32" if integer else io, batch_size)
    with native_grouped_convolution(), _quiet():
        converter = _converter(model)
    if quantize:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if integer:
        converter.inference_input_type = tf.dtypes.as_dtype(io)
        converter.inference_output_type = tf.int8 if io == "int8" else tf.float32
        if calibration is not None:
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            images = samples.full_range(calibration) if takes_pixels(model) else calibration
            converter.representative_dataset = lambda: ([image[None].astype("float32")] for image in images)
    with _quiet():
        return _finished(converter.convert(), output_name(model))


def _converter(model: keras.Model) -> Any:
    """Returns a converter of a `wrapped` model's graph, its weights to be frozen in memory.

    TensorFlow's `from_keras_model` writes a SavedModel and reads it again: the same file, in 1.3 to 3.5 times the
    time. So would its `from_concrete_functions` by default, and lose the variables of Keras 3 on that way.
    """
    import tensorflow as tf

    (image,) = model.inputs
    run = tf.function(lambda image: model(image, training=False))
    traced = run.get_concrete_function(tf.TensorSpec(image.shape, image.dtype, image.name))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced], model)
    converter.experimental_lower_to_saved_model = False
    return converter


def to_onnx(model: keras.Model, path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Writes a `wrapped` model as ONNX and loads it again.

    Returns:
        What ONNX Runtime makes of a batch of images.

    Raises:
        ImportError: if the packages of `kresnet[onnx]` are missing.
    """
    try:
        import onnxruntime
        import tf2onnx  # noqa: F401
    except ImportError as error:
        raise ImportError(f"ONNX needs more packages: pip install 'kresnet[onnx]' ({error})") from None
    import tensorflow as tf

    image = model.inputs[0]
    with native_grouped_convolution(), _quiet():
        model.export(
            path, format="onnx", verbose=False, input_signature=[tf.TensorSpec(image.shape, image.dtype, "image")]
        )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {session.get_inputs()[0].name: images.astype(image.dtype)})[0]


def wrapped(model: keras.Model, dtype: str, batch_size: int | None) -> keras.Model:
    """Returns the model with an input "image" of that dtype and batch, and an output "probs" or "logits"."""
    image = keras.Input(model.inputs[0].shape[1:], batch_size=batch_size, name="image", dtype=dtype)
    x = image if dtype == model.inputs[0].dtype else ops.cast(image, model.inputs[0].dtype)
    return keras.Model(image, {output_name(model): model(x, training=False)}, name=model.name)


def output_name(model: keras.Model) -> str:
    """Returns "probs" if the model ends in softmax or sigmoid, else "logits"."""
    last = last_operation(model)
    probable = getattr(last, "activation", None) in (keras.activations.softmax, keras.activations.sigmoid)
    return "probs" if probable or isinstance(last, keras.layers.Softmax) else "logits"


def takes_pixels(model: keras.Model) -> bool:
    """Tells whether the model scales its input itself, so that it takes pixels as they are, 0 to 255."""
    first = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)][:1]
    if first and isinstance(first[0], keras.Model):
        return takes_pixels(first[0])
    ranged = bool(first) and isinstance(first[0], FakeQuantize) and first[0].limits == (0, 255)
    return ranged or (bool(first) and isinstance(first[0], keras.layers.Rescaling | keras.layers.Normalization))


def warn_if_slow(model: keras.Model, quantize: str | None) -> None:
    """Warns of the forms that are known to be slower than float32, before one waits for them."""
    layers = all_layers(model)
    depthwise = [layer.name for layer in layers if isinstance(layer, keras.layers.DepthwiseConv2D)]
    if quantize == "dynamic" and depthwise:
        warnings.warn(
            f'quantize="dynamic" makes networks with depthwise convolutions slower (1.2 to 2.7 times float32), since '
            f'XNNPACK lacks them in that form: {_some(depthwise)}. "int8" and "float16" are not slower.',
            stacklevel=3,
        )
    hard = [layer.name for layer in layers if getattr(layer, "activation", None) is keras.activations.hard_silu]
    if quantize == "int8" and hard:
        warnings.warn(
            "int8 hard-swish is slow (3.7 times float32 for an EfficientNet-B0), since XNNPACK lacks it: "
            f"{_some(hard)}. Swish and ReLU6 are not.",
            stacklevel=3,
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _finished(content: bytes, output: str) -> bytes:
    """Moves operators of a converted file to where they cost least, and names its input and output."""
    from ai_edge_litert.tools import flatbuffer_utils

    file = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    graph = file.subgraphs[0]
    names = [flatbuffer_utils.opcode_to_name(file, op.opcodeIndex) for op in graph.operators]
    _activate_in_float(graph, names)
    _enter_through_float(graph, names)
    _cast_first(graph, names)
    _sign(file, output)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(file))


def _activate_in_float(graph: Any, names: list[str]) -> None:
    """An integer file's last activation computes in float32: first the logits become numbers, then those probabilities.

    The converter's order, the other way round, leaves 256 steps between probabilities 0 and 1, on which classes tie;
    and XNNPACK has no integer softmax.
    """
    from ai_edge_litert import schema_py_generated as schema

    if names[-2:] not in (["SOFTMAX", "DEQUANTIZE"], ["LOGISTIC", "DEQUANTIZE"]):
        return
    activation, dequantize = graph.operators[-2:]
    logits, probs, result = activation.inputs, activation.outputs, dequantize.outputs
    numbers = graph.tensors[probs[0]]
    numbers.type, numbers.quantization = schema.TensorType.FLOAT32, None
    dequantize.inputs, dequantize.outputs = logits, probs
    activation.inputs, activation.outputs = probs, result
    graph.operators[-2:], names[-2:] = [dequantize, activation], reversed(names[-2:])


def _enter_through_float(graph: Any, names: list[str]) -> None:
    """An integer file's uint8 pixels become int8 by way of float32: XNNPACK has both steps, and not the direct one."""
    from ai_edge_litert import schema_py_generated as schema

    first, pixels = graph.operators[0], graph.tensors[graph.inputs[0]]
    direct = names[0] == "QUANTIZE" and first.inputs[0] == graph.inputs[0] and pixels.type == schema.TensorType.UINT8
    if not direct or "DEQUANTIZE" not in names:
        return
    numbers = schema.TensorT()
    numbers.shape, numbers.shapeSignature = pixels.shape, pixels.shapeSignature
    numbers.name, numbers.type = pixels.name + b"_float", schema.TensorType.FLOAT32
    graph.tensors.append(numbers)
    dequantize = copy.copy(graph.operators[names.index("DEQUANTIZE")])
    dequantize.inputs, dequantize.outputs = first.inputs, [len(graph.tensors) - 1]
    first.inputs = dequantize.outputs
    graph.operators.insert(0, dequantize)
    names.insert(0, "DEQUANTIZE")


def _cast_first(graph: Any, names: list[str]) -> None:
    """A cast of the input goes first: behind operators that unpack float16 weights it splits XNNPACK's partition."""
    casts = [op for op, name in zip(graph.operators, names, strict=True) if name == "CAST"]
    first = [op for op in casts if op.inputs[0] == graph.inputs[0]]
    graph.operators = first + [op for op in graph.operators if op not in first]


def _sign(file: Any, output: str) -> None:
    """Gives a file its signature, by which apps name what they feed and read."""
    from ai_edge_litert import schema_py_generated as schema

    def entry(name: str, tensor: int) -> Any:
        mapped = schema.TensorMapT()
        mapped.name, mapped.tensorIndex = name, int(tensor)
        return mapped

    graph = file.subgraphs[0]
    graph.tensors[graph.outputs[0]].name = output
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    signature.inputs, signature.outputs = [entry("image", graph.inputs[0])], [entry(output, graph.outputs[0])]
    file.signatureDefs = [signature]


@contextlib.contextmanager
def _quiet() -> Any:
    """Keeps Keras's and the converters' remarks about their intermediate forms from the console."""
    import tensorflow as tf

    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        with contextlib.redirect_stdout(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
