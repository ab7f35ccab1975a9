"""Rewrites of a finished network that leave its function unchanged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

from kresnet import checks
from kresnet.grouped import GroupedConv2D

# By exact class: what a subclass computes is its own business.
FOLDABLE = (keras.layers.Conv2D, GroupedConv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)


def fold_batch_norm(model: keras.Model) -> keras.Model:
    """Folds batch normalizations into the convolutions and dense layers that they stand directly behind.

    A norm of fixed statistics scales and shifts each channel, and so it is one with the weights before it:
    `kernel * s` and `(bias - mean) * s + beta`, where `s = gamma / sqrt(variance + epsilon)`. A norm is folded where
    every input of it is the output of a `Conv2D`, `GroupedConv2D`, `DepthwiseConv2D` or `Dense` without activation, and
    nothing else uses that output. Other norms stay: those behind a sum or a pooling, as in pre-activation networks, and
    those whose only convolution comes after them (a convolution pads with zeros, and what a norm would have made of
    the padding is not zero; besides, an activation stands between the two).

    Args:
        model: a functional model, whose layers are no models themselves, on any backend. It stays as it is.

    Returns:
        A new, uncompiled model with weights of its own, and the names of layers, inputs and outputs as before; a folded
        norm that was an output lives on as an `Identity` of its name. In inference the outputs differ by rounding only:
        in float32 they are about as far from the function in float64 as the network's own, and for trained networks
        within 1e-6 to 4e-5 of their deviation of those. Training it is training without batch normalization.

    Raises:
        ValueError: if the model is not functional, or holds another model.

    Source: Jacob et al. 2018, arXiv:1712.05877, section 3.2.
    """
    checks.require(is_functional(model), "`model` must be a functional Keras model", model=type(model).__name__)
    checks.require(
        not (inner := nested(model)),
        "`model` must not hold other models; rewrite those by themselves",
        model=model.name,
        holds=inner,
    )
    folded = _foldable(model)
    norms = {id(norm): norm for _, norm in folded.values()}
    outputs = {id(tensor._keras_history.operation) for tensor in model.outputs}

    def copy(operation: Any) -> Callable[..., Any]:
        if id(operation) in norms:
            # A layer stays behind where the output's name comes from it; a norm's call may carry a mask.
            stays = id(operation) in outputs
            identity = keras.layers.Identity(name=operation.name) if stays else lambda inputs: inputs
            return lambda inputs, **_: identity(inputs)
        if id(operation) in folded:
            return type(operation).from_config({**operation.get_config(), "use_bias": True})
        return duplicate(operation)

    copies, new = rebuild(model, copy)
    for key, copied in copies.items():
        if key in folded:
            copied.set_weights(_folded_weights(*folded[key]))
    return new


def is_functional(model: Any) -> bool:
    """Tells whether `model` is a Keras model with a graph of calls."""
    return isinstance(model, keras.Model) and hasattr(model, "_run_through_graph")


def nested(model: keras.Model) -> list[str]:
    """Returns the names of the model's layers that are models themselves."""
    return [layer.name for layer in model.layers if isinstance(layer, keras.Model)]


def duplicate(operation: Any) -> Any:
    """Returns a new layer (or `keras.ops` operation) of the same configuration, its weights still to come."""
    return type(operation).from_config(operation.get_config())


def rebuild(
    model: keras.Model, copy: Callable[[Any], Callable[..., Any]], enter: Callable[[Any], Any] = lambda image: image
) -> tuple[dict[int, Any], keras.Model]:
    """Calls a model's graph anew on inputs of the same names and shapes, with other operations.

    Args:
        model: a functional model; it stays as it is.
        copy: gives the layer, or any callable, that stands for an operation; asked once for each operation. Layers of
            the same class and number of weights get the values of the original's.
        enter: gives what the first operations are called with, from an input of the new model.

    Returns:
        The copies, by the `id` of their originals, and the model.
    """
    originals, copies = {id(operation): operation for operation in model.operations}, {}

    def once(operation: Any) -> Callable[..., Any]:
        if id(operation) not in copies:
            copies[id(operation)] = copy(operation)
        return copies[id(operation)]

    def new_input(tensor: Any) -> Any:
        name = tensor._keras_history.operation.name
        return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=name)

    inputs = keras.tree.map_structure(new_input, model.input)
    entered = keras.tree.map_structure(enter, inputs)
    new = keras.Model(inputs, model._run_through_graph(entered, operation_fn=once), name=model.name)
    for key, copied in copies.items():
        weights = getattr(originals[key], "weights", [])
        if type(copied) is type(originals[key]) and weights and len(copied.weights) == len(weights):
            copied.set_weights([keras.ops.convert_to_numpy(weight) for weight in weights])
    if hasattr(model, "feature_strides"):
        new.feature_strides = dict(model.feature_strides)
    return copies, new


