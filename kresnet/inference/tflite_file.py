"""Runs a .tflite image classifier with LiteRT, without TensorFlow and without Keras."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from kresnet import checks


class TFLiteModel:
    """A .tflite of one image input and one output, such as a classifier, which is called as a Keras model is.

    Not for several threads at once: one object for each, or a lock.

    Attributes:
        image_shape: (height, width, channels) in pixels.
        batch_size: images in one run of the file; None where the file takes any number.
        classes: classes that it tells apart (its output's last size).
        labels: the classes' names from the file's `labels.txt`, or None.
        interpreter: LiteRT's own `Interpreter`.
        name: what errors call the model: its path, or "the model".

    Args:
        model: path of a `.tflite`, or its content.
        threads: CPU threads that a run may use, at least 1.

    Raises:
        ValueError: if there is no such file, LiteRT cannot load it, or it does not take one image and give one output.
    """

    def __init__(self, model: str | os.PathLike | bytes, threads: int = 1):
        from ai_edge_litert.interpreter import Interpreter

        threads = checks.integer("threads", threads)
        self.name = "the model" if isinstance(model, bytes) else str(model)
        content = model if isinstance(model, bytes) else self._read(Path(model))
        try:
            self.interpreter = Interpreter(model_content=content, num_threads=threads)
            self.interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"LiteRT cannot load {self.name}: {error}") from None
        inputs, outputs = self.interpreter.get_input_details(), self.interpreter.get_output_details()
        one = len(inputs) == len(outputs) == 1 and len(inputs[0]["shape"]) == 4 and len(outputs[0]["shape"]) > 1
        checks.require(
            one,
            f"{self.name} is no image classifier: one input of (batch, height, width, channels) and one output of "
            "(batch, ..., classes) are needed",
            inputs=[tuple(map(int, tensor["shape_signature"])) for tensor in inputs],
            outputs=[tuple(map(int, tensor["shape_signature"])) for tensor in outputs],
        )
        self._input, self._output = inputs[0], outputs[0]
        batch, *shape = (int(size) for size in inputs[0]["shape_signature"])
        self.image_shape, self.batch_size = tuple(shape), batch if batch > 0 else None
        self.classes = int(self._output["shape"][-1])
        self.labels = _labels(content)

    def __call__(self, images: Any) -> np.ndarray:
        """Classifies images.

        Args:
            images: (n, height, width, channels), any n: RGB pixels, 0 to 255, of any real dtype; or whatever numbers
                the network takes that was exported without preprocessing.

        Returns:
            The network's outputs, float32, (n, classes): probabilities if it ends in softmax or sigmoid. Of a network
            without its top, whatever it gives.

        Raises:
            ValueError: if the images have another shape than the file's.
        """
        images = np.asarray(images)
        checks.require(
            images.ndim == 4 and images.shape[1:] == self.image_shape,
            f"{self.name} takes images of (n, {', '.join(map(str, self.image_shape))})",
            shape=images.shape,
        )
        step = self.batch_size or max(len(images), 1)
        outputs = [self._run(images[start : start + step]) for start in range(0, len(images), step)]
        return np.concatenate([np.empty((0, *self._output["shape"][1:]), "float32"), *outputs])

    def _run(self, images: np.ndarray) -> np.ndarray:
        count, batch = len(images), self.batch_size or len(images)
        images = np.concatenate([images, np.repeat(images[-1:], batch - count, axis=0)])
        index = self._input["index"]
        if tuple(self._input["shape"]) != images.shape:
            self.interpreter.resize_tensor_input(index, images.shape, strict=True)
            self.interpreter.allocate_tensors()
            self._input = self.interpreter.get_input_details()[0]
        self.interpreter.set_tensor(index, quantized(images, self._input))
        self.interpreter.invoke()
        return dequantized(self.interpreter.get_tensor(self._output["index"]), self._output)[:count]

    @staticmethod
    def _read(path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror}. Received: model={str(path)!r}") from None


def all_tensors_kept(content: bytes) -> Any:
    """Returns LiteRT's `Interpreter` of a .tflite, not allocated, whose tensors can all be read behind a run.

    It runs LiteRT's own kernels, since XNNPACK's keep nothing between them.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    return Interpreter(
        model_content=content,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )


def quantized(values: np.ndarray, tensor: dict[str, Any]) -> np.ndarray:
    """Returns real numbers as a tensor of the interpreter's stores them: rounded to its scale, and clipped."""
    dtype = np.dtype(tensor["dtype"])
    if dtype.kind == "f":
        return values.astype(dtype)
    scale, zero = tensor["quantization"]
    if values.dtype == dtype and (scale, zero) in ((0, 0), (1, 0)):
        return values  # pixels as they are: rounding them anew takes as long as a small network
    if scale:
        values = values.astype("float32") / np.float32(scale) + zero
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)


def dequantized(values: np.ndarray, tensor: dict[str, Any]) -> np.ndarray:
    """Returns the real numbers that a tensor of the interpreter's stands for, float32."""
    scale, zero = tensor["quantization"]
    values = values.astype("float32")
    return (values - zero) * np.float32(scale) if scale else values


def _labels(content: bytes) -> list[str] | None:
    """Reads `labels.txt`, one class a line, from the archive that a .tflite's metadata appends to it."""
    file = io.BytesIO(content)
    if not zipfile.is_zipfile(file):
        return None
    with zipfile.ZipFile(file) as archive:
        if "labels.txt" not in archive.namelist():
            return None
        return archive.read("labels.txt").decode().splitlines()
