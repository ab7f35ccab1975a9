"""Growing: a deep network starts from what a shallower one of its kind has learned."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from kresnet import checks
from kresnet.graph.places import part
from kresnet.graph.trace import all_layers
from kresnet.weights.layout import HEAD


def grow(small: keras.Model, large: keras.Model, parts: Sequence[str] | None = None) -> list[str]:
    """Copies the weights of the layers that a network has in common with a smaller one, which was trained before.

    Layers are common if they have the same name and the same shapes; the others of `large` keep their own weights. So
    VGG-11 trains from scratch, and the 13, 16 and 19 layers start from it:

        large = kresnet.VGG16(classes=10)
        kresnet.grow(small, large, ("stage1", "stage2", "stage3", "head"))  # as the paper does; None takes more

    Args:
        small: a trained network.
        large: a network of the same family, with more blocks.
        parts: of which parts to copy: "stem", "stage1", ..., "head" (with the classifier). Default: all.

    Returns:
        The names of the layers that were copied, in the large network's order.

    Raises:
        ValueError: if there is no such part, or nothing in common.

    Source: Simonyan and Zisserman 2015, arXiv:1409.1556, section 3.1.
    """
    known = {layer.name: layer for layer in all_layers(small) if layer.weights}
    layers = [layer for layer in all_layers(large) if layer.weights]
    if parts is not None:
        checks.require(isinstance(parts, list | tuple | set), "`parts` must be a sequence of names", parts=parts)
        there = list(dict.fromkeys(found for layer in layers if (found := _part(layer))))
        for name in parts:
            checks.choice("parts", name, there)
        layers = [layer for layer in layers if _part(layer) in parts]
    common = [layer for layer in layers if layer.name in known and _shapes(layer) == _shapes(known[layer.name])]
    checks.require(len(common) > 0, "The networks have no layer in common", small=small.name, large=large.name)
    for layer in common:
        layer.set_weights(known[layer.name].get_weights())
    return [layer.name for layer in common]


def _part(layer: keras.layers.Layer) -> str | None:
    return "head" if layer.name == HEAD else part(layer.name)


def _shapes(layer: keras.layers.Layer) -> list[tuple[int, ...]]:
    return [tuple(weight.shape) for weight in layer.weights]
