"""The calls that a model is made of, in the order in which they run."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras

from kresnet import checks


class Call(NamedTuple):
    """An operation (a layer, or one of `keras.ops`) at a place in the graph."""

    operation: Any
    inputs: list[Any]
    outputs: list[Any]
    training: Any  # the argument as it was fixed when the graph was made; None: not fixed


class Trace:
    """A model's calls, those of the models within it among them.

    Attributes:
        inputs, outputs: symbolic tensors, in the order of the model's.
        calls: in the order in which they run.
    """

    def __init__(self, inputs: list[Any], outputs: list[Any], calls: list[Call]):
        self.inputs, self.outputs, self.calls = inputs, outputs, calls

    @functools.cached_property
    def users(self) -> dict[int, list[Call | None]]:
        """By the `id` of a tensor, the calls that take it, and None for what takes the model's outputs."""
        found: dict[int, list[Call | None]] = {id(tensor): [None] for tensor in self.outputs}
        for call in self.calls:
            for tensor in call.inputs:
                found.setdefault(id(tensor), []).append(call)
        return found

    @functools.cached_property
    def makers(self) -> dict[int, Call]:
        """By the `id` of a tensor, the call that gives it."""
        return {id(tensor): call for call in self.calls for tensor in call.outputs}

    def calls_of(self, operation: Any) -> list[Call]:
        """Returns all calls of an operation."""
        return self._by_operation.get(id(operation), [])

    @functools.cached_property
    def _by_operation(self) -> dict[int, list[Call]]:
        found: dict[int, list[Call]] = {}
        for call in self.calls:
            found.setdefault(id(call.operation), []).append(call)
        return found


def trace(model: keras.Model, input_shapes: Sequence[Sequence[int | None]] | None = None) -> Trace:
    """Sends symbolic tensors through a functional model and the models in it.

    Args:
        model: a functional model, or a built sequential one.
        input_shapes: of the inputs, without the batch. Default: the model's own.

    Raises:
        ValueError: if the model is not functional.
    """
    if isinstance(model, keras.Sequential) and model.built:
        model = model._functional or model
    checks.require(is_functional(model), "`model` must be functional", model=type(model).__name__)
    shapes = [tensor.shape[1:] for tensor in model.inputs] if input_shapes is None else input_shapes
    inputs = [
        keras.KerasTensor((None, *shape), tensor.dtype) for shape, tensor in zip(shapes, model.inputs, strict=True)
    ]
    calls = []

    def record(operation: Any):
        def call(*args: Any, **kwargs: Any) -> Any:
            inner = getattr(operation, "_functional", None) or operation  # a Sequential holds a functional model
            if hasattr(inner, "_run_through_graph"):
                return inner._run_through_graph(args[0], record)
            outputs = operation.compute_output_spec(*args, **kwargs)
            calls.append(Call(operation, _tensors((args, kwargs)), _tensors(outputs), kwargs.get("training")))
            return outputs

        return call

    outputs = model._run_through_graph(keras.tree.pack_sequence_as(model._inputs_struct, inputs), record)
    return Trace(inputs, _tensors(outputs), calls)


def _tensors(structure: Any) -> list[Any]:
    return [leaf for leaf in keras.tree.flatten(structure) if keras.backend.is_keras_tensor(leaf)]


def is_functional(model: Any) -> bool:
    """Tells whether `model` is a Keras model with a graph of calls."""
    return isinstance(model, keras.Model) and hasattr(model, "_run_through_graph")


def nested(model: keras.Model) -> list[str]:
    """Returns the names of the model's layers that are models themselves."""
    return [layer.name for layer in model.layers if isinstance(layer, keras.Model)]


def all_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Returns a model's layers, those within its layers and models among them."""
    return list(model._flatten_layers(include_self=False))


def producer(tensor: Any) -> Any:
    """Returns the operation that gives a model's symbolic tensor, which may be a model in the model."""
    return tensor._keras_history.operation


def last_operation(model: keras.Model) -> Any:
    """Returns the operation that gives a model's first output, from within the model that may give it."""
    last = producer(model.outputs[0])
    return last_operation(last) if isinstance(last, keras.Model) else last
