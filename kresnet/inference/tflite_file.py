"""Runs a .tflite image classifier with LiteRT, without TensorFlow and without Keras, and reads what the file holds."""

from __future__ import annotations

import functools
import io
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kresnet import checks
from kresnet.inference import preprocessing

# What Python's reader of archives raises.
_DAMAGE = (zipfile.BadZipFile, zlib.error, UnicodeDecodeError, EOFError, NotImplementedError, RuntimeError)
_APPENDED = 1 << 24  # bytes of a text in the archive: a few kilobytes may unpack to gigabytes


class Partition(NamedTuple):
    """A part of the graph that XNNPACK runs in one piece, by the indices of the tensors it takes and gives."""

    inputs: list[int]
    outputs: list[int]


class TFLiteFile:
    """A .tflite with one image input and one output, such as a classifier; called like a Keras model.

    The interpreter and the parsed graph are each made once, when they are first needed. A file is not safe to use from
    several threads at once: give each thread its own object, or use a lock.

    Attributes:
        content: the file's bytes.
        name: what error messages call the file: its path, or "the model".

    Args:
        model: path of a `.tflite`, or its bytes.
        threads: CPU threads that a run may use, at least 1.
        name: replaces the default of the attribute `name`.
        load: whether to load the file into LiteRT right away, so that a file it cannot run is refused here. False
            leaves that to the first use, which allows inspecting the graph of a file that does not load.

    Raises:
        ValueError: if the file cannot be read, LiteRT cannot load it, or it does not take one image and give one
            output.
    """

    def __init__(
        self, model: str | os.PathLike | bytes, threads: int = 1, *, name: str | None = None, load: bool = True
    ):
        self._threads = checks.integer("threads", threads)
        self.name = name or ("the model" if isinstance(model, bytes) else str(model))
        self.content = model if isinstance(model, bytes) else _read(Path(model))
        if load:
            _ = self.interpreter

    @functools.cached_property
    def interpreter(self) -> Any:
        """LiteRT's `Interpreter` of the file, its tensors allocated."""
        from ai_edge_litert.interpreter import Interpreter

        try:
            interpreter = Interpreter(model_content=self.content, num_threads=self._threads)
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            said = " ".join(str(error).split())
            raise ValueError(f"LiteRT cannot load {self.name}: {said} Received: model={self.name!r}") from None
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        one = len(inputs) == len(outputs) == 1 and len(inputs[0]["shape"]) == 4 and len(outputs[0]["shape"]) > 1
        checks.require(
            one,
            f"{self.name} is not an image classifier: it must have one input of (batch, height, width, channels) and "
            "one output of (batch, ..., classes)",
            inputs=[tuple(map(int, tensor["shape_signature"])) for tensor in inputs],
            outputs=[tuple(map(int, tensor["shape_signature"])) for tensor in outputs],
        )
        self._input, self._output = inputs[0], outputs[0]
        return interpreter

    @functools.cached_property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) in pixels."""
        return tuple(int(size) for size in self.interpreter.get_input_details()[0]["shape_signature"][1:])

    @functools.cached_property
    def batch_size(self) -> int | None:
        """Images in one run of the file; None if the file takes any number."""
        size = int(self.interpreter.get_input_details()[0]["shape_signature"][0])
        return size if size > 0 else None

    @functools.cached_property
    def classes(self) -> int:
        """Number of classes, which is the last dimension of the output."""
        return int(self.interpreter.get_output_details()[0]["shape"][-1])

    @functools.cached_property
    def labels(self) -> list[str] | None:
        """The class names in `labels.txt`, one a line, in the archive that metadata appends to the file; or None."""
        text = self._appended("labels.txt")
        return None if text is None else text.splitlines()

    @functools.cached_property
    def description(self) -> dict[str, Any] | None:
        """What `export` says of the file, in the same archive; None in a file of another program's."""
        text = self._appended(preprocessing.DESCRIPTION)
        return None if text is None else preprocessing.parsed(text, f"{self.name}/{preprocessing.DESCRIPTION}")

    def _appended(self, name: str) -> str | None:
        """Returns the text of an entry of the appended archive; None if there is none."""
        file = io.BytesIO(self.content)
        if not zipfile.is_zipfile(file):
            return None
        try:
            with zipfile.ZipFile(file) as archive:
                if name not in archive.namelist():
                    return None
                size = archive.getinfo(name).file_size
                checks.require(size <= _APPENDED, f"{name} inside {self.name} is too large", bytes=size)
                return archive.read(name).decode()
        except _DAMAGE as error:
            raise ValueError(f"{name} inside {self.name} is damaged: {error}. Received: model={self.name!r}") from None

    @functools.cached_property
    def graph(self) -> Any:
        """The parsed flatbuffer, a `ModelT` of LiteRT's schema, to be read only. Its weights are views of `content`."""
        from ai_edge_litert.tools import flatbuffer_utils

        return flatbuffer_utils.read_model_from_bytearray(self.content)

    @property
    def partitions(self) -> list[Partition]:
        """The parts of the graph that XNNPACK runs; a fast file has one."""
        # LiteRT has no public way to ask which operators a delegate has taken over.
        parts = [op for op in self.interpreter._get_ops_details() if op["op_name"] == "DELEGATE"]
        return [Partition(*([int(i) for i in part[side]] for side in ("inputs", "outputs"))) for part in parts]

    def keeping_all_tensors(self) -> Any:
        """Returns a new `Interpreter` of the file, not allocated yet, all of whose tensors can be read after a run.

        It runs LiteRT's own kernels, since XNNPACK does not keep intermediate tensors.
        """
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        return Interpreter(
            model_content=self.content,
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )

    def __call__(self, images: Any) -> np.ndarray:
        """Classifies images.

        Args:
            images: (n, height, width, channels), any n: RGB pixels, 0 to 255, of any real dtype; or, if the network
                was exported without preprocessing, whatever numbers it takes.

        Returns:
            The network's outputs, float32, (n, classes): probabilities if it ends in softmax or sigmoid. A network
            exported without its top returns feature maps or vectors.

        Raises:
            ValueError: if the images do not have the file's shape.
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


def quantized(values: np.ndarray, tensor: dict[str, Any]) -> np.ndarray:
    """Converts real numbers to the form in which a tensor of an interpreter stores them: rounded to steps and clipped.

    Args:
        values: any shape.
        tensor: details of the tensor, as `get_input_details` gives them.

    Returns:
        An array of the tensor's dtype.
    """
    dtype = np.dtype(tensor["dtype"])
    if dtype.kind == "f":
        return values.astype(dtype)
    scale, zero = tensor["quantization"]
    if values.dtype == dtype and (scale, zero) in ((0, 0), (1, 0)):
        return values  # pixels are stored as they are, and rounding them again takes as long as a small network runs
    if scale:
        values = values.astype("float32") / np.float32(scale) + zero
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)


def dequantized(values: np.ndarray, tensor: dict[str, Any]) -> np.ndarray:
    """Converts what a tensor of an interpreter stores to the real numbers it stands for, float32."""
    scale, zero = tensor["quantization"]
    values = values.astype("float32")
    return (values - zero) * np.float32(scale) if scale else values


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}. Received: model={str(path)!r}") from None
