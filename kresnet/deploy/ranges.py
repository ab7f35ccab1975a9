"""Which tensors of an int8 file have one range in common, and which have a range that LiteRT prescribes."""

from __future__ import annotations

from typing import Any

import keras

from kresnet import checks
from kresnet.deploy.lowering import is_unpadded
from kresnet.graph.trace import Trace
from kresnet.layers.padding import EdgePadding2D, ReflectPadding2D
from kresnet.layers.shuffle import ChannelShuffle

# Their output holds values of their input, and so its range.
SAME_RANGE = (
    *(keras.layers.MaxPooling2D, keras.layers.GlobalMaxPooling2D),
    *(keras.layers.ZeroPadding2D, EdgePadding2D, ReflectPadding2D),
    *(keras.layers.Dropout, keras.layers.Identity, keras.layers.Flatten, keras.layers.Reshape),
    ChannelShuffle,
)
FUSED = ("relu", "relu6")  # LiteRT computes them in the operator before
LIMITS = {"sigmoid": (0.0, 255 / 256), "softmax": (0.0, 255 / 256), "tanh": (-1.0, 127 / 128)}  # LiteRT's own
ACTIVATIONS = ("linear", *FUSED, *LIMITS, "silu")


def activation_of(operation: Any) -> str:
    """Returns the name of a layer's activation, "linear" where it has none.

    Raises:
        ValueError: if it is not known how int8 computes it.
    """
    if isinstance(operation, keras.layers.ReLU):
        plain = not operation.negative_slope and not operation.threshold
        limit = operation.max_value
        name = {None: "relu", 6.0: "relu6"}.get(limit, "relu of another range") if plain else "leaky relu"
    elif isinstance(operation, keras.layers.Softmax):
        name = "softmax" if operation.axis == -1 else f"softmax along axis {operation.axis}"
    else:
        name = getattr(getattr(operation, "activation", None), "__name__", "linear")
    checks.require(
        name in ACTIVATIONS,
        f"quantize_aware knows the activations {', '.join(ACTIVATIONS)}",
        layer=operation.name,
        activation=name,
    )
    return name


def keeps_scale(graph: Trace, operation: Any) -> bool:
    """Tells whether int8 computes an operation, one with a range of its own, only at the scale of its inputs."""
    if type(operation) is not keras.layers.AveragePooling2D:
        return type(operation) is keras.layers.Concatenate
    return operation.pool_size == (1, 1) or not is_unpadded(graph.calls_of(operation))


def source(graph: Trace, tensor: Any) -> Any:
    """Returns where a tensor's range comes from: the operation that computed its values, or an input of the model."""
    maker = graph.maker_of(tensor)
    while maker and type(maker.operation) in SAME_RANGE:
        tensor = maker.inputs[0]
        maker = graph.maker_of(tensor)
    return maker.operation if maker else tensor


def fixed_limits(source: Any) -> tuple[float, float] | None:
    """Returns the range that LiteRT prescribes for the values of a source; None where it may be any."""
    return LIMITS.get(activation_of(source))


def range_groups(graph: Trace) -> list[list[Any]]:
    """Returns, for each range that several tensors must have in common, the sources of these tensors.

    - In an int8 file a concatenation's inputs and output have one scale. Where they have ranges of their own, the
      converter gives the inputs the output's, and the file then rounds once what the network rounds twice.
    - An average pooling has one scale too, unless it becomes a convolution; as one of single pixels, with another
      range, it would round its input again.

    Concatenations are sources themselves; they come after those of their inputs.

    Raises:
        ValueError: if a concatenation takes the values of a sigmoid, tanh or softmax.
    """
    groups: list[dict[int, Any]] = []
    for call in graph.calls:
        if not keeps_scale(graph, call.operation):
            continue
        sources = [source(graph, tensor) for tensor in call.inputs]
        fixed = [one.name for one in sources if fixed_limits(one)]
        if fixed and type(call.operation) is keras.layers.AveragePooling2D:
            continue
        checks.require(
            not fixed,
            "quantize_aware cannot concatenate the values of a sigmoid, tanh or softmax, whose range LiteRT prescribes",
            layer=call.operation.name,
            inputs=fixed,
        )
        joined = {id(one): one for one in (*sources, call.operation)}
        touched = [group for group in groups if group.keys() & joined.keys()]
        groups = [group for group in groups if not group.keys() & joined.keys()]
        groups.append({key: one for group in (*touched, joined) for key, one in group.items()})
    return [list(group.values()) for group in groups]
