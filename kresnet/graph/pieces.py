"""A network cut where one tensor is all that goes on: its layers, or where shortcuts pass them by, its blocks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras

from kresnet import checks
from kresnet.graph.trace import Call, trace

# What a layer is called, and what its numbers are or begin with, changes nothing of how long it takes.
_IDLE = ("name", "trainable", "dtype", "momentum", "epsilon", "seed", "rate", "scale", "offset")


class Piece(NamedTuple):
    """Some calls in a row that take one tensor and give one.

    Attributes:
        kind: equal for pieces that compute the same but for weights: classes, settings and shapes.
        source, result: the model's symbolic tensors that it takes and gives.
    """

    kind: str
    source: Any
    result: Any

    def model(self) -> keras.Model:
        """Returns the piece as a model of its own, with new random weights."""
        return keras.models.clone_model(keras.Model(self.source, self.result))


def pieces(model: keras.Model) -> list[Piece]:
    """Cuts a functional model of one image and one output before each convolution that alone takes what came before.

    What follows a convolution (norm, activation, squeeze-and-excitation, pooling) is in one piece with it, and a block
    is in one with its shortcut.

    Raises:
        ValueError: if the model has several inputs or outputs, or calls a layer twice.
    """
    graph = trace(model)
    calls = graph.calls
    checks.require(
        len(graph.inputs) == len(graph.outputs) == 1 and len({id(call.operation) for call in calls}) == len(calls),
        "A network is cut into pieces that has one input and one output, and calls each layer once",
        model=model.name,
    )
    starts = _starts(graph.inputs, calls)
    tensors = [model.inputs[0], *(call.operation.output for call in calls)]
    ends = [*starts[1:], len(calls)]
    return [
        Piece(_kind(calls[start:end]), tensors[start], tensors[end]) for start, end in zip(starts, ends, strict=True)
    ]


def _starts(inputs: Sequence[Any], calls: Sequence[Call]) -> list[int]:
    """Returns the calls before which only one tensor is alive, which is a feature map, and a convolution comes."""
    last = {id(tensor): i for i, call in enumerate(calls) for tensor in call.inputs}
    alive, starts = {id(tensor) for tensor in inputs}, [0]
    for i, call in enumerate(calls):
        if i and len(alive) == 1 and _begins(calls, i):
            starts.append(i)
        alive |= {id(tensor) for tensor in call.outputs}
        alive = {tensor for tensor in alive if last.get(tensor, -1) > i}
    return starts


def _begins(calls: Sequence[Call], i: int) -> bool:
    convolutions = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.ZeroPadding2D)
    padded = isinstance(calls[i - 1].operation, keras.layers.ZeroPadding2D)
    # Before the first convolution there is what is done to pixels.
    worked = any(isinstance(call.operation, convolutions[:2]) for call in calls[:i])
    return isinstance(calls[i].operation, convolutions) and not padded and worked


def _kind(calls: Sequence[Call]) -> str:
    rows = []
    for call in calls:
        config = {} if not hasattr(call.operation, "get_config") else call.operation.get_config()
        settings = {
            name: value
            for name, value in config.items()
            if name not in _IDLE
            and not name.endswith(("initializer", "regularizer", "constraint"))
            and value is not None
        }
        rows.append([type(call.operation).__name__, settings, [tensor.shape[1:] for tensor in call.inputs]])
    return json.dumps(rows, default=str, sort_keys=True)
