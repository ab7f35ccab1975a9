"""Rebuilding a model's graph with other operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from kresnet.graph.construction import constructing
from kresnet.graph.network import like
from kresnet.graph.trace import all_layers, functional, is_functional, nested, producer


def duplicate(operation: Any) -> Any:
    """Returns a new layer (or `keras.ops` operation) of the same configuration, its weights not yet set."""
    return type(operation).from_config(operation.get_config())


def copy_weights(original: keras.layers.Layer, copied: keras.layers.Layer) -> None:
    """Gives a layer, or a model, the weights of another of the same kind."""
    copied.set_weights([keras.ops.convert_to_numpy(weight) for weight in original.weights])
    for layer in (copied, *all_layers(copied)):
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # an adapted one computes with constants that it makes of its weights


@constructing()
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

    inputs = keras.tree.map_structure(_new_input, model.input)
    entered = keras.tree.map_structure(enter, inputs)
    new = like(model, inputs, model._run_through_graph(entered, operation_fn=once))
    for key, copied in copies.items():
        weights = getattr(originals[key], "weights", [])
        if type(copied) is type(originals[key]) and weights and len(copied.weights) == len(weights):
            copy_weights(originals[key], copied)
    return copies, new


@constructing()
def flattened(model: keras.Model) -> keras.Model:
    """Returns a copy of a model with the layers of the models in it in their place; a model without such as it is.

    A layer whose name occurs twice gets that of its model before its own.
    """
    if not nested(functional(model)):
        return model
    originals, copies, names = {}, {}, set()

    def once(operation: Any, within: str) -> Callable[..., Any]:
        if id(operation) not in copies:
            config = operation.get_config()
            if operation.name in names:
                config["name"] = f"{within}_{operation.name}"
            names.add(config.get("name", operation.name))
            originals[id(operation)], copies[id(operation)] = operation, type(operation).from_config(config)
        return copies[id(operation)]

    def inlined(operation: Any, within: str, training: bool | None) -> Callable[..., Any]:
        inner = functional(operation)

        def run(inputs: Any, *args: Any, **kwargs: Any) -> Any:
            # As in Keras, what a model is called with holds for the layers in it.
            now = kwargs.get("training") if training is None else training
            if is_functional(inner):
                return inner._run_through_graph(inputs, operation_fn=lambda one: inlined(one, operation.name, now))
            if now is not None and getattr(operation, "_call_has_training_arg", False):
                kwargs["training"] = now
            return once(operation, within)(inputs, *args, **kwargs)

        return run

    outer = functional(model)
    inputs = keras.tree.map_structure(_new_input, outer.input)
    outputs = outer._run_through_graph(inputs, operation_fn=lambda one: inlined(one, outer.name, None))
    new = like(model, inputs, outputs)
    for key, copied in copies.items():
        if getattr(copied, "weights", []):
            copy_weights(originals[key], copied)
    return new


def _new_input(tensor: Any) -> Any:
    return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=producer(tensor).name)
