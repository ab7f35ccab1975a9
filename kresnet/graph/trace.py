"""The calls that a model is made of, in the order in which they run."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras

from kresnet import checks


class Call(NamedTuple):
    """One call of an operation, which is a layer or one of `keras.ops`."""

    operation: Any
    inputs: list[Any]  # symbolic tensors, as are the outputs
    outputs: list[Any]
    training: Any  # the argument recorded in the graph; that of a nested model holds for all its calls


class Trace:
    """A model's calls, including those inside nested models.

    Attributes:
        inputs, outputs: symbolic tensors, in the order of the model's.
        calls: in the order in which they run.
    """

    def __init__(self, inputs: list[Any], outputs: list[Any], calls: list[Call]):
        self.inputs, self.outputs, self.calls = inputs, outputs, calls

    def maker_of(self, tensor: Any) -> Call | None:
        """Returns the call that computes a tensor; None for the model's inputs."""
        return self._makers.get(id(tensor))

    def users_of(self, tensor: Any) -> list[Call | None]:
        """Returns the calls that take a tensor, and one None if it is also an output of the model.

        A call that takes the tensor twice, such as a sum of it with itself, is listed twice.
        """
        return self._users.get(id(tensor), [])

    def calls_of(self, operation: Any) -> list[Call]:
        """Returns all calls of an operation."""
        return self._by_operation.get(id(operation), [])

    # By `id`, since symbolic tensors cannot be compared; `calls` keeps them alive, so that no id is used again.

    @functools.cached_property
    def _makers(self) -> dict[int, Call]:
        return {id(tensor): call for call in self.calls for tensor in call.outputs}

    @functools.cached_property
    def _users(self) -> dict[int, list[Call | None]]:
        found: dict[int, list[Call | None]] = {id(tensor): [None] for tensor in self.outputs}
        for call in self.calls:
            for tensor in call.inputs:
                found.setdefault(id(tensor), []).append(call)
        return found

    @functools.cached_property
    def _by_operation(self) -> dict[int, list[Call]]:
        found: dict[int, list[Call]] = {}
        for call in self.calls:
            found.setdefault(id(call.operation), []).append(call)
        return found


def trace(model: keras.Model, input_shapes: Sequence[Sequence[int | None]] | None = None) -> Trace:
    """Sends symbolic tensors through a functional model and the models nested in it.

    Args:
        model: a functional model, or a built sequential one.
        input_shapes: one for each input, without the batch. Default: the model's own.

    Raises:
        ValueError: if the model is not functional.
    """
    model = functional(model)
    checks.require(is_functional(model), "`model` must be functional", model=type(model).__name__)
    shapes = [tensor.shape[1:] for tensor in model.inputs] if input_shapes is None else input_shapes
    inputs = [
        keras.KerasTensor((tensor.shape[0], *shape), tensor.dtype)
        for shape, tensor in zip(shapes, model.inputs, strict=True)
    ]
    calls: list[Call] = []

    def record(operation: Any, outer_training: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            # As in Keras, what a nested model is called with overrides what its layers were called with.
            training = kwargs.get("training") if outer_training is None else outer_training
            inner = functional(operation)
            if is_functional(inner):
                return run(inner, args[0] if args else kwargs["inputs"], training)
            outputs = operation.compute_output_spec(*args, **kwargs)
            calls.append(Call(operation, tensors_in((args, kwargs)), tensors_in(outputs), training))
            return outputs

        return call

    def run(graph: Any, tensors: Any, training: Any = None) -> Any:
        if isinstance(tensors, dict) and not isinstance(graph.input, dict):
            tensors = [tensors[tensor.name] for tensor in graph.inputs]
        return graph._run_through_graph(tensors, lambda operation: record(operation, training))

    outputs = run(model, inputs)
    return Trace(inputs, tensors_in(outputs), calls)


def tensors_in(structure: Any) -> list[Any]:
    return [leaf for leaf in keras.tree.flatten(structure) if keras.backend.is_keras_tensor(leaf)]


def functional(model: Any) -> Any:
    """Returns the functional model that a built sequential one holds; anything else as it is."""
    return (model._functional or model) if isinstance(model, keras.Sequential) else model


def is_functional(model: Any) -> bool:
    """Tells whether `model` is a Keras model with a graph of calls."""
    return isinstance(model, keras.Model) and hasattr(model, "_run_through_graph")


def nested(model: keras.Model) -> list[str]:
    """Returns the names of the model's layers that are models themselves."""
    return [layer.name for layer in model.layers if isinstance(layer, keras.Model)]


def all_layers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Returns the layers within a model or layer, at every depth, without itself."""
    return layer._flatten_layers(include_self=False)


def producer(tensor: Any) -> Any:
    """Returns the operation that computes a model's symbolic tensor; it may be a nested model."""
    return tensor._keras_history.operation


def input_of(tensor: Any) -> Any:
    """Returns the first tensor that a model's symbolic tensor was computed from, by the call that computed it."""
    operation, node, _ = tensor._keras_history
    return operation._inbound_nodes[node].input_tensors[0]


def last_operation(model: keras.Model) -> Any:
    """Returns the operation that computes a model's first output; never a nested model, but the operation within it."""
    operation, _, index = model.outputs[0]._keras_history
    while isinstance(operation, keras.Model) and (outputs := getattr(operation, "outputs", None)):
        operation, _, index = outputs[index]._keras_history
    return operation
