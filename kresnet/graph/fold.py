"""Batch normalizations folded into the layers before them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from kresnet import checks
from kresnet.graph.rebuild import duplicate, rebuild
from kresnet.graph.trace import Trace, is_functional, nested, trace
from kresnet.layers.grouped import GroupedConv2D
from kresnet.layers.normalization import BatchNormalization

# By exact class: what a subclass computes is its own business.
FOLDABLE = (keras.layers.Conv2D, GroupedConv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)
NORMS = (keras.layers.BatchNormalization, BatchNormalization)


def fold_batch_norm(model: keras.Model) -> keras.Model:
    """Folds batch normalizations into the convolutions and dense layers that directly precede them.

    A norm of fixed statistics scales and shifts each channel, so that the weights before it can do its work too:
    `kernel * s` and `(bias - mean) * s + beta`, where `s = gamma / sqrt(variance + epsilon)`. A norm is folded where
    each of its inputs is the output of a `Conv2D`, `GroupedConv2D`, `DepthwiseConv2D` or `Dense` without activation,
    and nothing else uses that output. Other norms stay: those after a sum, a concatenation or a pooling, as in
    pre-activation networks, also where a convolution follows (it pads with zeros, which a norm before it would have
    shifted; besides, an activation stands between the two).

    Args:
        model: a functional model without nested models, on any backend. It stays as it is.

    Returns:
        A new, uncompiled model with weights of its own, and the names of layers, inputs and outputs as before; a folded
        norm that was an output becomes an `Identity` of its name. In inference the outputs differ by rounding only: in
        float32 they are about as far from the function in float64 as those of `model`, and for trained networks within
        1e-6 to 4e-5 of their standard deviation from those. Training it is training without batch normalization.

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
    graph = trace(model)
    folded = foldable(graph)
    norms = {id(norm): norm for _, norm in folded.values()}
    outputs = {id(maker.operation) for maker in map(graph.maker_of, graph.outputs) if maker}

    def copy(operation: Any) -> Callable[..., Any]:
        if id(operation) in norms:
            # An output is named after the layer that computes it. A norm's call may carry a mask.
            named = id(operation) in outputs
            identity = keras.layers.Identity(name=operation.name) if named else lambda inputs: inputs
            return lambda inputs, **_: identity(inputs)
        if id(operation) in folded:
            return type(operation).from_config({**operation.get_config(), "use_bias": True})
        return duplicate(operation)

    copies, new = rebuild(model, copy)
    for key, copied in copies.items():
        if key in folded:
            copied.set_weights(_folded_weights(*folded[key]))
    return new


def foldable(graph: Trace) -> dict[int, tuple[Any, Any]]:
    """Returns the pairs of (layer, norm) that become one layer, by the `id` of the layer.

    A layer or norm that is called several times is folded if that is right for all its calls.
    """
    pairs = {}
    for call in graph.calls:
        norm = call.operation
        if type(norm) not in NORMS:
            continue
        makers = [None if c.training else graph.maker_of(c.inputs[0]) for c in graph.calls_of(norm)]
        if all(maker and _fits(graph, maker.operation, norm) for maker in makers):
            pairs.update({id(maker.operation): (maker.operation, norm) for maker in makers})
    return pairs


def _fits(graph: Trace, layer: Any, norm: Any) -> bool:
    """Tells whether a norm can be folded into a layer: nothing but the norm uses its output."""
    return (
        is_linear(layer)
        and layer.compute_dtype == norm.compute_dtype
        and all(
            user is not None and user.operation is norm and _same_channels(layer, norm, call)
            for call in graph.calls_of(layer)
            for user in graph.users_of(call.outputs[0]) or [None]
        )
    )


def is_linear(layer: Any) -> bool:
    adapted = getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None)
    return type(layer) in FOLDABLE and layer.activation is keras.activations.linear and not adapted


def _same_channels(layer: Any, norm: Any, call: Any) -> bool:
    """Tells whether the norm's axis is the layer's channels."""
    rank = len(call.outputs[0].shape)
    channels = 1 if getattr(layer, "data_format", "channels_last") == "channels_first" else rank - 1
    return norm.axis % rank == channels


def _folded_weights(layer: Any, norm: Any) -> list[np.ndarray]:
    """Returns the kernel and bias that do the work of both."""
    scale, shift = affine(norm)
    bias = (values(layer.bias) * scale if layer.use_bias else 0.0) + shift
    kernel = values(layer.kernel)
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)  # its channels are its kernel's last two axes
    kernel = kernel * (scale.reshape(kernel.shape[-2:]) if depthwise else scale)
    return [kernel, bias]


def affine(norm: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns what a norm multiplies channels by, and adds then; computed in float64, since variances may be tiny."""
    scale = 1 / np.sqrt(values(norm.moving_variance) + norm.epsilon)
    scale = scale * values(norm.gamma) if norm.scale else scale
    return scale, (values(norm.beta) if norm.center else 0.0) - values(norm.moving_mean) * scale


def values(weight: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(weight).astype("float64")
