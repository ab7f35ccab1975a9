"""SavedModels and ONNX files, opened as functions from images to what the network gives."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kresnet import checks
from kresnet.inference import preprocessing

# Operators of TensorFlow's that write to files, read any, or run Python. Those of a checkpoint every SavedModel has.
_PROGRAMS = {"WriteFile", "ReadFile", "MatchingFiles", "WholeFileReaderV2", "TextLineDataset", "TFRecordDatasetV2"}
_PROGRAMS |= {"PyFunc", "PyFuncStateless", "EagerPyFunc", "PrintV2", "WriteSummary", "CreateSummaryFileWriter"}
# The key under which an ONNX file's metadata holds what `export` says of it.
DESCRIPTION = "kresnet"


class Opened(NamedTuple):
    """A network that was opened.

    Attributes:
        run: turns images, (n, height, width, channels), of any real dtype, into outputs, (n, ...), both NumPy arrays.
        image_shape: (height, width, channels); height and width are None if they are not fixed.
        description: what the file itself holds of `export`'s description; None for nothing.
    """

    run: Callable[[np.ndarray], np.ndarray]
    image_shape: tuple[int | None, ...]
    description: dict[str, Any] | None = None


def open_saved_model(path: Path) -> Opened:
    """Opens the folder of a SavedModel with one input and one output, by its signature "serving_default".

    Raises:
        ValueError: if it is damaged, has other inputs or outputs, or reads or writes files other than its own.
    """
    import tensorflow as tf

    try:
        programs = _programs(path)
        loaded = None if programs else tf.saved_model.load(path)
    except Exception as error:  # OSError, and TensorFlow's and protobuf's own
        raise ValueError(f"{path} is not a complete SavedModel: {_line(error)} Received: {str(path)!r}") from None
    checks.require(
        not programs,
        "A SavedModel whose operators read or write files, or run Python, is not opened",
        operators=programs,
        model=str(path),
    )
    serve = getattr(loaded, "signatures", {}).get("serving_default")
    inputs = list(serve.structured_input_signature[1].items()) if serve else []
    checks.require(
        len(inputs) == 1 and len(serve.structured_outputs) == 1,
        'A SavedModel must have a signature "serving_default" of one input and one output',
        model=str(path),
    )
    ((name, spec),) = inputs

    def run(x: np.ndarray) -> np.ndarray:
        return next(iter(serve(**{name: tf.cast(x, spec.dtype)}).values())).numpy()

    run.keep = loaded  # which owns the variables
    return _opened(run, spec.shape.as_list() if spec.shape.rank else [], path)


def _programs(path: Path) -> list[str]:
    """Returns the operators of a SavedModel that no network needs: TensorFlow would run them, some as it loads."""
    from tensorflow.core.protobuf import saved_model_pb2

    content = saved_model_pb2.SavedModel()
    content.ParseFromString((path / "saved_model.pb").read_bytes())
    graphs = [meta.graph_def for meta in content.meta_graphs]
    nodes = [node for graph in graphs for part in (graph, *graph.library.function) for node in _nodes(part)]
    return sorted({node.op for node in nodes} & _PROGRAMS)


def _nodes(part: Any) -> Any:
    """Returns the nodes of a graph or of a function."""
    return part.node if hasattr(part, "node") else part.node_def


def open_onnx(path: Path) -> Opened:
    """Opens an ONNX file with one input and one output, for ONNX Runtime on the CPU.

    Raises:
        ValueError: if it is damaged, or has other inputs or outputs.
        ImportError: if the packages of `kresnet[onnx]` are missing.
    """
    with onnx_packages():
        import onnxruntime
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own
        raise ValueError(f"{path} is not a complete ONNX file: {_line(error)} Received: {str(path)!r}") from None
    inputs, outputs = session.get_inputs(), session.get_outputs()
    checks.require(
        len(inputs) == len(outputs) == 1,
        f"{path} must have one input and one output",
        inputs=[one.name for one in inputs],
        outputs=[one.name for one in outputs],
    )
    image = inputs[0]
    dtype = {"tensor(uint8)": "uint8", "tensor(float16)": "float16"}.get(image.type, "float32")
    network = _opened(lambda x: session.run(None, {image.name: x.astype(dtype)})[0], image.shape, path)
    text = session.get_modelmeta().custom_metadata_map.get(DESCRIPTION)
    return network._replace(description=None if text is None else preprocessing.parsed(text, f"{path}/{DESCRIPTION}"))


@contextlib.contextmanager
def onnx_packages() -> Iterator[None]:
    """Names the extra to install if an import within it fails."""
    try:
        yield
    except ImportError as error:
        raise ImportError(f"ONNX needs more packages: pip install 'kresnet[onnx]' ({error})") from None


def _opened(run: Callable[[np.ndarray], np.ndarray], shape: list[Any], path: Path) -> Opened:
    """Returns a network that takes any number of images, where it was written for a fixed number too."""
    sizes = [size if isinstance(size, int) and size > 0 else None for size in shape]
    checks.require(
        len(sizes) == 4 and sizes[3] is not None,
        f"{path} must take images of (batch, height, width, channels)",
        shape=tuple(shape),
    )
    checks.require(
        sizes[1] not in (1, 3) or sizes[3] in (1, 3), f"{path} takes images with channels first", shape=tuple(shape)
    )
    batch = sizes[0]

    def in_batches(x: np.ndarray) -> np.ndarray:
        padded = np.concatenate([x, np.repeat(x[-1:], -len(x) % batch, axis=0)])
        outputs = [run(padded[start : start + batch]) for start in range(0, len(padded), batch)]
        return np.concatenate(outputs)[: len(x)]

    in_batches.keep = run
    return Opened(in_batches if batch else run, tuple(sizes[1:]))


def _line(error: Exception) -> str:
    """Returns the first line of an error that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
