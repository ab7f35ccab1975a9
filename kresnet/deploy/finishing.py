"""The last step of a conversion: a .tflite's operators are moved to where they cost least, and it says what it is."""

from __future__ import annotations

import copy
from typing import Any

from kresnet.deploy.metadata import Metadata


def finished(content: bytes, output: str, metadata: Metadata | None) -> bytes:
    """Moves operators of a converted file, and adds a signature and metadata to it.

    Args:
        content: of a .tflite as TensorFlow's converter writes it.
        output: the name for its output; its input is named "image".
        metadata: what to add; None for nothing.

    Returns:
        The new content.
    """
    import flatbuffers
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(content)
    graph = model.subgraphs[0]
    graph.tensors[graph.inputs[0]].name, graph.tensors[graph.outputs[0]].name = b"image", output.encode()
    names = [flatbuffer_utils.opcode_to_name(model, op.opcodeIndex) for op in graph.operators]
    _activate_in_float(graph, names)
    _enter_through_float(graph, names)
    _cast_first(graph, names)
    _sign(model, output)
    if metadata:
        metadata.add_to(model)
    # Large enough from the start: a builder doubles its buffer, by copying, whenever that is full.
    builder = flatbuffers.Builder(len(content) + 2**16)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(memoryview(builder.Bytes)[builder.Head() :])


def _activate_in_float(graph: Any, names: list[str]) -> None:
    """Lets the last activation of an integer file compute in float32, by dequantizing the logits before it.

    The converter dequantizes the probabilities instead, which leaves 256 steps from 0 to 1 on which classes tie;
    besides, XNNPACK has no integer softmax.
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
    """Turns an integer file's uint8 pixels into int8 by way of float32: XNNPACK has both steps but no direct one."""
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
    """Moves a cast of the input to the front: after operators that unpack float16 weights it splits XNNPACK's part."""
    casts = [op for op, name in zip(graph.operators, names, strict=True) if name == "CAST"]
    first = [op for op in casts if op.inputs[0] == graph.inputs[0]]
    graph.operators = first + [op for op in graph.operators if op not in first]


def _sign(file: Any, output: str) -> None:
    """Gives a file the signature by which apps name its input and output."""
    from ai_edge_litert import schema_py_generated as schema

    def entry(name: str, tensor: int) -> Any:
        mapped = schema.TensorMapT()
        mapped.name, mapped.tensorIndex = name, int(tensor)
        return mapped

    graph = file.subgraphs[0]
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    signature.inputs, signature.outputs = [entry("image", graph.inputs[0])], [entry(output, graph.outputs[0])]
    file.signatureDefs = [signature]
