"""The few layers that Keras lacks, and the calls that networks are written in: `conv`, `norm`, `squeeze_excite`, ..."""

from __future__ import annotations

import functools
import math
from typing import Any

import keras
import numpy as np
from keras import ops

from kresnet import checks
from kresnet.grouped import GroupedConv2D

# Elementwise, so that any network can have them. By Keras's names.
ACTIVATIONS = (
    *("relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "swish", "mish"),
    *("hard_silu", "hard_swish", "softplus", "softsign", "tanh", "sigmoid", "hard_sigmoid", "linear"),
)


@keras.saving.register_keras_serializable(package="kresnet")
class VarianceScaling(keras.initializers.VarianceScaling):
    """Keras's VarianceScaling, drawn by NumPy.

    On the JAX backend Keras's own compiles a program for every weight shape, which is most of the time that building a
    network takes. The distributions are the same and the numbers differ; one seed gives the same numbers under every
    backend.

    Args: as `keras.initializers.VarianceScaling`.
    """

    def __call__(self, shape, dtype=None):
        receptive_field = math.prod(shape[:-2])
        fan_in, fan_out = receptive_field * shape[-2], receptive_field * shape[-1]
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, fan)
        rng = np.random.default_rng(self._entropy())
        if self.distribution == "uniform":
            limit = math.sqrt(3 * variance)
            values = rng.uniform(-limit, limit, shape).astype("float32")
        else:
            values = rng.standard_normal(shape, dtype="float32")
            if self.distribution == "truncated_normal":
                while (outside := np.abs(values) > 2).any():
                    values[outside] = rng.standard_normal(np.count_nonzero(outside), dtype="float32")
                variance /= 0.87962566103423978**2  # the variance that cutting at two deviations leaves
            values *= np.float32(math.sqrt(variance))
        return ops.convert_to_tensor(values, dtype=dtype or keras.config.floatx())

    def _entropy(self) -> Any:
        if isinstance(self.seed, keras.random.SeedGenerator):
            return np.asarray(ops.convert_to_numpy(self.seed.next())).tolist()
        return self.seed


def he_normal() -> VarianceScaling:
    """Returns a new He initializer: zero mean, variance 2 / fan-in (He et al. 2015, arXiv:1502.01852, section 2.2)."""
    return VarianceScaling(scale=2.0, mode="fan_in", distribution="untruncated_normal")


@keras.saving.register_keras_serializable(package="kresnet")
class EdgePadding2D(keras.layers.ZeroPadding2D):
    """`keras.layers.ZeroPadding2D`, but repeating the outermost pixels; by at most one pixel on each side.

    Before a 3x3 max pooling this equals padding with minus infinity, as PyTorch's pooling does, with finite numbers:
    each repeated pixel lies only in windows that its original lies in.
    """

    def call(self, inputs):
        # Slices, and not ops.pad(mode="symmetric"): that is an operator which XNNPACK lacks.
        (top, bottom), (left, right) = self.padding
        rows = [inputs[:, :1]] * top + [inputs] + [inputs[:, -1:]] * bottom
        x = ops.concatenate(rows, axis=1) if len(rows) > 1 else inputs
        columns = [x[:, :, :1]] * left + [x] + [x[:, :, -1:]] * right
        return ops.concatenate(columns, axis=2) if len(columns) > 1 else x


