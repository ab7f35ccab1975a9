"""What a network costs: multiply-adds, parameters, memory and receptive field, layer by layer."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import math
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras.src.backend.common import global_state

from kresnet import checks
from kresnet.graph.trace import Call, trace

_CONVOLUTIONS = (
    *(keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D),
    *(keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D),
    *(keras.layers.SeparableConv1D, keras.layers.SeparableConv2D),
)
_TRANSPOSED = (keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose)
_POOLINGS = (keras.layers.MaxPooling2D, keras.layers.AveragePooling2D)
_SEES_ALL = (keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D, keras.layers.Flatten)
# In inference these pass their input on, without writing memory.
_VIEWS = (keras.layers.Dropout, keras.layers.SpatialDropout2D, keras.layers.Reshape, keras.layers.Flatten)
_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}


@dataclasses.dataclass(frozen=True)
class LayerCost:
    """What one call of a layer costs. The second call of a shared layer counts no parameters."""

    name: str
    kind: str  # the layer's class
    output_shape: tuple[int, ...]  # without the batch
    params: int  # trainable or not
    macs: int  # multiply-adds for one image; FLOPs are twice that
    activation_bytes: int  # of the output, for the whole batch
    receptive_field: tuple[int, int] | None  # height and width in input pixels; None where there is no image
    share: float  # of the network's MACs, in [0, 1]


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a model costs; printing it gives a table."""

    rows: list[LayerCost]
    params: int  # trainable or not
    trainable_params: int
    macs: int  # multiply-adds for one image
    peak_bytes: int  # the activations that inference must hold at once
    training_bytes: int  # an estimate: all activations and their gradients, parameters, their gradients and momentum
    batch_size: int
    dtype: str

    def table(self):
        """Returns the rows and totals as a `rich.table.Table`."""
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE, show_footer=True)
        columns = ("layer", "class", "output", "parameters", "MACs", "activation bytes", "receptive field", "share")
        totals = ("total", "", "", f"{self.params:,}", f"{self.macs:,}", "", "", "")
        for i, (column, total) in enumerate(zip(columns, totals, strict=True)):
            table.add_column(column, total, justify="left" if i < 3 else "right", no_wrap=True)
        for row in self.rows:
            shape, field = "x".join(map(str, row.output_shape)), _field_text(row.receptive_field)
            numbers = (f"{value:,}" for value in (row.params, row.macs, row.activation_bytes))
            table.add_row(row.name, row.kind, shape, *numbers, field, f"{row.share:.1%}")
        return table

    def summary(self) -> str:
        """Returns the totals in two lines."""
        mib = 2**20
        return (
            f"{self.macs / 1e9:.3f} GMACs an image ({2 * self.macs / 1e9:.3f} GFLOPs), {self.params:,} parameters, "
            f"{self.trainable_params:,} of them trainable\n"
            f"batch of {self.batch_size} in {self.dtype}: {self.peak_bytes / mib:.1f} MiB of activations at the peak "
            f"of inference, about {self.training_bytes / mib:.0f} MiB in training"
        )

    def to_csv(self, path: str | os.PathLike) -> None:
        """Writes the rows to a CSV file, a column for each field of `LayerCost`."""
        with open(path, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(field.name for field in dataclasses.fields(LayerCost))
            for row in self.rows:
                shape, field = "x".join(map(str, row.output_shape)), _field_text(row.receptive_field)
                cells = row.name, row.kind, shape, row.params, row.macs, row.activation_bytes, field, row.share
                writer.writerow(cells)

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=200, record=True, file=open(os.devnull, "w"))  # noqa: SIM115 (rich closes nothing)
        with console.file:
            console.print(self.table())
        return console.export_text() + self.summary()


def _field_text(field: tuple[int, int] | None) -> str:
    return "" if field is None else str(field[0]) if field[0] == field[1] else f"{field[0]}x{field[1]}"


