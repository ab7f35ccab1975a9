"""Quantization-aware training: a network that rounds in training as its int8 `.tflite` will."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from kresnet import checks
from kresnet.data import samples
from kresnet.deploy.lowering import adaptive, is_unpadded
from kresnet.deploy.ranges import FUSED, LIMITS, activation_of, fixed_limits, keeps_range, range_groups, source
from kresnet.graph.branches import reparameterize
from kresnet.graph.fold import NORMS
from kresnet.graph.inputs import input_range
from kresnet.graph.memory import in_parts
from kresnet.graph.ranges import RangeCheck
from kresnet.graph.rebuild import duplicate, rebuild
from kresnet.graph.trace import all_layers, trace
from kresnet.layers.depthwise import DepthwiseConv2D
from kresnet.layers.fake_quantize import (
    FakeQuantize,
    QuantizedConv2D,
    QuantizedDense,
    QuantizedDepthwiseConv2D,
    observation,
    round_weights,
)
from kresnet.layers.grouped import GroupedConv2D
from kresnet.layers.response import LocalResponseNormalization
from kresnet.progress import track


def quantize_aware(model: keras.Model, calibration: Any = None, *, momentum: float = 0.99) -> keras.Model:
    """Returns a copy of a trained network that computes with the rounding of int8, for training it a little further.

    - Weights of convolutions and dense layers are rounded by output channel to 255 steps symmetric about zero, as wide
      as the channel's largest weight. Gradients pass the rounding unchanged.
    - Activations are rounded to 256 steps of a range, wherever a `.tflite` has a tensor: after a convolution, dense
      layer or sum together with the ReLU or ReLU6 that follows; after a product and a mean; after a local response
      normalization and an adaptive pooling, which compute in float32 themselves; and at the input. Each tensor has its
      own range, but for the inputs and the output of a concatenation, which int8 computes at one scale: they share the
      union of theirs. In a dense block that is one range for all its maps. Ranges are moving averages of the smallest
      and largest values, updated in training only.
    - Batch norms are folded first, and convolutions side by side merged (`kresnet.reparameterize`); what comes of it
      trains. Jacob et al. keep norms in training and round weights folded with each batch's statistics; Krishnamoorthi
      (section 3.2.2) finds that their jitter costs accuracy, and freezes the statistics after a while. A trained
      network that is tuned for some epochs can start there: what trains is then what is deployed, and nothing is left
      to be folded. Norms that do not follow a convolution become 1x1 depthwise convolutions, as does the rescaling of
      pixels, which does not train.
    - Models within the model are dissolved into their layers.

    Train it with a tenth of the first learning rate or less: without norms, a large rate destroys the network.
    `kresnet.export(..., quantize="int8")` writes it with the ranges that it holds, without calibration.

    Args:
        model: a trained functional model; it stays as it is. On any backend; export needs TensorFlow's.
        calibration: images whose smallest and largest values are the first ranges, 0 to 255 where the network takes
            pixels: an array (n, height, width, channels), a tuple (images, labels), or an iterable of batches, of
            images or (images, labels), which is read once and whole. None: the first training batch sets the ranges,
            and before it the network is of no use.
        momentum: share of the old range that a training step keeps, in [0, 1).

    Returns:
        A new, uncompiled functional model whose outputs have the structure of `model`'s. Layers with weights keep their
        names, as far as they are there.
        A softmax or sigmoid at an output is not rounded, so that the loss stays smooth.

    Raises:
        ValueError: if the model is not functional, if it is not known how int8 computes a layer or activation, or if
            the model does not take the images.

    Source: Jacob et al. 2018, arXiv:1712.05877, section 3; Krishnamoorthi 2018, arXiv:1806.08342, section 3.
    """
    range_momentum = checks.number("momentum", momentum, 0, 1, "a share in [0, 1)")
    checks.require(not is_quantize_aware(model), "`model` is quantization-aware already", model=model)
    new = _Rewrite(reparameterize(model), range_momentum).run()
    if calibration is not None:
        batches, split = samples.batches(calibration, model.inputs[0].shape[1:], "calibration"), in_parts(new)
        in_range = RangeCheck(input_range(model), "calibration", warn=True)  # training will move the ranges
        with observation():
            for images, _ in track(batches, "Calibrating"):
                in_range(images)
                for part in split(images):
                    new(part, training=False)
    return new


def is_quantize_aware(model: Any) -> bool:
    """Tells whether a model came from `quantize_aware`, so that it holds its own int8 ranges."""
    return isinstance(model, keras.Model) and any(isinstance(layer, FakeQuantize) for layer in all_layers(model))


def with_rounded_weights(model: keras.Model) -> keras.Model:
    """Returns a copy of a quantization-aware model whose weights are rounded already, in plain layers.

    A converter computes the rounding of small weights once and for all, but leaves that of large ones, such as a
    VGG's first dense layer, to each run of the file.
    """
    found = {}

    def copy(operation: Any) -> Any:
        kind = _ROUNDED.get(type(operation))
        if kind is None:
            return duplicate(operation)
        found[id(operation)] = operation
        return kind.from_config(operation.get_config())

    copies, new = rebuild(model, copy)
    for key, layer in found.items():
        depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)  # its kernel's last two axes are the channels
        kernel = round_weights(layer.kernel, tuple(range(len(layer.kernel.shape) - (2 if depthwise else 1))))
        copies[key].set_weights([ops.convert_to_numpy(kernel), *layer.get_weights()[1:]])
    return new


_QUANTIZED = {
    keras.layers.Conv2D: QuantizedConv2D,
    GroupedConv2D: QuantizedConv2D,
    keras.layers.DepthwiseConv2D: QuantizedDepthwiseConv2D,
    DepthwiseConv2D: QuantizedDepthwiseConv2D,
    keras.layers.Dense: QuantizedDense,
}
_ROUNDED = {
    QuantizedConv2D: GroupedConv2D,
    QuantizedDepthwiseConv2D: keras.layers.DepthwiseConv2D,
    QuantizedDense: keras.layers.Dense,
}
_NEW_RANGE = (
    *(keras.layers.Add, keras.layers.Multiply, keras.layers.GlobalAveragePooling2D),
    LocalResponseNormalization,  # in float32 between two ranges: XNNPACK has no logarithm of integers
)
_PIXELS = (0.0, 255.0)


class _Rewrite:
    """The rewriting of a model without foldable norms into one that rounds."""

    def __init__(self, model: keras.Model, range_momentum: float):
        self.model, self.range_momentum, self.graph = model, range_momentum, trace(model)
        self.weights: list[tuple[keras.layers.Layer, list[np.ndarray]]] = []
        self.shared_ranges: dict[int, Callable[[Any], Any]] = {}  # by the `id` of the source of a tensor's range
        for group in range_groups(self.graph):
            # A concatenation only moves what was rounded to the range already.
            members = [one for one in group if not isinstance(one, keras.layers.Concatenate)]
            layer = FakeQuantize(range_momentum, members=len(members), name=f"{group[-1].name}_range")
            for member, one in enumerate(members):
                self.shared_ranges[id(one)] = functools.partial(layer, member=member)

    def run(self) -> keras.Model:
        _, new = rebuild(self.model, self._copy, self._enter)
        for layer, weights in self.weights:
            layer.set_weights(weights)
        return new

    def _enter(self, image: Any) -> Any:
        names = [tensor.name for tensor in self.model.inputs]
        tensor = self.graph.inputs[names.index(image.name)]
        users = self.graph.users_of(tensor)
        pixels = all(user and isinstance(user.operation, keras.layers.Rescaling) for user in users)
        return self._range(tensor, image.name, _PIXELS if pixels else None)(image)

    def _copy(self, operation: Any) -> Callable[..., Any]:
        name, kind, function = operation.name, type(operation), activation_of(operation)
        if keeps_range(operation) or kind is keras.layers.Concatenate:
            layer = duplicate(operation)
            return lambda inputs, **_: layer(inputs)
        if kind is keras.layers.AveragePooling2D:
            return self._average(operation)
        if kind in (keras.layers.Activation, keras.layers.ReLU, keras.layers.Softmax):
            return self._activation(operation, function, name)
        if kind in _QUANTIZED:
            core = _QUANTIZED[kind].from_config({**operation.get_config(), "activation": "linear"})
            self.weights.append((core, operation.get_weights()))
        elif kind in (*NORMS, keras.layers.Rescaling):
            core = self._depthwise(operation)
        elif kind in _NEW_RANGE:
            core = duplicate(operation)
        elif kind is keras.layers.AdaptiveAveragePooling2D:
            core = adaptive(operation)
        else:
            raise ValueError(
                "quantize_aware does not know how int8 computes this layer. "
                f"Received: layer={name!r}, class={kind.__name__}"
            )
        if function != "linear":
            activation = self._activation(operation, function, f"{name}_{function}")
            ranged = (lambda x: x) if function in FUSED else FakeQuantize(self.range_momentum, name=f"{name}_range")
            return lambda inputs, **_: activation(ranged(core(inputs)))
        if self._is_fused(operation):
            return lambda inputs, **_: core(inputs)
        ranged = self._range(operation, name)
        return lambda inputs, **_: ranged(core(inputs))

    def _activation(self, operation: Any, function: str, name: str) -> Callable[..., Any]:
        is_output = any(None in self.graph.users_of(call.outputs[0]) for call in self.graph.calls_of(operation))
        if function == "silu":
            gate = keras.layers.Activation("sigmoid", name=f"{name}_sigmoid")
            limit = FakeQuantize(limits=LIMITS["sigmoid"], name=f"{gate.name}_range")
            product, ranged = keras.layers.Multiply(name=name), self._range(operation, name)
            return lambda inputs, **_: ranged(product([inputs, limit(gate(inputs))]))
        layer = keras.layers.Activation(function, name=name)
        if function in ("softmax", "sigmoid") and is_output:
            return lambda inputs, **_: layer(inputs)
        ranged = self._range(operation, name, LIMITS.get(function))
        return lambda inputs, **_: ranged(layer(inputs))

    def _is_fused(self, operation: Any) -> bool:
        """Tells whether the only user of each of the operation's outputs is a ReLU or ReLU6."""
        calls = self.graph.calls_of(operation)
        users = [user and user.operation for call in calls for user in self.graph.users_of(call.outputs[0])]
        return (
            len(users) == len(calls)
            and all(isinstance(user, keras.layers.Activation | keras.layers.ReLU) for user in users)
            and all(activation_of(user) in FUSED for user in users)
        )

    def _range(self, source: Any, name: str, limits: tuple[float, float] | None = None) -> Callable[[Any], Any]:
        """Returns what rounds the values of a source: a layer of its own, or one that it shares with others."""
        shared = self.shared_ranges.get(id(source))
        return shared or FakeQuantize(self.range_momentum, limits, name=f"{name}_range")

    def _average(self, pooling: keras.layers.AveragePooling2D) -> Callable[..., Any]:
        """Returns the depthwise convolution that averages windows, which XNNPACK computes in integers.

        It never trains. Windows that reach into the padding have fewer values: of these there is only the pooling.
        """
        calls = self.graph.calls_of(pooling)
        limits = fixed_limits(source(self.graph, calls[0].inputs[0]))
        if is_unpadded(calls):
            size, channels, limits = pooling.pool_size, calls[0].inputs[0].shape[-1], None
            core = QuantizedDepthwiseConv2D(
                size, pooling.strides, use_bias=False, name=pooling.name, dtype=pooling.dtype_policy
            )
            core.trainable = False
            self.weights.append((core, [np.full((*size, channels, 1), 1 / (size[0] * size[1]), "float32")]))
        else:
            core = duplicate(pooling)
        ranged = self._range(pooling, pooling.name, limits)
        return lambda inputs, **_: ranged(core(inputs))

    def _depthwise(self, layer: Any) -> Callable[[Any], Any]:
        """Returns the 1x1 depthwise convolution that scales and shifts each channel as a norm or rescaling does.

        A vector becomes a map of one pixel for it.
        """
        shape = self.graph.calls_of(layer)[0].inputs[0].shape
        checks.require(
            len(shape) in (2, 4), "quantize_aware scales feature maps and vectors only", layer=layer.name, shape=shape
        )
        if isinstance(layer, keras.layers.Rescaling):
            scale, shift = layer.scale, layer.offset
        else:
            numbers = {weight.name: ops.convert_to_numpy(weight) for weight in layer.weights}
            scale = numbers.get("gamma", 1.0) / np.sqrt(numbers["moving_variance"] + layer.epsilon)
            shift = numbers.get("beta", 0.0) - numbers["moving_mean"] * scale
        core = QuantizedDepthwiseConv2D(1, name=layer.name, dtype=layer.dtype_policy)
        core.trainable = layer.trainable and not isinstance(layer, keras.layers.Rescaling)
        scale, shift = (np.broadcast_to(np.asarray(value, "float32"), shape[-1:]) for value in (scale, shift))
        self.weights.append((core, [scale.reshape(1, 1, -1, 1), shift]))
        if len(shape) == 4:
            return core
        to_map = keras.layers.Reshape((1, 1, shape[-1]), name=f"{layer.name}_map")
        to_vector = keras.layers.Reshape((shape[-1],), name=f"{layer.name}_vector")
        return lambda x: to_vector(core(to_map(x)))
