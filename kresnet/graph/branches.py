"""Convolutions side by side, merged into one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras.src.ops.numpy import Add as Sum  # what `a + b` is in a graph

from kresnet import checks
from kresnet.graph.fold import NORMS, affine, fold_batch_norm, foldable, is_linear, values
from kresnet.graph.rebuild import duplicate, flattened, rebuild
from kresnet.graph.trace import Call, Trace, functional, is_functional, tensors_in, trace

_CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)


def reparameterize(model: keras.Model) -> keras.Model:
    """Makes one convolution of those that take the same tensor and are added up, as RepVGG does once it is trained.

    Batch norms are folded first (`kresnet.deploy.fold_batch_norm`). Then an `Add`, or `a + b`, may take of one tensor

    - `Conv2D`, `GroupedConv2D` or `DepthwiseConv2D` without activation and dilation, also behind a `ZeroPadding2D`;
    - a 1x1 convolution of its averages (`AveragePooling2D`), if no window reaches into padding;
    - a batch norm of it, which is a 1x1 convolution of each channel by itself; and the tensor as it is.

    All that have the step in pixels and the groups of the largest of the convolutions, and lie within its windows,
    become that one, by the sum of their kernels: a 3x3 takes up a 1x1 and an identity. What else the sum takes stays in
    it. So do convolutions that are called twice, or whose output something else uses too. A norm of the sum is then
    folded.

    Args:
        model: a functional model, on any backend. It stays as it is.

    Returns:
        A new, uncompiled model with weights of its own, the models in it dissolved into their layers. Inputs, outputs
        and the layers that remain have the names that they had. In inference the outputs differ by rounding only.
        Training it is training without batch normalization.

    Raises:
        ValueError: if the model is not functional.

    Source: Ding et al. 2021, arXiv:2101.03697, section 3.3.
    """
    checks.require(
        is_functional(functional(model)), "`model` must be a functional Keras model", model=type(model).__name__
    )
    model = fold_batch_norm(flattened(functional(model)))
    graph = trace(model)
    while sums := _sums(graph):
        model = _merged(model, graph, sums)
        graph = trace(model)
        if foldable(graph):
            model = fold_batch_norm(model)
            graph = trace(model)
    return model


class _Window(NamedTuple):
    """Which pixels of a map an output of a convolution depends on, as numbers for rows and columns.

    Attributes:
        size: of the kernel.
        step: pixels from the window of one output to that of the next.
        before: pixels of padding before the map.
        padding: before and behind it.
    """

    size: tuple[int, int]
    step: tuple[int, int] = (1, 1)
    before: tuple[int, int] = (0, 0)
    padding: tuple[int, int] = (0, 0)

    def holds(self, other: _Window) -> bool:
        """Tells whether this window has all pixels of the other in it."""
        ends = [[size - before for size, before in zip(one.size, one.before, strict=True)] for one in (self, other)]
        return all(np.greater_equal(self.before, other.before)) and all(np.greater_equal(*ends))

    @property
    def spare(self) -> tuple[int, ...]:
        """How many pixels more or less there are than steps: the same where maps of any size become one size."""
        return tuple(padding - size for padding, size in zip(self.padding, self.size, strict=True))


_PIXEL = _Window((1, 1))


class _Branch(NamedTuple):
    """An input of a sum as a convolution of another tensor.

    Attributes:
        source: the other tensor.
        window: of the convolution.
        layer: the convolution, or a norm; None for the source as it is.
        averaged: whether the layer is a 1x1 convolution of the averages of windows.
    """

    source: Any
    window: _Window
    layer: Any = None
    averaged: bool = False

    @property
    def groups(self) -> int | None:
        """The convolution's; None if it is no layer of its own, so that it may have any."""
        if isinstance(self.layer, keras.layers.DepthwiseConv2D):
            return self.layer.kernel.shape[2]
        return self.layer.groups if isinstance(self.layer, keras.layers.Conv2D) else None

    def weights(self, groups: int, channels: int) -> tuple[np.ndarray, np.ndarray | float]:
        """Returns the kernel, (rows, columns, channels of a group, filters), and what is added to each filter."""
        if self.groups is None:
            scale, shift = (1.0, 0.0) if self.layer is None else affine(self.layer)
            width, filters = channels // groups, np.arange(channels)
            kernel = np.zeros((1, 1, width, channels))
            kernel[0, 0, filters % width, filters] = scale
            return kernel, shift
        kernel = values(self.layer.kernel)
        if isinstance(self.layer, keras.layers.DepthwiseConv2D):
            kernel = kernel.reshape(*kernel.shape[:2], 1, -1)
        if self.averaged:
            kernel = np.tile(kernel / math.prod(self.window.size), (*self.window.size, 1, 1))
        return kernel, values(self.layer.bias) if self.layer.use_bias else 0.0


