"""What a .tflite must be to load everywhere and run fast, checked on the file itself."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kresnet.inference.tflite_file import TFLiteFile

# The converter's step is about 1e-8 for a tensor that is zero everywhere.
SMALLEST_STEP = 1e-7
STATEFUL = ("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE")


class Operator(NamedTuple):
    """One operator of a .tflite."""

    name: str  # as in the schema, such as "CONV_2D", or a custom operator's own name
    custom: bool
    layer: str  # the Keras layer that it implements if the names of tensors tell, else the name of its output
    inputs: list[int]
    outputs: list[int]
    scale: float  # the integer step of its output; 0 if the output is not quantized


class Layers:
    """Finds the Keras layer that a tensor of a file is named after.

    Args:
        names: the names of the layers, in the network's order.
    """

    def __init__(self, names: Sequence[str]):
        self._rank = {name: rank for rank, name in enumerate(names)}

    def __call__(self, tensor: str) -> str | None:
        """Returns the last layer of the network that the tensor's name contains: `relu` for `a/conv_1/x;a/relu_1/Relu`.

        Keras numbers the repeated calls of a layer, hence `relu_1`.
        """
        parts = re.split("[/;:]", tensor)
        parts += [re.sub(r"_\d+$", "", part) for part in parts]
        found = [part for part in parts if part in self._rank]
        return max(found, key=self._rank.__getitem__, default=None)


def operators(file: TFLiteFile, layers: Sequence[str] = ()) -> list[Operator]:
    """Lists a file's operators in execution order, first those of the main graph, then those of its subgraphs.

    Args:
        file: need not load.
        layers: the names of the network's Keras layers, in its order.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    model, layer, found = file.graph, Layers(layers), []
    for graph in model.subgraphs:
        for op in graph.operators:
            custom = model.operatorCodes[op.opcodeIndex].customCode
            name = custom.decode() if custom else flatbuffer_utils.opcode_to_name(model, op.opcodeIndex)
            first = graph.tensors[op.outputs[0]] if len(op.outputs) else None
            tensor = first.name.decode() if first else ""
            scales = first.quantization.scale if first and first.quantization else None
            scale = float(scales[0]) if scales is not None and len(scales) else 0.0
            inputs, outputs = ([int(i) for i in tensors] for tensors in (op.inputs, op.outputs))
            found.append(Operator(name, bool(custom), layer(tensor) or tensor, inputs, outputs, scale))
    return found


def check(file: TFLiteFile, *, static: bool = True, layers: Sequence[str] = ()) -> list[str]:
    """Checks a .tflite.

    Args:
        file: need not be loaded yet, so that an operator that keeps it from loading is reported with its layer.
        static: whether all shapes must be fixed.
        layers: the names of the network's Keras layers, in its order.

    Returns:
        Sentences that say what makes the file slow; an empty list if nothing does.

    Raises:
        ValueError: if the file does not load, has an operator that is not built into LiteRT, keeps variables, has
            integers without a range or a shape that is not fixed, or gives numbers that are not finite. The message
            names the operator and the layer.
    """
    graph = operators(file, layers)
    for op in graph:
        if op.custom or op.name in STATEFUL:
            kind = "is not built into LiteRT" if op.custom else "keeps a variable, which apps cannot rely on"
            raise ValueError(f"{file.name}: operator {op.name} of layer {op.layer!r} {kind}")
        if 0 < op.scale < SMALLEST_STEP:
            raise ValueError(
                f"{file.name}: operator {op.name} of layer {op.layer!r} gave zero for all calibration images, which "
                "leaves its integers without a range, and XNNPACK rejects such a file: calibrate with more images"
            )
    if static:
        _check_shapes(file, layers)
    for value in (0, 127, 255):
        if not np.isfinite(file(np.full((1, *file.image_shape), value, "float32"))).all():
            origin = _first_not_finite(file, value, graph)
            raise ValueError(f"{file.name}: images of {value} give numbers that are not finite, {origin}")
    outside = breakers(file, graph)
    if not outside:
        return []
    examples = {op.name: op.layer for op in reversed(outside)}  # the first layer of each kind
    counts = Counter(op.name for op in outside).most_common()
    listed = ", ".join(f"{name} ({count}, such as {examples[name]!r})" for name, count in counts)
    return [
        f"XNNPACK runs {file.name} in {len(file.partitions)} parts, since it lacks these operators in this form: "
        f"{listed}"
    ]


def breakers(file: TFLiteFile, graph: list[Operator]) -> list[Operator]:
    """Returns the operators between the parts that XNNPACK runs.

    Args:
        file: loads.
        graph: its operators.

    Returns:
        The operators in the order of the tensors they give. Empty if XNNPACK runs a single part: operators before and
        after it, such as a cast of the input, do not split the file.
    """
    parts = file.partitions
    if len(parts) == 1:
        return []
    given = {tensor for part in parts for tensor in part.outputs}
    makers = {tensor: op for op in graph for tensor in op.outputs}
    # A tensor that a part takes and no part gives comes from an operator outside, and so on through that one's inputs.
    wanted = [tensor for part in parts for tensor in part.inputs]
    wanted += [int(detail["index"]) for detail in file.interpreter.get_output_details()]
    found: dict[int, Operator] = {}
    while wanted:
        tensor = wanted.pop()
        if tensor in makers and tensor not in given and tensor not in found:
            found[tensor] = makers[tensor]
            wanted += makers[tensor].inputs
    ends = {int(detail["index"]) for detail in file.interpreter.get_input_details()}
    return [found[tensor] for tensor in sorted(found) if not ends.issuperset(found[tensor].inputs)]


def _check_shapes(file: TFLiteFile, layers: Sequence[str]) -> None:
    for tensor in file.graph.subgraphs[0].tensors:
        # The signature is left out where the shape is fixed.
        shape = [] if tensor.shapeSignature is None else [int(size) for size in tensor.shapeSignature]
        if -1 in shape:
            name = tensor.name.decode()
            where = Layers(layers)(name) or name
            raise ValueError(f"{file.name}: a tensor of layer {where!r} has a shape that is not fixed: {shape}")


def _first_not_finite(file: TFLiteFile, value: float, graph: list[Operator]) -> str:
    """Says which operator is the first whose output is not finite, for images of one value."""
    interpreter = file.keeping_all_tensors()
    interpreter.allocate_tensors()
    detail = interpreter.get_input_details()[0]
    interpreter.set_tensor(detail["index"], np.full(detail["shape"], value).astype(detail["dtype"]))
    interpreter.invoke()
    for op in graph:
        for tensor in op.outputs:
            values = interpreter.get_tensor(tensor)
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                return f"from operator {op.name} of layer {op.layer!r} on"
    return "in XNNPACK's kernels only"