class Call(NamedTuple):
    """An operation at a place of the graph."""

    operation: Any
    inputs: list[Any]
    outputs: list[Any]
    training: Any  # as it was fixed when the graph was made; None: not


def calls(model: keras.Model) -> list[Call]:
    """Returns a functional model's calls in the order in which they run, without those that are its inputs."""
    nodes = [node for depth in sorted(model._nodes_by_depth, reverse=True) for node in model._nodes_by_depth[depth]]
    return [
        Call(node.operation, node.input_tensors, node.outputs, node.arguments.kwargs.get("training"))
        for node in nodes
        if not node.is_input
    ]


def users(model: keras.Model) -> dict[int, list[Call | None]]:
    """Returns, by the `id` of a tensor, the calls that take it, and None for the world behind the outputs."""
    found: dict[int, list[Call | None]] = {id(tensor): [None] for tensor in model.outputs}
    for call in calls(model):
        for tensor in call.inputs:
            found.setdefault(id(tensor), []).append(call)
    return found


def _foldable(model: keras.Model) -> dict[int, tuple[Any, Any]]:
    """Returns the pairs of (layer, norm) that become one, by the layer's `id`.

    A layer or norm that is called several times is folded if all its calls agree.
    """
    taken = users(model)
    followers: dict[int, list[Any]] = {}
    sources: dict[int, list[Any]] = {}
    for call in calls(model):
        if type(call.operation) in FOLDABLE:
            behind = taken.get(id(call.outputs[0]), [])
            followers.setdefault(id(call.operation), []).extend(user and user.operation for user in behind)
        if type(call.operation) is keras.layers.BatchNormalization:
            fixed = call.inputs[0]._keras_history.operation if not call.training else None
            sources.setdefault(id(call.operation), []).append(fixed)

    def fits(layer: Any, norm: Any) -> bool:
        same = all(follower is norm for follower in followers.get(id(layer), [None]))
        return same and _is_linear(layer) and _same_channels(layer, norm) and layer.compute_dtype == norm.compute_dtype

    pairs = {}
    for norm in model.layers:
        if id(norm) in sources and all(fits(layer, norm) for layer in sources[id(norm)]):
            pairs.update({id(layer): (layer, norm) for layer in sources[id(norm)]})
    return pairs


def _is_linear(layer: Any) -> bool:
    adapted = getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None)
    return type(layer) in FOLDABLE and layer.activation is keras.activations.linear and not adapted


def _same_channels(layer: Any, norm: Any) -> bool:
    """Tells whether the norm's axis is the layer's channels."""
    rank = len(layer._inbound_nodes[0].outputs[0].shape)
    channels = 1 if getattr(layer, "data_format", "channels_last") == "channels_first" else rank - 1
    return norm.axis % rank == channels


def _folded_weights(layer: Any, norm: Any) -> list[np.ndarray]:
    """Returns the kernel and bias that do both layers' work; computed in float64, since the variances may be tiny."""

    def values(weight: Any) -> np.ndarray:
        return keras.ops.convert_to_numpy(weight).astype("float64")

    scale = 1 / np.sqrt(values(norm.moving_variance) + norm.epsilon)
    scale = scale * values(norm.gamma) if norm.scale else scale
    bias = values(layer.bias) if layer.use_bias else 0.0
    bias = (bias - values(norm.moving_mean)) * scale + (values(norm.beta) if norm.center else 0.0)
    kernel = values(layer.kernel)
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)  # its channels are its kernel's last two axes
    kernel = kernel * (scale.reshape(kernel.shape[-2:]) if depthwise else scale)
    return [kernel, bias]
