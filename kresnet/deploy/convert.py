"""Converts a Keras model to the bytes of a .tflite, or to ONNX."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
import tempfile
import warnings
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from kresnet.deploy.finishing import finished
from kresnet.deploy.lowering import is_hard_swish_layer, lower
from kresnet.deploy.metadata import Metadata
from kresnet.deploy.quantize import is_quantize_aware, with_rounded_weights
from kresnet.graph.branches import reparameterize
from kresnet.graph.outputs import output_kind
from kresnet.graph.rebuild import flattened
from kresnet.graph.trace import all_layers, functional, is_functional
from kresnet.inference.exported import DESCRIPTION, onnx_packages
from kresnet.layers.grouped import native_grouped_convolution

QUANTIZATIONS = (None, "float16", "dynamic", "int8")
LARGE = 10_000_000  # parameters from which a conversion spares memory, at the expense of time


def to_tflite(
    model: keras.Model,
    *,
    quantize: str | None = None,
    io: str = "float32",
    batch_size: int | None = 1,
    calibration: np.ndarray | None = None,
    metadata: Metadata | None = None,
) -> bytes:
    """Converts a model with one input and one output.

    The file has one signature, with an input "image" and an output "probs", or "logits" if the network does not end
    in softmax or sigmoid.

    Args:
        model: a Keras model of known input size, on the TensorFlow backend.
        quantize: None (float32), "float16" (weights), "dynamic" (int8 weights) or "int8" (all integers, weights
            quantized per channel).
        io: dtype of the input. With "int8" the output is int8 too; otherwise it is float32.
        batch_size: images in a run; None for any number.
        calibration: for "int8": images whose ranges at each layer become the ranges of the integers, (n, height, width,
            channels). None for a network that stores its own ranges.
        metadata: what the file says about itself, without the archive that `Metadata.append_to` adds.

    Returns:
        The file's bytes.
    """
    import tensorflow as tf

    integer, output = quantize == "int8", output_name(model)
    large = model.count_params() >= LARGE
    with tempfile.TemporaryDirectory() as folder, _quiet():
        # Integer files get their input's dtype from the converter; in the others it is a cast.
        traced, variables = _trace(wrapped(model, "float32" if integer else io, batch_size))
        converter = _converter_on_disk(traced, variables, folder) if large else _converter(traced, model)
        del model, traced, variables
        if quantize:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if quantize == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if integer:
            converter.inference_input_type = tf.dtypes.as_dtype(io)
            converter.inference_output_type = tf.int8 if io == "int8" else tf.float32
            if calibration is not None:
                converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
                converter.representative_dataset = lambda: ([image[None].astype("float32")] for image in calibration)
        if large:
            release_memory()
        content = finished(converter.convert(), output, metadata)
    del converter
    if large:
        release_memory()
    return content


def _trace(model: keras.Model) -> tuple[Any, list[Any]]:
    """Returns the inference function of a `wrapped` model as TensorFlow's `ConcreteFunction`, and its variables."""
    import tensorflow as tf

    (image,) = model.inputs
    run = tf.function(lambda image: model(image, training=False))
    with native_grouped_convolution():
        traced = run.get_concrete_function(tf.TensorSpec(image.shape, image.dtype, image.name))
    return traced, [variable.value for variable in model.variables]


def _converter(traced: Any, model: keras.Model) -> Any:
    """Returns a converter that freezes a traced function's weights in memory.

    TensorFlow's `from_keras_model` has Keras write a SavedModel and reads it again, for the same file. So does
    `from_concrete_functions` by default, which loses the variables of Keras 3 on the way.
    """
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced], model)
    converter.experimental_lower_to_saved_model = False
    return converter


def _converter_on_disk(traced: Any, variables: list[Any], folder: str) -> Any:
    """Returns a converter that reads a traced function's weights from a SavedModel in the folder.

    For the same file it takes seconds more, of which a large network saves as many elsewhere; and it does without
    several copies of the weights that freezing them holds, a gigabyte for a ResNet-50.
    """
    import tensorflow as tf

    module = tf.Module()
    module.weights = variables  # TensorFlow does not find those of Keras 3 by itself
    tf.saved_model.save(module, folder, signatures=traced)
    return tf.lite.TFLiteConverter.from_saved_model(folder)


