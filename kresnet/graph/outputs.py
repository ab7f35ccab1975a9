"""What the numbers are that a model gives for each class."""

from __future__ import annotations

import warnings

import keras

from kresnet.graph.trace import functional, is_functional, last_operation


def output_kind(model: keras.Model) -> str:
    """Returns what a model ends in: "softmax", "sigmoid" or "logits", which is anything else.

    Args:
        model: a Keras model. One without a graph of layers is taken to give "softmax", as `model.predict` of a
            classifier is expected to.
    """
    if not is_functional(functional(model)):
        return "softmax"
    last = last_operation(model)
    if isinstance(last, keras.layers.Softmax):
        return "softmax"
    activation = getattr(last, "activation", None)
    names = {keras.activations.softmax: "softmax", keras.activations.sigmoid: "sigmoid"}
    return names.get(activation, "logits")


def say_of_two(stacklevel: int = 2) -> None:
    """Warns, wherever it is first so, that a network with one output is taken for one of two classes."""
    warnings.warn(
        "A single output is taken for the probability of class 1, behind a sigmoid, and labels for 0 and 1.",
        stacklevel=stacklevel + 1,
    )