@keras.saving.register_keras_serializable(package="kresnet")
class PaddedIdentity(keras.layers.Layer):
    """The parameter-free shortcut: every `strides`-th pixel, and zeros for the channels that are new.

    Args:
        filters: channels of the output, at least those of the input. The new ones are split before and behind the old.
        strides: step in pixels between those that are kept.

    Source: He et al. 2015, arXiv:1512.03385, section 3.3, option A.
    """

    def __init__(self, filters: int, strides: int = 1, **kwargs: Any):
        super().__init__(**kwargs)
        self.filters = checks.integer("filters", filters)
        self.strides = checks.integer("strides", strides)

    def call(self, inputs):
        before, behind = self._new_channels(inputs.shape[-1])
        # A .tflite would keep a slice that takes everything.
        kept = inputs[:, :: self.strides, :: self.strides, :] if self.strides > 1 else inputs
        return ops.pad(kept, ((0, 0), (0, 0), (0, 0), (before, behind)))

    def _new_channels(self, channels: int) -> tuple[int, int]:
        new = self.filters - channels
        checks.require(new >= 0, "A padded identity cannot drop channels", filters=self.filters, channels=channels)
        return new // 2, new - new // 2

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        self._new_channels(channels)
        height, width = (size and -(-size // self.strides) for size in (height, width))
        return batch, height, width, self.filters

    def get_config(self):
        return {**super().get_config(), "filters": self.filters, "strides": self.strides}


def conv(
    x,
    filters: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    dilation: int = 1,
    padding: str = "symmetric",
    zero: bool = False,
    name: str,
):
    """Convolves, without bias.

    Args:
        x: feature map, (batch, height, width, channels).
        filters: channels of the output, at least 1.
        kernel: side of the square kernel in pixels, odd.
        stride: step in pixels. 1 where `dilation` is not.
        groups: groups of channels that are convolved apart; divides the channels of input and output.
        dilation: step in pixels between the kernel's taps.
        padding: "symmetric": kernel // 2 on every side, as PyTorch pads; "same": Keras's.
        zero: whether the kernel starts as zeros instead of He's numbers.
        name: the layer's name; the padding's, where a layer of its own does it, is `<name>_pad`.

    Returns:
        A tensor of shape (batch, ceil(height / stride), ceil(width / stride), filters).
    """
    x, padding = _pad(x, kernel, stride, padding, name)
    layer = functools.partial(GroupedConv2D, groups=groups) if groups > 1 else keras.layers.Conv2D
    return layer(
        filters,
        kernel,
        strides=stride,
        padding=padding,
        dilation_rate=dilation,
        use_bias=False,
        kernel_initializer="zeros" if zero else he_normal(),
        name=name,
    )(x)


def depthwise_conv(x, kernel: int, *, stride: int = 1, padding: str = "symmetric", name: str):
    """Convolves each channel by itself, without bias. Arguments and result: as `conv`'s."""
    x, padding = _pad(x, kernel, stride, padding, name)
    # One channel comes in to each that goes out: to Keras, whose kernel is (h, w, channels, 1), that is its fan-out.
    initializer = VarianceScaling(scale=2.0, mode="fan_out", distribution="untruncated_normal")
    return keras.layers.DepthwiseConv2D(
        kernel, strides=stride, padding=padding, use_bias=False, depthwise_initializer=initializer, name=name
    )(x)


def _pad(x, kernel: int, stride: int, padding: str, name: str):
    """Returns x, padded where no `padding` of Keras's does it, and the one that the convolution is to have."""
    if padding == "same" or stride == 1 or _is_odd(x):
        return x, "same"
    return (keras.layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x) if kernel > 1 else x), "valid"


def max_pool(x, *, padding: str = "symmetric", nonnegative: bool, name: str):
    """Takes the maximum of 3x3 windows, 2 pixels apart.

    Args:
        x: feature map, (batch, height, width, channels).
        padding: "symmetric": the windows at the edge reach one pixel beyond it on every side, as PyTorch's do;
            "ceil": only beyond the bottom and the right, and only where pixels would be left out, as Caffe's do.
        nonnegative: whether no value of `x` is below zero, as behind a ReLU: then padding with zeros, which is the
            faster, is the same as padding with minus infinity.
        name: the layer's name; the padding's, where there is one, is `<name>_pad`.

    Returns:
        A tensor of shape (batch, ceil(height / 2), ceil(width / 2), channels); "ceil": (height - 1) / 2, rounded up.
    """
    odd, even = _is_odd(x), all(size is not None and size % 2 == 0 for size in x.shape[1:3])
    same = odd if padding == "symmetric" else even
    if not same and not (padding == "ceil" and odd):
        pad = keras.layers.ZeroPadding2D if nonnegative else EdgePadding2D
        x = pad(((1, 1),) * 2 if padding == "symmetric" else ((0, 1),) * 2, name=f"{name}_pad")(x)
    return keras.layers.MaxPooling2D(3, 2, "same" if same else "valid", name=name)(x)


def _is_odd(x) -> bool:
    """Tells whether height and width are known and odd: then "same" padding at stride 2 pads both sides alike."""
    return all(size is not None and size % 2 == 1 for size in x.shape[1:3])


def norm(x, *, epsilon: float, momentum: float, zero_gamma: bool = False, name: str):
    """Batch-normalizes; `momentum` is Keras's (the share of the old statistics that a step keeps)."""
    gamma = "zeros" if zero_gamma else "ones"
    return keras.layers.BatchNormalization(momentum=momentum, epsilon=epsilon, gamma_initializer=gamma, name=name)(x)


def activation(x, function: str, *, name: str):
    """Applies a Keras activation by its name, as a layer of its own."""
    return keras.layers.Activation(function, name=name)(x)


def squeeze_excite(x, hidden: int, *, activation: str = "relu", name: str):
    """Rescales each channel by a learned gate in (0, 1), computed from all channels' means.

    Args:
        x: feature map, (batch, height, width, channels).
        hidden: channels of the squeezed layer, at least 1.
        activation: of the squeezed layer.
        name: prefix of the layers' names.

    Returns:
        A tensor of x's shape and dtype.

    Raises:
        ValueError: if hidden < 1.

    Source: Hu et al. 2018, arXiv:1709.01507, section 3.
    """
    checks.integer("hidden", hidden)
    # keepdims keeps the gate a feature map: without it, a .tflite reshapes at every block.
    gate = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(x)
    gate = keras.layers.Conv2D(hidden, 1, activation=activation, kernel_initializer=he_normal(), name=f"{name}_reduce")(
        gate
    )
    gate = keras.layers.Conv2D(
        x.shape[-1], 1, activation="sigmoid", kernel_initializer=he_normal(), name=f"{name}_expand"
    )(gate)
    return keras.layers.Multiply(name=f"{name}_scale")([x, gate])


def drop_path(x, rate: float, *, name: str):
    """In training, zeroes a sample's whole branch with probability `rate` and scales the others by 1 / (1 - rate).

    Source: Huang et al. 2016, arXiv:1603.09382, section 3.
    """
    return keras.layers.Dropout(rate, noise_shape=(None, 1, 1, 1), name=name)(x) if rate else x


def multiplied_depth(blocks: int, multiplier: float) -> int:
    """Returns `multiplier` times as many blocks, rounded up; at least 1."""
    # The product's own rounding (5 * 1.2 = 6.000000000000001) must not add a block.
    return max(1, math.ceil(round(blocks * multiplier, 6)))


def make_divisible(channels: float, divisor: int = 8, keep: float = 0.0) -> int:
    """Returns the multiple of `divisor` nearest to `channels`; at least `divisor`, and at least `keep * channels`."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= keep * channels else rounded + divisor
