"""What Inception's figures are drawn with: modules of branches, which are rows of convolutions and poolings."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import keras

from kresnet import checks
from kresnet.layers import ACTIVATIONS, activation, he_normal, norm
from kresnet.layers.pixels import INCEPTION
from kresnet.models.family import Spec
from kresnet.models.scaling import make_divisible


class Conv(NamedTuple):
    """A convolution with what follows it.

    Attributes:
        filters: channels of the output, before the width multiplier.
        kernel: its side in pixels, or height and width; odd.
        stride: step in pixels.
        padding: "same", or "valid": "V" in the papers' figures.
    """

    filters: int
    kernel: int | tuple[int, int] = 1
    stride: int = 1
    padding: str = "same"


class Pool(NamedTuple):
    """A pooling of 3x3 windows, "max" or "avg"; unpadded at stride 2."""

    kind: str
    stride: int = 1


class Fork(NamedTuple):
    """Convolutions of one tensor at the end of a branch, whose outputs are concatenated."""

    prongs: tuple[Conv, ...]


Branch = tuple[Conv | Pool | Fork, ...]
HALVED = (Pool("max", 2),)


def halving(filters: int) -> Conv:
    """Returns the 3x3 convolution, unpadded at stride 2, that ends the branches of a reduction."""
    return Conv(filters, 3, 2, "valid")


@dataclasses.dataclass(frozen=True)
class InceptionSpec(Spec):
    """What all Inception networks' specs have.

    Raises:
        ValueError: if a field makes no sense.
    """

    settings = (*Spec.settings, "activation")

    width_multiplier: float = 1.0  # of all convolutions' channels
    batch_norm: bool = True  # after each convolution; without it they have biases
    activation: str = "relu"  # one of `kresnet.layers.ACTIVATIONS`
    mean: tuple[float, ...] = INCEPTION["mean"]
    std: tuple[float, ...] = INCEPTION["std"]
    epsilon: float = 1e-3

    def __post_init__(self):
        super().__post_init__()
        width = checks.number("width_multiplier", self.width_multiplier, 0.01, 100, "a number in [0.01, 100)")
        self._set(width_multiplier=width)
        checks.boolean("batch_norm", self.batch_norm)
        checks.choice("activation", self.activation, ACTIVATIONS)

    @property
    def stride(self) -> int:
        return 32

    def channels(self, filters: int) -> int:
        """Returns a convolution's channels by the width multiplier: multiples of 8, unless it is 1."""
        return filters if self.width_multiplier == 1 else make_divisible(filters * self.width_multiplier)


def check_size(x: Any, smallest: int) -> None:
    """Refuses images of fewer pixels than unpadded convolutions leave something of."""
    checks.require(
        all(size is None or size >= smallest for size in x.shape[1:3]),
        f"The input is too small: `input_shape` must be at least ({smallest}, {smallest}, channels)",
        input_shape=tuple(x.shape[1:]),
    )


def convolved(x: Any, unit: Conv, spec: InceptionSpec, name: str, number: int | str = "") -> Any:
    """Convolves, normalizes and activates. The layers are `<name>_conv<number>`, `_norm`, `_act`."""
    x = keras.layers.Conv2D(
        spec.channels(unit.filters),
        unit.kernel,
        unit.stride,
        unit.padding,
        use_bias=not spec.batch_norm,
        kernel_initializer=he_normal(),
        name=f"{name}_conv{number}",
    )(x)
    if spec.batch_norm:
        x = norm(x, epsilon=spec.epsilon, momentum=spec.momentum, name=f"{name}_norm{number}")
    return activation(x, spec.activation, name=f"{name}_act{number}")


def row(x: Any, units: tuple[Conv, ...], spec: InceptionSpec, name: str) -> Any:
    """Convolves again and again; the layers are numbered from 1."""
    for number, unit in enumerate(units, 1):
        x = convolved(x, unit, spec, name, number)
    return x


def module(x: Any, branches: tuple[Branch, ...], spec: InceptionSpec, name: str, count_padding: bool = False) -> Any:
    """Concatenates what branches make of a feature map.

    Args:
        x: feature map, (batch, height, width, channels).
        branches: from the left of the paper's figure to its right.
        spec: of the network.
        name: the block's; a branch's layers begin with `<name>_branch1`, ...
        count_padding: whether averages at the edge count the pixels beyond it, as zeros.

    Returns:
        The feature map with all branches' channels.
    """
    outputs = [_end(x, branch, spec, f"{name}_branch{i}", count_padding) for i, branch in enumerate(branches, 1)]
    return keras.layers.Concatenate(name=f"{name}_concat")(outputs)


def _end(x: Any, branch: Branch, spec: InceptionSpec, name: str, count_padding: bool) -> Any:
    number = 0
    for part in branch:
        if isinstance(part, Pool):
            x = _pooled(x, part, f"{name}_pool", count_padding)
            continue
        number += 1
        if isinstance(part, Fork):
            prongs = [convolved(x, prong, spec, f"{name}_fork{i}", number) for i, prong in enumerate(part.prongs, 1)]
            # By itself: XNNPACK concatenates five tensors at most.
            return keras.layers.Concatenate(name=f"{name}_concat")(prongs)
        x = convolved(x, part, spec, name, number)
    return x


def _pooled(x: Any, pool: Pool, name: str, count_padding: bool) -> Any:
    if pool.kind == "max":
        return keras.layers.MaxPooling2D(3, pool.stride, "valid" if pool.stride > 1 else "same", name=name)(x)
    if count_padding:
        x = keras.layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
    return keras.layers.AveragePooling2D(3, 1, "valid" if count_padding else "same", name=name)(x)
