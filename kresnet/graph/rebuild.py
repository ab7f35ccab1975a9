"""Rebuilding a model's graph with other operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from kresnet.graph.network import like
from kresnet.graph.trace import all_layers, producer


def duplicate(operation: Any) -> Any:
    """Returns a new layer (or `keras.ops` operation) of the same configuration, its weights not yet set."""
    return type(operation).from_config(operation.get_config())


def copy_weights(original: keras.layers.Layer, copied: keras.layers.Layer) -> None:
    """Gives a layer, or a model, the weights of another of the same kind."""
    copied.set_weights([keras.ops.convert_to_numpy(weight) for weight in original.weights])
    for layer in (copied, *all_layers(copied)):
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # an adapted one computes with constants that it makes of its weights


def rebuild(
    model: keras.Model, copy: Callable[[Any], Callable[..., Any]], enter: Callable[[Any], Any] = lambda image: image
) -> tuple[dict[int, Any], keras.Model]:
    """Rebuilds a model from its graph, with inputs of the same names and shapes, and with other operations.

    Args:
        model: a functional model; it stays as it is.
        copy: returns the layer, or any callable, that replaces an operation; called once for each operation. A layer
            of the original's class and number of weights gets the original's values.
        enter: maps an input of the new model to what the first operations are called with.

    Returns:
        The replacements, by the `id` of their originals, and the model.
    """
    originals, copies = {id(operation): operation for operation in model.operations}, {}

    def once(operation: Any) -> Callable[..., Any]:
        if id(operation) not in copies:
            copies[id(operation)] = copy(operation)
        return copies[id(operation)]

    def new_input(tensor: Any) -> Any:
        return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=producer(tensor).name)

    inputs = keras.tree.map_structure(new_input, model.input)
    entered = keras.tree.map_structure(enter, inputs)
    new = like(model, inputs, model._run_through_graph(entered, operation_fn=once))
    for key, copied in copies.items():
        weights = getattr(originals[key], "weights", [])
        if type(copied) is type(originals[key]) and weights and len(copied.weights) == len(weights):
            copy_weights(originals[key], copied)
    return copies, new
