"""A block of a network as a small graph of parts: convolutions, norms and activations, sums. `tools/draw.py` draws it.

It is read off the network that a builder makes, so that no picture can differ from what is computed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import keras
from networks import without_weights

import kresnet
from kresnet.graph.trace import Call, trace

TIMES = "\u00d7"

# What each kind of layer is called in a picture. Those that only fit shapes, or act in training alone, are left out.
PASSED_OVER = ("ZeroPadding2D", "EdgePadding2D", "Dropout", "ChannelShuffle")
JOINS = {"Add": "+", "Multiply": TIMES, "Concatenate": "concatenate"}
ACTIVATIONS = {
    "relu": "ReLU",
    "relu6": "ReLU6",
    "silu": "swish",
    "hard_silu": "hard-swish",
    "hard_sigmoid": "hard sigmoid",
}


@dataclasses.dataclass
class Part:
    """A box of a picture."""

    kind: str  # "end", "conv", "small" or "join": its colour and shape
    text: str
    sources: list[int]  # places, in the list of parts, of what it takes


def parts(key: str, prefixes: str | Iterable[str], **fields) -> list[Part]:
    """Returns the parts of a network's block, the input first and the output last, in the order in which they run.

    Args:
        key: of the network, in the registry.
        prefixes: what the names of the block's layers begin with, one or several.
        **fields: of the network's spec, changed.
    """
    with without_weights():
        model = kresnet.create_model(key, **fields)
    prefixes = (prefixes,) if isinstance(prefixes, str) else tuple(prefixes)
    calls = [call for call in trace(model).calls if call.operation.name.startswith(prefixes)]
    if not calls:
        raise ValueError(f"{key} has no layer of such a name. Received: prefixes={prefixes!r}")
    made = {id(tensor) for call in calls for tensor in call.outputs}
    entering = {id(t): t for call in calls for t in call.inputs if id(t) not in made}
    found = [Part("end", f"{_channels(tensor)} channels", []) for tensor in entering.values()]
    place = {key: i for i, key in enumerate(entering)}
    for call in calls:
        sources = [place[id(tensor)] for tensor in call.inputs]
        kind, text = described(call)
        if kind:
            found.append(Part(kind, text, sources))
        place[id(call.outputs[0])] = len(found) - 1 if kind else sources[0]
    found.append(Part("end", f"{_channels(calls[-1].outputs[0])} channels", [place[id(calls[-1].outputs[0])]]))
    return merged(found)


def described(call: Call) -> tuple[str, str]:
    """Returns a layer's kind and text; no kind if a picture leaves it out."""
    layer, name = call.operation, type(call.operation).__name__
    step = _step(layer)
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return "conv", f"{_window(layer.kernel_size)} depthwise{step}"
    if isinstance(layer, keras.layers.Conv2D):
        groups = f", {layer.groups} groups" if layer.groups > 1 else ""
        function = keras.activations.serialize(layer.activation)
        after = "" if function == "linear" else f", {ACTIVATIONS.get(function, function)}"
        return "conv", f"{_window(layer.kernel_size)}, {layer.filters}{groups}{step}{after}"
    if name in JOINS:
        return "join", JOINS[name]
    if name == "BatchNormalization":
        return "small", "norm"
    if isinstance(layer, keras.layers.GlobalAveragePooling2D):
        return "small", "mean of each channel"
    if isinstance(layer, keras.layers.MaxPooling2D | keras.layers.AveragePooling2D):
        if layer.pool_size == (1, 1):
            return "small", f"every {layer.strides[0]}nd pixel"
        kind = "max" if isinstance(layer, keras.layers.MaxPooling2D) else "average"
        return "small", f"{_window(layer.pool_size)} {kind}{step}"
    if isinstance(layer, keras.layers.Rescaling):
        return "small", f"times {layer.scale:g}"
    if isinstance(layer, keras.layers.Activation | keras.layers.ReLU):
        function = "relu" if name == "ReLU" else keras.activations.serialize(layer.activation)
        return "small", ACTIVATIONS.get(function, function)
    if name == "LocalResponseNormalization":
        return "small", "local response norm"
    if name in PASSED_OVER:
        return "", ""
    raise ValueError(f"No picture shows such a layer. Received: layer={layer.name!r}, a {name}")


def merged(found: list[Part]) -> list[Part]:
    """Joins a norm and the activation behind it into one box, where nothing else takes the norm."""
    users = [[i for i, part in enumerate(found) if j in part.sources] for j in range(len(found))]
    kept: list[Part] = []
    place: dict[int, int] = {}
    for i, part in enumerate(found):
        (source, *others) = part.sources or [None]
        alone = source is not None and not others and users[source] == [i]
        if alone and part.kind == "small" and found[source].text == "norm":
            kept[place[source]].text = f"norm, {part.text}"
            place[i] = place[source]
        else:
            kept.append(Part(part.kind, part.text, [place[j] for j in part.sources]))
            place[i] = len(kept) - 1
    return kept


def _channels(tensor) -> int:
    return tensor.shape[-1]


def _window(size: tuple[int, int]) -> str:
    return f"{size[0]}{TIMES}{size[1]}"


def _step(layer) -> str:
    step = getattr(layer, "strides", (1, 1))[0]
    return f", step {step}" if step > 1 else ""