@contextlib.contextmanager
def without_weights() -> Iterator[None]:
    """While it is open, networks are built to be counted only: their weights are not drawn, which takes seconds."""
    with keras.StatelessScope(initialize_variables=False):
        yield
    # Keras would draw them at the end of the next scope, wherever it opens one.
    global_state.set_global_attribute("uninitialized_variables", [])


def cost(
    model: keras.Model,
    input_shape: Sequence[int] | None = None,
    batch_size: int = 1,
    dtype: str = "float32",
) -> Cost:
    """Counts what a Keras functional model costs, ours or not.

    Args:
        model: a functional (or built sequential) model; the layers of nested models are counted one by one.
        input_shape: (height, width, channels), for a model of one input whose size is not fixed.
        batch_size: images in a batch, at least 1; for the bytes.
        dtype: of activations and weights, such as "bfloat16"; for the bytes.

    Returns:
        Rows and totals. Convolutions and dense layers have MACs (biases and elementwise layers do not count, as is
        usual). Peak memory is that of running the layers in order and freeing each tensor after its last use, without
        operations in place. The receptive field is what an output depends on: the whole image after a global pooling,
        and therefore also after squeeze-and-excitation.

    Raises:
        ValueError: if the model is not functional, or its input size is neither fixed nor given.
    """
    checks.integer("batch_size", batch_size)
    size = _BYTES[checks.choice("dtype", dtype, _BYTES)]
    shapes = [tuple(tensor.shape[1:]) for tensor in getattr(model, "inputs", None) or []]
    if input_shape is not None:
        checks.require(len(shapes) == 1, "`input_shape` is for a model of one input", inputs=len(shapes))
        shapes = [tuple(input_shape)]
    for shape in shapes:
        checks.require(None not in shape, "The input size must be known: give `input_shape`", input_shape=shape)
    graph = trace(model, shapes)
    inputs, outputs, calls = graph.inputs, graph.outputs, graph.calls
    fields = _receptive_fields(inputs, calls)
    macs = [_macs(call) for call in calls]
    rows, seen, total = [], set(), sum(macs)
    for call, count in zip(calls, macs, strict=True):
        layer = call.operation
        params = 0 if id(layer) in seen else _elements(getattr(layer, "weights", ()))
        seen.add(id(layer))
        shape = tuple(call.outputs[0].shape[1:])
        elements = sum(math.prod(tensor.shape[1:]) for tensor in call.outputs)
        share = count / total if total else 0.0
        kind, bytes_out = type(layer).__name__, elements * batch_size * size
        field = fields.get(id(call.outputs[0]))
        rows.append(LayerCost(layer.name, kind, shape, params, count, bytes_out, field, share))
    params = _elements(model.weights)
    return Cost(
        rows=rows,
        params=params,
        trainable_params=_elements(model.trainable_weights),
        macs=total,
        peak_bytes=_peak(inputs, outputs, calls) * batch_size * size,
        training_bytes=2 * sum(row.activation_bytes for row in rows) + 3 * params * size,
        batch_size=batch_size,
        dtype=dtype,
    )


def _elements(weights: Iterable[Any]) -> int:
    return sum(math.prod(weight.shape) for weight in weights)


def _macs(call: Call) -> int:
    layer = call.operation
    kernels = _elements(weight for weight in getattr(layer, "weights", ()) if len(weight.shape) > 1)
    if isinstance(layer, _CONVOLUTIONS):
        return kernels * math.prod(_spatial(layer, call.outputs[0]))
    if isinstance(layer, _TRANSPOSED):
        return kernels * math.prod(_spatial(layer, call.inputs[0]))
    if isinstance(layer, keras.layers.Dense):
        return kernels * math.prod(call.outputs[0].shape[1:-1])
    if kernels:
        text = f"cost() does not know the MACs of {layer.name!r}, a {type(layer).__name__}, and counts none"
        warnings.warn(text, stacklevel=3)
    return 0