_Members = dict[int, _Branch]  # by their places among the inputs of a sum


def _sums(graph: Trace) -> dict[int, list[_Members]]:
    """Returns, by the `id` of a sum, the branches that become one, and others that become another one, and so on.

    First of each is the one that takes up the others.
    """
    found = {}
    for call in graph.calls:
        if type(call.operation) in (keras.layers.Add, Sum) and len(graph.calls_of(call.operation)) == 1:
            result = call.outputs[0]
            # What has another shape is broadcast, and what has another type is cast.
            branches = {
                place: _branch(graph, tensor)
                for place, tensor in enumerate(call.inputs)
                if tensor.shape == result.shape and tensor.dtype == result.dtype
            }
            sources = dict.fromkeys(id(branch.source) for branch in branches.values())
            merged = [_members(branches, source) for source in sources]
            if merged := [members for members in merged if len(members) > 1]:
                found[id(call.operation)] = merged
    return found


def _members(branches: _Members, source: int) -> _Members:
    """Returns those of the branches that become one, of those with a source of that `id`."""
    found = {place: branch for place, branch in branches.items() if id(branch.source) == source}
    able = [place for place, branch in found.items() if branch.groups is not None and not branch.averaged]
    if not able:
        return {}
    first = max(able, key=lambda place: math.prod(found[place].window.size))
    fitting = {place: branch for place, branch in found.items() if _fits(branch, found[first])}
    return {first: found[first]} | fitting


def _fits(branch: _Branch, base: _Branch) -> bool:
    """Tells whether a convolution with the base's groups, step and window can do a branch's work."""
    known = None not in base.source.shape[1:3]
    window = branch.window
    return (
        branch.groups in (None, base.groups)
        and window.step == base.window.step
        and base.window.holds(window)
        and (known or window.spare == base.window.spare)
    )


def _branch(graph: Trace, tensor: Any) -> _Branch:
    """Returns what a tensor is as a convolution: of itself if it is no other, or if something else needs it too."""
    call = graph.maker_of(tensor)
    if call and len(graph.users_of(tensor)) == len(graph.calls_of(call.operation)) == 1:
        layer = call.operation
        if type(layer) in NORMS and not call.training and len(tensor.shape) == 4 and layer.axis % 4 == 3:
            return _Branch(call.inputs[0], _PIXEL, layer)
        if isinstance(layer, _CONVOLUTIONS) and is_linear(layer) and layer.data_format == "channels_last":
            return _of_averages(graph, call) or _of_pixels(graph, call) or _Branch(tensor, _PIXEL)
    return _Branch(tensor, _PIXEL)


def _of_pixels(graph: Trace, call: Call) -> _Branch | None:
    layer, taken = call.operation, call.inputs[0]
    padding = _padding(taken, layer)
    if padding is None or layer.dilation_rate != (1, 1):
        return None
    return _Branch(*_unpadded(graph, taken, _Window(layer.kernel_size, layer.strides, *padding)), layer)


