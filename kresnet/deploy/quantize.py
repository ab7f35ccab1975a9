"""Quantization-aware training: a network that rounds in training as its int8 `.tflite` will."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops
from rich.progress import track

from kresnet import checks
from kresnet.data import samples
from kresnet.deploy.lowering import is_unpadded
from kresnet.graph.fold import fold_batch_norm
from kresnet.graph.memory import in_parts
from kresnet.graph.rebuild import rebuild
from kresnet.graph.trace import all_layers, trace
from kresnet.layers.fake_quantize import (
    FakeQuantize,
    QuantizedConv2D,
    QuantizedDense,
    QuantizedDepthwiseConv2D,
    observation,
)
from kresnet.layers.grouped import GroupedConv2D
from kresnet.layers.padding import EdgePadding2D


def quantize_aware(model: keras.Model, calibration: Any = None, *, momentum: float = 0.99) -> keras.Model:
    """Returns a copy of a trained network that computes with the rounding of int8, for training it a little further.

    - Weights of convolutions and dense layers are rounded by output channel to 255 steps symmetric about zero, as wide
      as the channel's largest weight. Gradients pass the rounding unchanged.
    - Activations are rounded to 256 steps of one range a tensor, where a `.tflite` has a tensor: behind a convolution,
      dense layer or sum together with the ReLU or ReLU6 that follows; behind a product and a mean; and at the input.
      Ranges are moving averages of the smallest and largest values, updated in training only.
    - Batch norms are folded first (`kresnet.deploy.fold_batch_norm`), and the folded weights train. Jacob et al. keep
      them in training and round weights folded with each batch's statistics; Krishnamoorthi (section 3.2.2) finds that
      their jitter costs accuracy, and freezes the statistics after a while. A trained network that is tuned for some
      epochs can start there: what trains is then what is deployed, and nothing is left to be folded. Norms that no
      convolution precedes become 1x1 depthwise convolutions, as does the rescaling of pixels, which does not train.

    Train it with a tenth of the first learning rate or less: without norms, a large rate destroys the network.
    `kresnet.export(..., quantize="int8")` writes it with the ranges that it holds, without calibration.

    Args:
        model: a trained functional model of ours; it stays as it is. On any backend; export needs TensorFlow's.
        calibration: images whose smallest and largest values are the first ranges, 0 to 255 where the network takes
            pixels: an array (n, height, width, channels), a tuple (images, labels), or an iterable of batches, of
            images or (images, labels), which is read once and whole. None: the first training batch gives the ranges,
            and before it the network is of no use.
        momentum: share of the old range that a training step keeps, in [0, 1).

    Returns:
        A new, uncompiled functional model with the outputs' structure of `model`. Layers with weights keep their names.
        A softmax or sigmoid at an output is not rounded, so that the loss stays smooth.

    Raises:
        ValueError: if the model is not functional, has a layer or activation of which it is not known how int8
            computes it, or does not take the images.

    Source: Jacob et al. 2018, arXiv:1712.05877, section 3; Krishnamoorthi 2018, arXiv:1806.08342, section 3.
    """
    momentum = checks.number("momentum", momentum, 0, 1, "a share in [0, 1)")
    checks.require(not is_quantize_aware(model), "`model` is quantization-aware already", model=model)
    folded = fold_batch_norm(model)
    new = _Rewrite(folded, momentum).run()
    if calibration is not None:
        batches, split = samples.batches(calibration, model.inputs[0].shape[1:], "calibration"), in_parts(new)
        with observation():
            for images, _ in track(batches, "Calibrating", transient=True):
                for part in split(images):
                    new(part, training=False)
    return new


def is_quantize_aware(model: Any) -> bool:
    """Tells whether a model came from `quantize_aware`, so that it holds its own int8 ranges."""
    return isinstance(model, keras.Model) and any(isinstance(layer, FakeQuantize) for layer in all_layers(model))


_QUANTIZED = {
    keras.layers.Conv2D: QuantizedConv2D,
    GroupedConv2D: QuantizedConv2D,
    keras.layers.DepthwiseConv2D: QuantizedDepthwiseConv2D,
    keras.layers.Dense: QuantizedDense,
}
# Their output has their input's range.
_SAME_RANGE = (
    *(keras.layers.MaxPooling2D, keras.layers.AveragePooling2D, keras.layers.ZeroPadding2D, EdgePadding2D),
    *(keras.layers.Dropout, keras.layers.Identity, keras.layers.Flatten, keras.layers.Reshape),
)
_NEW_RANGE = (keras.layers.Add, keras.layers.Multiply, keras.layers.GlobalAveragePooling2D)
_FUSED = ("relu", "relu6")  # LiteRT computes them in the operator before
_LIMITS = {"sigmoid": (0.0, 255 / 256), "softmax": (0.0, 255 / 256), "tanh": (-1.0, 127 / 128)}  # LiteRT's own
_ACTIVATIONS = ("linear", *_FUSED, *_LIMITS, "silu")
_PIXELS = (0.0, 255.0)


class _Rewrite:
    """A model without foldable norms, on its way to one that rounds."""

    def __init__(self, model: keras.Model, momentum: float):
        self.model, self.momentum, self.graph = model, momentum, trace(model)
        self.weights: list[tuple[keras.layers.Layer, list[np.ndarray]]] = []

    def run(self) -> keras.Model:
        _, new = rebuild(self.model, self._copy, self._enter)
        for layer, weights in self.weights:
            layer.set_weights(weights)
        return new

    def _enter(self, image: Any) -> Any:
        names = [tensor.name for tensor in self.model.inputs]
        users = self.graph.users[id(self.graph.inputs[names.index(image.name)])]
        pixels = all(user and isinstance(user.operation, keras.layers.Rescaling) for user in users)
        return self._range(image.name, _PIXELS if pixels else None)(image)

    def _copy(self, operation: Any) -> Callable[..., Any]:
        name, kind = operation.name, type(operation)
        function = _function(operation)
        calls = self.graph.calls_of(operation)
        averages = kind is keras.layers.AveragePooling2D and is_unpadded(calls)
        if kind in _SAME_RANGE and not averages:
            layer = kind.from_config(operation.get_config())
            return lambda inputs, **_: layer(inputs)
        if averages:
            core = self._average(operation)
        elif kind in _QUANTIZED:
            core = _QUANTIZED[kind].from_config({**operation.get_config(), "activation": "linear"})
            self.weights.append((core, operation.get_weights()))
        elif kind in (keras.layers.BatchNormalization, keras.layers.Rescaling):
            core = self._depthwise(operation)
        elif kind in _NEW_RANGE:
            core = kind.from_config(operation.get_config())
        elif kind in (keras.layers.Activation, keras.layers.ReLU):
            return self._activation(operation, function, name)
        else:
            raise ValueError(
                "quantize_aware does not know how int8 computes this layer. "
                f"Received: layer={name!r}, class={kind.__name__}"
            )
        if function != "linear":
            activation = self._activation(operation, function, f"{name}_{function}")
            ranged = (lambda x: x) if function in _FUSED else self._range(name)
            return lambda inputs, **_: activation(ranged(core(inputs)))
        if self._is_fused(operation):
            return lambda inputs, **_: core(inputs)
        ranged = self._range(name)
        return lambda inputs, **_: ranged(core(inputs))

    def _activation(self, operation: Any, function: str, name: str) -> Callable[..., Any]:
        is_output = any(None in self.graph.users[id(call.outputs[0])] for call in self.graph.calls_of(operation))
        if function == "silu":
            gate = keras.layers.Activation("sigmoid", name=f"{name}_sigmoid")
            limit, product = self._range(gate.name, _LIMITS["sigmoid"]), keras.layers.Multiply(name=name)
            ranged = self._range(name)
            return lambda inputs, **_: ranged(product([inputs, limit(gate(inputs))]))
        layer = keras.layers.Activation(function, name=name)
        if function in ("softmax", "sigmoid") and is_output:
            return lambda inputs, **_: layer(inputs)
        ranged = self._range(name, _LIMITS.get(function))
        return lambda inputs, **_: ranged(layer(inputs))

    def _is_fused(self, operation: Any) -> bool:
        """Tells whether all that takes the operation's output is one ReLU or ReLU6."""
        calls = self.graph.calls_of(operation)
        takers = [user and user.operation for call in calls for user in self.graph.users.get(id(call.outputs[0]), [])]
        return (
            len(takers) == len(calls)
            and all(isinstance(taker, keras.layers.Activation | keras.layers.ReLU) for taker in takers)
            and all(_function(taker) in _FUSED for taker in takers)
        )

    def _range(self, name: str, limits: tuple[float, float] | None = None) -> FakeQuantize:
        return FakeQuantize(self.momentum, limits, name=f"{name}_range")

    def _average(self, layer: keras.layers.AveragePooling2D) -> keras.layers.Layer:
        """Returns the depthwise convolution that averages windows, for which XNNPACK has integers; it never trains."""
        size, name = layer.pool_size, layer.name
        core = QuantizedDepthwiseConv2D(size, layer.strides, use_bias=False, name=name, dtype=layer.dtype_policy)
        core.trainable = False
        channels = self.graph.calls_of(layer)[0].inputs[0].shape[-1]
        self.weights.append((core, [np.full((*size, channels, 1), 1 / (size[0] * size[1]), "float32")]))
        return core

    def _depthwise(self, layer: Any) -> keras.layers.Layer:
        """Returns the 1x1 depthwise convolution that scales and shifts each channel as a norm or rescaling does."""
        shape = self.graph.calls_of(layer)[0].inputs[0].shape
        checks.require(len(shape) == 4, "quantize_aware scales feature maps only", layer=layer.name, shape=shape)
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
        return core


def _function(operation: Any) -> str:
    """Returns the name of a layer's activation, "linear" where it has none."""
    if isinstance(operation, keras.layers.ReLU):
        plain = not operation.negative_slope and not operation.threshold
        limit = operation.max_value
        name = {None: "relu", 6.0: "relu6"}.get(limit, "relu of another range") if plain else "leaky relu"
    else:
        name = getattr(getattr(operation, "activation", None), "__name__", "linear")
    checks.require(
        name in _ACTIVATIONS,
        f"quantize_aware knows the activations {', '.join(_ACTIVATIONS)}",
        layer=operation.name,
        activation=name,
    )
    return name