def _spatial(layer: Any, tensor: Any) -> tuple[int, ...]:
    return tensor.shape[2:] if layer.data_format == "channels_first" else tensor.shape[1:-1]


def _receptive_fields(inputs: Sequence[Any], calls: Sequence[Call]) -> dict[int, tuple[int, int]]:
    """Returns, by tensor, the height and width in input pixels that a value depends on."""
    images = [tensor for tensor in inputs if len(tensor.shape) == 4]
    if not images:
        return {}
    whole = np.array(images[0].shape[1:3])
    known = {id(tensor): (np.ones(2), np.ones(2)) for tensor in images}  # and the pixels between neighbouring values
    for call in calls:
        sources = [known[id(tensor)] for tensor in call.inputs if id(tensor) in known]
        if not sources:
            continue
        field = np.max([source[0] for source in sources], axis=0)
        jump = np.max([source[1] for source in sources], axis=0)
        layer = call.operation
        if isinstance(layer, _SEES_ALL):
            field = whole
        elif isinstance(layer, keras.layers.Conv2DTranspose):
            jump = jump / layer.strides
            field = field + (np.array(layer.kernel_size) - 1) * jump
        elif isinstance(layer, keras.layers.UpSampling2D):
            jump = jump / layer.size
        elif isinstance(layer, keras.layers.AdaptiveAveragePooling2D | keras.layers.AdaptiveMaxPooling2D):
            field, jump = _adaptive_field(field, jump, call)
        elif isinstance(layer, (*_CONVOLUTIONS, *_POOLINGS)) and len(call.outputs[0].shape) == 4:
            kernel = np.array(layer.pool_size if isinstance(layer, _POOLINGS) else layer.kernel_size)
            field = field + (kernel - 1) * getattr(layer, "dilation_rate", 1) * jump
            jump = jump * layer.strides
        for tensor in call.outputs:
            known[id(tensor)] = field, jump
    return {key: tuple(int(v) for v in np.minimum(field, whole)) for key, (field, _) in known.items()}


def _adaptive_field(field: np.ndarray, jump: np.ndarray, call: Call) -> tuple[np.ndarray, np.ndarray]:
    """Returns the receptive field after windows of different sizes, for the largest of them, and the mean jump."""
    sizes, counts = np.array(call.inputs[0].shape[1:3]), np.array(call.operation.output_size)
    windows = [
        max(-(-(i + 1) * size // count) - i * size // count for i in range(count))
        for size, count in zip(sizes.tolist(), counts.tolist(), strict=True)
    ]
    return field + (np.array(windows) - 1) * jump, jump * sizes / counts


def _peak(inputs: Sequence[Any], outputs: Sequence[Any], calls: Sequence[Call]) -> int:
    """Returns the most elements that are alive at once, for one image."""
    storage: dict[int, int] = {}  # by tensor, the tensor whose memory it uses
    for call in calls:
        for tensor in call.outputs:
            source = id(call.inputs[0]) if isinstance(call.operation, _VIEWS) else id(tensor)
            storage[id(tensor)] = storage.get(source, source)
    uses = {id(tensor): -1 for tensor in inputs}
    for step, call in enumerate(calls):
        for tensor in (*call.inputs, *call.outputs):
            uses[storage.get(id(tensor), id(tensor))] = step
    for tensor in outputs:
        uses[storage.get(id(tensor), id(tensor))] = len(calls)
    alive = {id(tensor): math.prod(tensor.shape[1:]) for tensor in inputs}
    peak = sum(alive.values())
    for step, call in enumerate(calls):
        for tensor in call.outputs:
            if storage[id(tensor)] == id(tensor):
                alive[id(tensor)] = math.prod(tensor.shape[1:])
        peak = max(peak, sum(alive.values()))
        alive = {key: elements for key, elements in alive.items() if uses[key] > step}
    return peak
