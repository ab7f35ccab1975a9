"""What a .tflite must be, to load everywhere and to run fast: checked on its content."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, NamedTuple

import numpy as np

from kresnet.inference.tflite_file import TFLiteModel, all_tensors_kept

# The converter's step for a tensor that is zero everywhere is 1e-8 or so.
SMALLEST_STEP = 1e-7
STATEFUL = ("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE")


class Operator(NamedTuple):
    """One operator of a .tflite."""

    name: str  # as in the schema, such as "CONV_2D"; a custom operator's own
    custom: bool
    layer: str  # the Keras layer that it was made from, as far as tensors' names tell
    inputs: list[int]
    outputs: list[int]
    scale: float  # step of its output's integers; 0 if that holds no integers with a step


class Layers:
    """Finds the Keras layer that a tensor of a file is named after.

    Args:
        names: the layers' names, in the network's order.
    """

    def __init__(self, names: list[str]):
        self._rank = {name: rank for rank, name in enumerate(names)}

    def __call__(self, tensor: str) -> str | None:
        """Returns the last of the network's layers that the name holds: of `a/conv_1/x;a/relu_1/Relu`, `relu`."""
        parts = re.split("[/;:]", tensor)
        parts += [re.sub(r"_\d+$", "", part) for part in parts]
        found = [part for part in parts if part in self._rank]
        return max(found, key=self._rank.__getitem__, default=None)


def operators(content: bytes, layers: list[str] = ()) -> list[Operator]:
    """Lists the operators of a .tflite in the order in which they run, those of subgraphs behind the main graph's."""
    from ai_edge_litert.tools import flatbuffer_utils

    file, layer = flatbuffer_utils.read_model_from_bytearray(bytearray(content)), Layers(list(layers))
    found = []
    for graph in file.subgraphs:
        for op in graph.operators:
            custom = file.operatorCodes[op.opcodeIndex].customCode
            name = custom.decode() if custom else flatbuffer_utils.opcode_to_name(file, op.opcodeIndex)
            first = graph.tensors[op.outputs[0]] if len(op.outputs) else None
            tensor = first.name.decode() if first else ""
            scales = first.quantization.scale if first and first.quantization else None
            scale = float(scales[0]) if scales is not None and len(scales) else 0.0
            inputs, outputs = ([int(i) for i in tensors] for tensors in (op.inputs, op.outputs))
            found.append(Operator(name, bool(custom), layer(tensor) or tensor, inputs, outputs, scale))
    return found


def check(content: bytes, name: str, *, static: bool = True, layers: list[str] = ()) -> list[str]:
    """Checks the content of a .tflite.

    Args:
        content: the file's content.
        name: what errors call it.
        static: whether all shapes must be fixed.
        layers: names of the network's Keras layers, in its order.

    Returns:
        What is slow about it, in sentences.

    Raises:
        ValueError: if it holds an operator that is not built in, keeps variables, has integers without a range or a
            shape that is not fixed, does not load, or gives numbers that are not finite. Names operator and layer.
    """
    graph = operators(content, layers)
    for op in graph:
        if op.custom or op.name in STATEFUL:
            kind = "is not built into LiteRT" if op.custom else "keeps a variable, which apps cannot rely on"
            raise ValueError(f"{name}: operator {op.name} of layer {op.layer!r} {kind}")
        if 0 < op.scale < SMALLEST_STEP:
            raise ValueError(
                f"{name}: operator {op.name} of layer {op.layer!r} gave zero for all calibration images, which leaves "
                "its integers without a range, and XNNPACK refuses that: calibrate with more images"
            )
    if static:
        _check_shapes(content, name, layers)
    model = TFLiteModel(content)
    for value in (0, 127, 255):
        if not np.isfinite(model(np.full((1, *model.image_shape), value, "float32"))).all():
            raise ValueError(
                f"{name}: images of {value} give numbers that are not finite, {_first_nan(content, value, layers)}"
            )
    outside = breakers(model, graph)
    if not outside:
        return []
    count = ", ".join(f"{op} ({n}, such as {layer!r})" for (op, n), layer in _grouped(outside))
    return [f"XNNPACK runs {name} in {partitions(model)} parts, since it lacks these operators in this form: {count}"]


def partitions(model: TFLiteModel) -> int:
    """Returns the number of parts in which XNNPACK runs a file; 1 is fast."""
    return sum(op["op_name"] == "DELEGATE" for op in model.interpreter._get_ops_details())


def breakers(model: TFLiteModel, graph: list[Operator]) -> list[Operator]:
    """Returns the operators between the parts that XNNPACK runs; none if that is one part, whatever is around it."""
    parts = [op for op in model.interpreter._get_ops_details() if op["op_name"] == "DELEGATE"]
    if len(parts) == 1:
        return []
    given = {int(tensor) for part in parts for tensor in part["outputs"]}
    makers = {tensor: op for op in graph for tensor in op.outputs}
    # What a part takes and no part gives is made by an operator outside; and so is what that one takes.
    wanted = [int(tensor) for part in parts for tensor in part["inputs"]]
    wanted += [int(detail["index"]) for detail in model.interpreter.get_output_details()]
    found: dict[int, Operator] = {}
    while wanted:
        tensor = wanted.pop()
        if tensor in makers and tensor not in given and tensor not in found:
            found[tensor] = makers[tensor]
            wanted += makers[tensor].inputs
    ends = {int(detail["index"]) for detail in model.interpreter.get_input_details()}
    return [found[tensor] for tensor in sorted(found) if not ends.issuperset(found[tensor].inputs)]


def _grouped(ops: list[Operator]) -> list[Any]:
    first: dict[str, str] = {}
    for op in ops:
        first.setdefault(op.name, op.layer)
    return [((name, n), first[name]) for name, n in Counter(op.name for op in ops).most_common()]


def _check_shapes(content: bytes, name: str, layers: list[str]) -> None:
    from ai_edge_litert.interpreter import Interpreter

    layer = Layers(list(layers))
    for tensor in Interpreter(model_content=content).get_tensor_details():
        if (shape := tensor["shape_signature"].tolist()) and -1 in shape:
            where = layer(tensor["name"]) or tensor["name"]
            raise ValueError(f"{name}: a tensor of layer {where!r} has a shape that is not fixed: {shape}")


def _first_nan(content: bytes, value: float, layers: list[str]) -> str:
    """Says where numbers that are not finite come up first."""
    interpreter = all_tensors_kept(content)
    interpreter.allocate_tensors()
    detail = interpreter.get_input_details()[0]
    interpreter.set_tensor(detail["index"], np.full(detail["shape"], value).astype(detail["dtype"]))
    interpreter.invoke()
    for op in operators(content, layers):
        for tensor in op.outputs:
            values = interpreter.get_tensor(tensor)
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                return f"from operator {op.name} of layer {op.layer!r} on"
    return "in XNNPACK's kernels only"
