"""Training in less memory: what a block computes inside is computed again when the gradient asks for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import ops

from kresnet import checks
from kresnet.graph.trace import is_functional

Forward = Callable[[Any], Any]


class Segment(NamedTuple):
    """A part of a graph, between tensors that are kept.

    Attributes:
        inputs: the tensors that it takes, each as those whose concatenation it is: these are kept, and it is not.
        outputs: those that it makes for other parts.
        run: from the first to the second.
    """

    inputs: list[list[Any]]
    outputs: list[Any]
    run: keras.Model


def rematerialized(model: keras.Model, part: Callable[[str], str]) -> Forward:
    """Returns a model's forward pass in training, which keeps what lies between its parts, and no more.

    Each part runs a second time in the backward pass, on the same numbers: batch norms move their statistics, and
    dropout its seed, once.

    Args:
        model: a functional model of one input.
        part: from an operation's name to the part that it belongs to.

    Raises:
        ValueError: if the model has no such graph, or its parts are no sequence.

    Source: Chen et al. 2016, arXiv:1604.06174; concatenations are kept as their parts as in Pleiss et al. 2017,
    arXiv:1707.06990.
    """
    checks.require(
        is_functional(model) and len(model.inputs) == 1,
        "Rematerialization needs a functional model of one input",
        model=type(model).__name__,
    )
    found = _segments(model, part)

    def forward(images: Any) -> Any:
        values = {id(model.inputs[0]): images}
        for segment in found:
            given = [[values[id(leaf)] for leaf in leaves] for leaves in segment.inputs]
            made = _once_more(segment, given)
            values |= {id(tensor): value for tensor, value in zip(segment.outputs, made, strict=True)}
        return keras.tree.map_structure(lambda tensor: _joined(values, _leaves(tensor)), model.output)

    return forward


def _joined(values: dict[int, Any], leaves: list[Any]) -> Any:
    found = [values[id(leaf)] for leaf in leaves]
    return found[0] if len(found) == 1 else ops.concatenate(found, axis=-1)


def _once_more(segment: Segment, given: list[list[Any]]) -> list[Any]:
    """Runs a segment so that its gradient runs it again."""
    trained, others = segment.run.trainable_variables, segment.run.non_trainable_variables
    # As they are before the step moves them. TensorFlow wants no whole numbers, such as dropout's seeds, as arguments.
    state = [ops.copy(variable) for variable in others]

    def run(given: list[list[Any]], weights: list[Any]) -> tuple[list[Any], list[Any]]:
        known = [*zip(trained, weights, strict=True), *zip(others, state, strict=True)]
        with keras.StatelessScope(state_mapping=known) as scope:
            inputs = [leaves[0] if len(leaves) == 1 else ops.concatenate(leaves, axis=-1) for leaves in given]
            outputs = segment.run(inputs if len(inputs) > 1 else inputs[0], training=True)
        return keras.tree.flatten(outputs), [scope.get_current_value(variable) for variable in others]

    outputs, moved = keras.remat(run)(given, [ops.copy(variable) for variable in trained])
    for variable, value in zip(others, moved, strict=True):
        variable.assign(value)
    return outputs


def _segments(model: keras.Model, part: Callable[[str], str]) -> list[Segment]:
    """Cuts a graph into its parts, in their order."""
    nodes = [node for _, level in sorted(model._nodes_by_depth.items(), reverse=True) for node in level]
    nodes = [node for node in nodes if not node.is_input and not _is_joint(node.operation)]
    parts: dict[str, list[Any]] = {}
    for node in nodes:
        parts.setdefault(part(node.operation.name), []).append(node)
    maker = {id(tensor): name for name, group in parts.items() for node in group for tensor in node.outputs}
    wanted = {id(leaf) for tensor in model.outputs for leaf in _leaves(tensor)}
    takes = {name: [] for name in parts}
    for name, group in parts.items():
        for tensor in (tensor for node in group for tensor in node.input_tensors):
            leaves = _leaves(tensor)
            if len(leaves) > 1 or maker.get(id(tensor)) != name:
                if all(tensor is not other for other in takes[name]):
                    takes[name].append(tensor)
                wanted |= {id(leaf) for leaf in leaves if maker.get(id(leaf)) != name}
    found, there = [], {id(tensor) for tensor in model.inputs}
    for name, group in parts.items():
        inputs = [_leaves(tensor) for tensor in takes[name]]
        checks.require(
            all(id(leaf) in there for leaves in inputs for leaf in leaves),
            "The parts of this network are no sequence",
            model=model.name,
            part=name,
        )
        outputs = [tensor for node in group for tensor in node.outputs if id(tensor) in wanted]
        there |= {id(tensor) for tensor in outputs}
        found.append(Segment(inputs, outputs, keras.Model(takes[name], outputs)))
    return found


def _is_joint(operation: Any) -> bool:
    return isinstance(operation, keras.layers.Concatenate) and operation.axis in (-1, 3)


def _leaves(tensor: Any) -> list[Any]:
    """Returns the tensors of which one is the concatenation along its channels: mostly itself alone."""
    operation, node, _ = tensor._keras_history
    if not _is_joint(operation):
        return [tensor]
    return [leaf for taken in operation._inbound_nodes[node].input_tensors for leaf in _leaves(taken)]