def release_memory() -> None:
    """Returns freed memory to the operating system; takes up to a second.

    Keras models are held by reference cycles until Python collects them. And glibc keeps what was freed for later
    allocations of the same thread: after TensorFlow's conversion, more than a gigabyte that the Keras model, which runs
    next on other threads, cannot use.
    """
    gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):  # another C library than glibc
            ctypes.CDLL(None).malloc_trim(0)


def prepared(model: keras.Model, integer: bool = False) -> keras.Model:
    """Returns a model that computes the same with fewer and faster operators.

    Args:
        model: left unchanged.
        integer: whether it is to be quantized to int8.

    Returns:
        A copy that is `fused` and written in XNNPACK's operators (`lower`); of a model that was made by
        `quantize_aware`, which fixes the operators, one with rounded weights. A model that is not `is_rewritable` is
        returned as it is.
    """
    merged = fused(model)
    if merged is model:
        return model
    return with_rounded_weights(merged) if is_quantize_aware(model) else lower(merged, integer=integer)


def fused(model: keras.Model) -> keras.Model:
    """Returns a copy with batch norms folded and convolutions side by side merged, the model if not `is_rewritable`."""
    return reparameterize(model) if is_rewritable(model) else model


def is_rewritable(model: keras.Model) -> bool:
    """Tells whether the model's graph can be rewritten: it is functional, and so are the models in it."""
    model = functional(model)
    inner = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    return is_functional(model) and all(map(is_rewritable, inner))


def one_graph(model: keras.Model) -> keras.Model:
    """Returns an `is_rewritable` model as a functional one that holds no models."""
    return flattened(functional(model))


def to_onnx(model: keras.Model, path: Path, description: str) -> None:
    """Writes a `wrapped` model as ONNX.

    Args:
        model: the model.
        path: of the new file.
        description: what the file says about itself to kresnet's readers.

    Raises:
        ImportError: if the packages of `kresnet[onnx]` are missing.
    """
    with onnx_packages():
        import onnx
        import tf2onnx  # noqa: F401
    import tensorflow as tf

    image = model.inputs[0]
    with native_grouped_convolution(), _quiet():
        model.export(
            path, format="onnx", verbose=False, input_signature=[tf.TensorSpec(image.shape, image.dtype, "image")]
        )
    more = onnx.ModelProto(metadata_props=[onnx.StringStringEntryProto(key=DESCRIPTION, value=description)])
    with path.open("ab") as file:  # messages in a row are read as one, and the network need not be read again
        file.write(more.SerializeToString())


def wrapped(model: keras.Model, dtype: str, batch_size: int | None) -> keras.Model:
    """Returns the model with an input "image" of that dtype and batch size, and an output "probs" or "logits"."""
    image = keras.Input(model.inputs[0].shape[1:], batch_size=batch_size, name="image", dtype=dtype)
    x = image if dtype == model.inputs[0].dtype else ops.cast(image, model.inputs[0].dtype)
    return keras.Model(image, {output_name(model): model(x, training=False)}, name=model.name)


def output_name(model: keras.Model) -> str:
    """Returns "probs" if the model ends in softmax or sigmoid, else "logits"."""
    return "logits" if output_kind(model) == "logits" else "probs"


def warn_if_slow(model: keras.Model, quantize: str | None, stacklevel: int = 2) -> None:
    """Warns if the quantized file is known to be slower than float32, before anyone waits for it.

    Args:
        model: a Keras model.
        quantize: as in `to_tflite`.
        stacklevel: as in `warnings.warn`: 2 for the caller.
    """
    layers = all_layers(model)
    depthwise = [layer.name for layer in layers if isinstance(layer, keras.layers.DepthwiseConv2D)]
    if quantize == "dynamic" and depthwise:
        warnings.warn(
            'quantize="dynamic" makes networks with depthwise convolutions slower (1.2 to 2.7 times the time of '
            f'float32), since XNNPACK lacks them in that form: {_some(depthwise)}. "int8" and "float16" are fast.',
            stacklevel=stacklevel,
        )
    hard = [layer for layer in layers if getattr(layer, "activation", None) is keras.activations.hard_silu]
    if is_rewritable(model):
        hard = [layer for layer in hard if not is_hard_swish_layer(layer)]
    if quantize == "int8" and hard:
        warnings.warn(
            "int8 hard-swish is slow (3.7 times the time of float32 for an EfficientNet-B0), since XNNPACK lacks it: "
            f"{_some([layer.name for layer in hard])}. As a layer of its own in a functional model it is not.",
            stacklevel=stacklevel,
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what Keras and the converters print about their intermediate forms off the console."""
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