def _of_averages(graph: Trace, call: Call) -> _Branch | None:
    layer, before = call.operation, graph.maker_of(call.inputs[0])
    if before is None or type(before.operation) is not keras.layers.AveragePooling2D:
        return None
    pooling, taken = before.operation, before.inputs[0]
    if pooling.data_format != "channels_last" or not layer.kernel_size == layer.strides == (1, 1):
        return None
    if _padding(taken, pooling) != ((0, 0), (0, 0)):  # windows that reach into it have fewer values
        return None
    return _Branch(*_unpadded(graph, taken, _Window(pooling.pool_size, pooling.strides)), layer, averaged=True)


def _padding(taken: Any, layer: Any) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Returns how much a convolution or pooling pads before a map, and on both sides; None if only the map will say."""
    both = []
    sizes = getattr(layer, "kernel_size", None) or layer.pool_size
    for pixels, size, step in zip(taken.shape[1:3], sizes, layer.strides, strict=True):
        if layer.padding == "valid" or size == 1:
            both.append(0)
        elif step == 1:
            both.append(size - 1)
        elif pixels is None:
            return None
        else:
            both.append(max(0, (-(-pixels // step) - 1) * step + size - pixels))
    return tuple(padding // 2 for padding in both), tuple(both)


def _unpadded(graph: Trace, tensor: Any, window: _Window) -> tuple[Any, _Window]:
    """Returns the tensor that a `ZeroPadding2D` before a convolution took, and the convolution's window on that."""
    call = graph.maker_of(tensor)
    if call is None or type(call.operation) is not keras.layers.ZeroPadding2D:
        return tensor, window
    if call.operation.data_format != "channels_last":
        return tensor, window
    sides = call.operation.padding
    before = tuple(own + side[0] for own, side in zip(window.before, sides, strict=True))
    padding = tuple(own + sum(side) for own, side in zip(window.padding, sides, strict=True))
    return call.inputs[0], window._replace(before=before, padding=padding)


def _merged(model: keras.Model, graph: Trace, sums: dict[int, list[_Members]]) -> keras.Model:
    """Returns a copy of a model in which the first of each sum's members takes up the others."""
    groups = [[*members.values()] for merged in sums.values() for members in merged]
    first = {id(base.layer): [base, *others] for base, *others in groups}
    absorbed = {id(branch.layer) for _, *others in groups for branch in others if branch.layer is not None}

    def copy(operation: Any) -> Callable[..., Any]:
        key = id(operation)
        if key in sums:
            gone = {place for members in sums[key] for place in [*members][1:]}
            named = None in graph.users_of(graph.calls_of(operation)[0].outputs[0])
            return _shorter(operation, gone, named)
        if key in absorbed:
            return lambda inputs, **_: inputs  # which nothing takes any more
        if key in first:
            return type(operation).from_config({**operation.get_config(), "use_bias": True})
        return duplicate(operation)

    copies, new = rebuild(model, copy)
    for key, branches in first.items():
        copies[key].set_weights(_added(branches))
    return new


def _shorter(operation: Any, gone: set[int], named: bool) -> Callable[..., Any]:
    """Returns a sum without the inputs at some places; `named` tells whether it is an output, and so has its name."""

    def add(*args: Any, **kwargs: Any) -> Any:
        kept = [tensor for place, tensor in enumerate(tensors_in((args, kwargs))) if place not in gone]
        if len(kept) > 1:
            return duplicate(operation)(kept)
        return keras.layers.Identity(name=operation.name)(kept[0]) if named else kept[0]

    return add


def _added(branches: list[_Branch]) -> list[np.ndarray]:
    """Returns kernel and bias of the first branch's layer that do the work of all."""
    base, *others = branches
    shape = base.layer.kernel.shape
    channels = math.prod(shape[-2:]) if isinstance(base.layer, keras.layers.DepthwiseConv2D) else shape[-1]
    kernel, bias = base.weights(base.groups, channels)
    for other in others:
        part, shift = other.weights(base.groups, channels)
        row, column = (own - its for own, its in zip(base.window.before, other.window.before, strict=True))
        kernel[row : row + part.shape[0], column : column + part.shape[1]] += part
        bias = bias + shift
    return [kernel.reshape(shape), np.broadcast_to(bias, channels)]
