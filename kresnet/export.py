"""Models out: SavedModel and TFLite."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import keras

from kresnet.grouped import native_grouped_convolution


def export(model: keras.Model, path: str | os.PathLike) -> Path:
    """Writes a model for deployment: a `.tflite` file, or else a folder that holds a SavedModel.

    A network built with preprocessing takes the same pixels there as here: RGB, 0 to 255.

    Args:
        model: a functional model of one input and one output, on the TensorFlow backend.
        path: where to write. Ending in `.tflite`: float32, built-in operators only, batches of 1, an input "image" and
            an output "probs". Else: a folder for a SavedModel, whose `serve` takes batches of any size.

    Returns:
        The path.

    Raises:
        ValueError: if Keras runs on another backend than TensorFlow, or a .tflite would need an input size that the
            model leaves open.
    """
    path = Path(path)
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "Exporting needs Keras's TensorFlow backend: save the model as .keras, set KERAS_BACKEND=tensorflow, "
            f"load it and export. Received: backend={keras.backend.backend()!r}"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with native_grouped_convolution():
        if path.suffix == ".tflite":
            _write(path, _tflite(model))
        else:
            model.export(path, format="tf_saved_model", verbose=False)
    return path


def _tflite(model: keras.Model) -> bytes:
    import tensorflow as tf

    shape = model.inputs[0].shape[1:]
    if None in shape:
        raise ValueError(
            f"A .tflite has one input size: build the model with a whole `input_shape`. Received: input_shape={shape}"
        )
    # Converting the model within another gives it a batch of 1, and names that do not depend on the network.
    image = keras.Input(shape, batch_size=1, name="image")
    converter = tf.lite.TFLiteConverter.from_keras_model(keras.Model(image, {"probs": model(image, training=False)}))
    return converter.convert()


def _write(path: Path, content: bytes) -> None:
    """Writes the whole file or, whatever happens meanwhile, leaves the one that is there."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
