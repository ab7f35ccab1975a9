"""The calls that networks are written in: `conv`, `norm`, `squeeze_excite`, ..."""

from __future__ import annotations

import functools
import math

import keras

from kresnet import checks
from kresnet.layers.grouped import GroupedConv2D
from kresnet.layers.initializers import VarianceScaling, he_normal
from kresnet.layers.normalization import BatchNormalization
from kresnet.layers.padding import EdgePadding2D, ReflectPadding2D
from kresnet.layers.response import LocalResponseNormalization

# Elementwise, so that any network can have them. By Keras's names.
ACTIVATIONS = (
    *("relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "swish", "mish"),
    *("hard_silu", "hard_swish", "softplus", "softsign", "tanh", "sigmoid", "hard_sigmoid", "linear"),
)


# Of a 1x1 convolution with a step, of fewer channels, TensorFlow's gradient on a CPU (2.21, oneDNN's) writes beyond its
# memory: at 64 pixels and more a process dies at random. A step of its own computes the same.
FEWEST = 16


def conv(
    x,
    filters: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    dilation: int = 1,
    padding: str | int = "symmetric",
    bias: bool = False,
    zero: bool = False,
    name: str,
):
    """Convolves.

    Args:
        x: feature map, (batch, height, width, channels).
        filters: channels of the output, at least 1.
        kernel: side of the square kernel in pixels, odd.
        stride: step in pixels; 1 where `dilation` is above 1.
        groups: number of channel groups that are convolved separately; divides the channels of input and output.
        dilation: step in pixels between the kernel's taps.
        padding: "symmetric": kernel // 2 on every side, as PyTorch pads; "same": Keras's; or a number of pixels, at
            least 0, on every side.
        bias: whether each output channel has a bias, initially 0; networks with norms need none.
        zero: whether the kernel starts as zeros, not with He's initialization.
        name: the layer's name; where a separate layer pads, its name is `<name>_pad`.

    Returns:
        A tensor of shape (batch, ceil(height / stride), ceil(width / stride), filters); with a number p of pixels,
        floor((height + 2 p - kernel) / stride) + 1, and so the width.
    """
    if kernel == 1 and stride > 1 and x.shape[-1] < FEWEST:
        x, stride = keras.layers.AveragePooling2D(1, stride, name=f"{name}_step")(x), 1
    x, padding = _pad(x, kernel, stride, padding, name)
    layer = functools.partial(GroupedConv2D, groups=groups) if groups > 1 else keras.layers.Conv2D
    return layer(
        filters,
        kernel,
        strides=stride,
        padding=padding,
        dilation_rate=dilation,
        use_bias=bias,
        kernel_initializer="zeros" if zero else he_normal(),
        name=name,
    )(x)


def depthwise_conv(x, kernel: int, *, stride: int = 1, dilation: int = 1, padding: str = "symmetric", name: str):
    """Convolves each channel separately, without bias. Arguments and result: as in `conv`."""
    x, padding = _pad(x, kernel, stride, padding, name)
    # Each output channel has one input channel. Keras takes that number, its kernel's last axis, for the fan-out.
    initializer = VarianceScaling(scale=2.0, mode="fan_out", distribution="untruncated_normal")
    return keras.layers.DepthwiseConv2D(
        kernel,
        strides=stride,
        padding=padding,
        dilation_rate=dilation,
        use_bias=False,
        depthwise_initializer=initializer,
        name=name,
    )(x)


def _pad(x, kernel: int, stride: int, padding: str | int, name: str):
    """Returns x, padded where none of Keras's paddings does it, and the padding that the convolution is to have."""
    pixels = kernel // 2 if isinstance(padding, str) else padding
    if padding == "same" or (pixels == kernel // 2 and (stride == 1 or _is_odd(x))):
        return x, "same"
    return (keras.layers.ZeroPadding2D(pixels, name=f"{name}_pad")(x) if pixels else x), "valid"


def max_pool(x, *, padding: str = "symmetric", nonnegative: bool, name: str):
    """Takes the maximum of 3x3 windows, 2 pixels apart.

    Args:
        x: feature map, (batch, height, width, channels).
        padding: "symmetric": the windows at the edge reach one pixel beyond it on every side, as PyTorch's do;
            "ceil": only beyond the bottom and the right, and only where pixels would be left out, as Caffe's do.
        nonnegative: whether no value of `x` is below zero, as after a ReLU: then padding with zeros, which is faster,
            equals padding with minus infinity.
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


def padded_identity(x, filters: int, *, stride: int = 1, name: str):
    """The parameter-free shortcut: every `stride`-th pixel, and zeros for the channels that are new.

    Keras's own layers express it, so that files which hold it load where kresnet is not imported.

    Args:
        x: feature map, (batch, height, width, channels).
        filters: channels of the output, at least those of `x`. Half of the new ones come before the old ones.
        stride: step in pixels between the pixels that are kept.
        name: the padding layer's name; the layer that skips pixels is `<name>_step`.

    Returns:
        A tensor of shape (batch, ceil(height / stride), ceil(width / stride), filters).

    Raises:
        ValueError: if `filters` is less than the channels of `x`.

    Source: He et al. 2015, arXiv:1512.03385, section 3.3, option A.
    """
    new = filters - x.shape[-1]
    checks.require(new >= 0, "A padded identity cannot drop channels", filters=filters, channels=x.shape[-1])
    if stride > 1:
        x = keras.layers.AveragePooling2D(1, stride, name=f"{name}_step")(x)
    if new == 0:
        return x
    # To a channels-first layer the last axis is the width.
    return keras.layers.ZeroPadding2D(((0, 0), (new // 2, new - new // 2)), "channels_first", name=name)(x)


def norm(x, *, epsilon: float, momentum: float, zero_gamma: bool = False, name: str):
    """Batch-normalizes; `momentum` is Keras's (the share of the old statistics that a step keeps)."""
    gamma = "zeros" if zero_gamma else "ones"
    return BatchNormalization(momentum=momentum, epsilon=epsilon, gamma_initializer=gamma, name=name)(x)


def local_response_norm(x, *, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, bias: float = 2.0, name: str):
    """Divides by (bias + alpha * sum of `size` channels' squares)^beta: see `LocalResponseNormalization`."""
    return LocalResponseNormalization(size, alpha, beta, bias, name=name)(x)


def activation(x, function: str, *, name: str):
    """Applies a Keras activation by its name, as a layer of its own; or "scaled_tanh", 1.7159 tanh(2/3 x), as three.

    Source of the latter: LeCun et al. 1998, "Gradient-Based Learning Applied to Document Recognition", appendix A.
    """
    if function == "scaled_tanh":
        x = keras.layers.Rescaling(2 / 3, name=f"{name}_scale")(x)
        x = keras.layers.Activation("tanh", name=f"{name}_tanh")(x)
        return keras.layers.Rescaling(1.7159, name=name)(x)
    return keras.layers.Activation(function, name=name)(x)


def squeeze_excite(x, hidden: int, *, activation: str = "relu", gate: str = "sigmoid", name: str):
    """Rescales each channel by a learned gate in [0, 1], computed from all channels' means.

    Args:
        x: feature map, (batch, height, width, channels).
        hidden: channels of the squeezed layer, at least 1.
        activation: of the squeezed layer.
        gate: activation that makes the gate, "sigmoid" or "hard_sigmoid".
        name: prefix of the layers' names.

    Returns:
        A tensor of x's shape and dtype.

    Raises:
        ValueError: if hidden < 1.

    Source: Hu et al. 2018, arXiv:1709.01507, section 3.
    """
    checks.integer("hidden", hidden)
    # keepdims keeps the gate a feature map: without it, a .tflite reshapes at every block.
    means = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(x)
    squeezed = keras.layers.Conv2D(
        hidden, 1, activation=activation, kernel_initializer=he_normal(), name=f"{name}_reduce"
    )(means)
    gates = keras.layers.Conv2D(x.shape[-1], 1, activation=gate, kernel_initializer=he_normal(), name=f"{name}_expand")(
        squeezed
    )
    return keras.layers.Multiply(name=f"{name}_scale")([x, gates])


def efficient_attention(x, *, name: str):
    """Rescales each channel by a gate in (0, 1), computed from the means of its neighbours among the channels.

    Args:
        x: feature map, (batch, height, width, channels).
        name: prefix of the layers' names.

    Returns:
        A tensor of x's shape.

    Source: Wang et al. 2020, arXiv:1910.03151, section 3.2, for the kernel's size too.
    """
    channels = x.shape[-1]
    size = int((math.log2(channels) + 1) / 2)
    size = max(size if size % 2 else size + 1, 3)
    gate = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(x)
    # The channels become the rows of a map, since int8 knows 2D convolutions only.
    gate = keras.layers.Reshape((channels, 1, 1), name=f"{name}_column")(gate)
    gate = keras.layers.Conv2D(
        1,
        (size, 1),
        padding="same",
        use_bias=False,
        activation="sigmoid",
        kernel_initializer=he_normal(),
        name=f"{name}_conv",
    )(gate)
    gate = keras.layers.Reshape((1, 1, channels), name=f"{name}_map")(gate)
    return keras.layers.Multiply(name=f"{name}_scale")([x, gate])


def anti_aliased(x, kind: str, *, name: str):
    """Halves a feature map after smoothing it.

    Args:
        x: feature map, (batch, height, width, channels).
        kind: "average": of 2x2 pixels, or those of them that the map has; "blur": 3x3, binomial, the edges reflected.
        name: the layer's name.

    Returns:
        A tensor of shape (batch, ceil(height / 2), ceil(width / 2), channels).

    Source: Zhang 2019, arXiv:1904.11486, section 3.2.
    """
    if kind == "average":
        return keras.layers.AveragePooling2D(2, padding="same", name=name)(x)
    x = ReflectPadding2D(1, name=f"{name}_pad")(x)
    x = keras.layers.AveragePooling2D(2, 1, name=f"{name}_twos")(x)  # averages of averages are binomial
    return keras.layers.AveragePooling2D(2, 2, name=name)(x)


def drop_path(x, rate: float, *, name: str):
    """In training, zeroes a sample's whole branch with probability `rate` and scales the others by 1 / (1 - rate).

    Source: Huang et al. 2016, arXiv:1603.09382, section 3.
    """
    return keras.layers.Dropout(rate, noise_shape=(None, 1, 1, 1), name=name)(x) if rate else x
