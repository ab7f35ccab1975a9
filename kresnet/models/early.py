"""The networks up to VGG, row by row as their papers print them: LeNet-5, AlexNet, ZFNet, Network in Network.

LeCun, Bottou, Bengio and Haffner 1998, "Gradient-Based Learning Applied to Document Recognition" (LeNet-5);
Krizhevsky, Sutskever and Hinton 2012, "ImageNet Classification with Deep Convolutional Neural Networks" (AlexNet), and
in one tower Krizhevsky 2014, arXiv:1404.5997; Zeiler and Fergus 2014, arXiv:1311.2901 (ZFNet); Lin, Chen and Yan 2014,
arXiv:1312.4400 (Network in Network).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import keras

from kresnet import checks
from kresnet.layers import (
    ACTIVATIONS,
    DepthwiseConv2D,
    SparseConv2D,
    activation,
    conv,
    he_normal,
    local_response_norm,
    max_pool,
)
from kresnet.layers.pixels import CIFAR, float32_if_mixed
from kresnet.models.ends import FeatureMap
from kresnet.models.family import MOST_CHANNELS, Family, Spec
from kresnet.models.plain import checked_dense_widths, dense_classifier
from kresnet.models.registry import variant
from kresnet.models.scaling import make_divisible
from kresnet.weights.forms import flattened
from kresnet.weights.layout import HEAD, Layout


class Conv(NamedTuple):
    """A convolution with its activation, and what follows it."""

    c: int  # channels of the output
    k: int  # side of the kernel in pixels, odd
    s: int = 1  # stride
    p: int | None = None  # pixels of padding on every side; None: k // 2
    g: int = 1  # groups, which are the towers
    then: tuple[str, ...] = ()  # what follows, of `AFTER`; a pooling ends a stage
    maps: tuple[tuple[int, ...], ...] = ()  # for each channel, which of the input's it takes; empty: all


class After(NamedTuple):
    """What may follow a convolution.

    Attributes:
        build: from a tensor, the spec and the stage's name to a tensor.
        before: from a number of rows of pixels behind it to the least before it, and whether poolings round up; None
            where it leaves them.
    """

    build: Callable[[Any, Any, str], Any]
    before: Callable[[int, bool], int] | None = None


def _max3(x: Any, spec: EarlySpec, name: str) -> Any:
    if spec.ceil_pool:
        return max_pool(x, padding="ceil", nonnegative=spec.activation in ("relu", "relu6"), name=f"{name}_pool")
    return keras.layers.MaxPooling2D(3, 2, name=f"{name}_pool")(x)


def _subsampled(x: Any, spec: EarlySpec, name: str) -> Any:
    """Sums 2x2 pixels, times a channel's coefficient, plus its bias. The coefficient holds the pooling's fourth."""
    x = keras.layers.AveragePooling2D(2, name=f"{name}_pool")(x)
    x = DepthwiseConv2D(1, depthwise_initializer="ones", name=f"{name}_pool_scale")(x)
    return activation(x, spec.activation, name=f"{name}_pool_act")


def _dropped(x: Any, spec: EarlySpec, name: str) -> Any:
    return keras.layers.Dropout(spec.dropout_rate, name=f"{name}_dropout")(x) if spec.dropout_rate else x


AFTER = {
    "max2": After(lambda x, spec, name: keras.layers.MaxPooling2D(2, name=f"{name}_pool")(x), lambda n, ceil: 2 * n),
    "max3": After(_max3, lambda n, ceil: 2 * n if ceil else 2 * n + 1),
    "average3": After(
        lambda x, spec, name: keras.layers.AveragePooling2D(3, 2, "same", name=f"{name}_pool")(x),
        lambda n, ceil: 2 * n - 1,
    ),
    "subsample": After(_subsampled, lambda n, ceil: 2 * n),
    "norm": After(lambda x, spec, name: local_response_norm(x, name=f"{name}_norm")),
    "dropout": After(_dropped),
}

# Section 3.5 and figure 2. In cuda-convnet two GPUs had a tower each, which meet in the third convolution.
ALEXNET2012 = (
    Conv(96, 11, 4, 0, then=("norm", "max3")),
    Conv(256, 5, g=2, then=("norm", "max3")),
    Conv(384, 3),
    Conv(384, 3, g=2),
    Conv(256, 3, g=2, then=("max3",)),
)
# torchvision's widths, which are the paper's "one weird trick" less a little.
ONE_TOWER = (
    Conv(64, 11, 4, 2, then=("max3",)),
    Conv(192, 5, then=("max3",)),
    Conv(384, 3),
    Conv(256, 3),
    Conv(256, 3, then=("max3",)),
)
# Figure 3, whose sizes (110, 55, 26, 13, 6) leave one pixel of padding to the first convolution. It gives no formula of
# its contrast normalization "across feature maps": here it is AlexNet's.
ZFNET = (
    Conv(96, 7, 2, 1, then=("max3", "norm")),
    Conv(256, 5, 2, 0, then=("max3", "norm")),
    Conv(384, 3),
    Conv(384, 3),
    Conv(256, 3, then=("max3",)),
)
# The authors' definitions, which the paper leaves out; of the last mlpconv layer the last row is the head.
NIN = (
    *(Conv(96, 11, 4, 0), Conv(96, 1), Conv(96, 1, then=("max3",))),
    *(Conv(256, 5), Conv(256, 1), Conv(256, 1, then=("max3",))),
    *(Conv(384, 3), Conv(384, 1), Conv(384, 1, then=("max3", "dropout"))),
    *(Conv(1024, 3), Conv(1024, 1)),
)
NIN_CIFAR = (
    *(Conv(192, 5), Conv(160, 1), Conv(96, 1, then=("max3", "dropout"))),
    *(Conv(192, 5), Conv(192, 1), Conv(192, 1, then=("average3", "dropout"))),
    *(Conv(192, 3), Conv(192, 1)),
)
LENET5 = (Conv(6, 5, p=0, then=("max2",)), Conv(16, 5, p=0, then=("max2",)))
# Table I: three neighbouring maps, four, four of which two are apart, and all.
TABLE_I = (
    *(tuple(sorted((i + j) % 6 for j in range(3))) for i in range(6)),
    *(tuple(sorted((i + j) % 6 for j in range(4))) for i in range(6)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5), (0, 1, 2, 3, 4, 5)),
)
LENET5_1998 = (Conv(6, 5, p=0, then=("subsample",)), Conv(16, 5, p=0, then=("subsample",), maps=TABLE_I))


@dataclasses.dataclass(frozen=True)
class EarlySpec(Spec):
    """A network of rows. The defaults are those of AlexNet's one tower.

    Raises:
        ValueError: if a field makes no sense.
    """

    settings = (*Spec.settings, "activation", "ceil_pool")
    free = (*Spec.free, "dropout_rate")

    rows: tuple[Conv, ...] = ONE_TOWER  # (c, k, s, p, g, then, maps), or the first columns of them
    head: str = "dense"  # "maps": a 1x1 convolution to a map of each class, averaged
    dense_widths: tuple[int, ...] = (4096, 4096)  # of the layers before the classifier
    head_size: int = 6  # height and width of the map that the dense layers take, whatever the image's size
    activation: str = "relu"  # one of `kresnet.layers.ACTIVATIONS`, or "scaled_tanh"
    ceil_pool: bool = False  # whether 3x3 poolings take the pixels that are left at the edge, as Caffe's do
    dropout_rate: float = 0.5  # where a row has dropout
    head_dropout_rate: float = 0.5  # before each of the dense layers
    dropout_first: bool = True  # False: it comes after each of the dense layers

    def __post_init__(self):
        super().__post_init__()
        self._set(rows=_checked_rows(self.rows), dense_widths=checked_dense_widths(self.dense_widths))
        checks.choice("head", self.head, ("dense", "maps"))
        checks.integer("head_size", self.head_size, maximum=100)
        checks.choice("activation", self.activation, (*ACTIVATIONS, "scaled_tanh"))
        for name in ("ceil_pool", "dropout_first"):
            checks.boolean(name, getattr(self, name))
        self._set(dropout_rate=checks.number("dropout_rate", self.dropout_rate, 0, 1, "a fraction in [0, 1)"))

    @property
    def stride(self) -> int:
        return math.prod(row.s * (2 if _pools(row) else 1) for row in self.rows)

    @property
    def smallest(self) -> int:
        """Height and width in pixels of the smallest image of which a pixel is left."""
        size = 1
        for row in reversed(self.rows):
            for name in reversed(row.then):
                before = AFTER[name].before
                size = size if before is None else before(size, self.ceil_pool)
            size = max(1, (size - 1) * row.s + row.k - 2 * _padding(row))
        return size

    def scaled(self, depth: float, width: float) -> EarlySpec:
        """Widths go to multiples of 8; a table of connections does not fit them. Rows and dense layers stay."""
        if width == 1:
            return self
        rows = (row._replace(c=make_divisible(row.c * width, math.lcm(8, row.g)), maps=()) for row in self.rows)
        return replace(self, rows=tuple(rows))


def _padding(row: Conv) -> int:
    return row.k // 2 if row.p is None else row.p


def _pools(row: Conv) -> bool:
    return any(AFTER[name].before for name in row.then)


def _checked_rows(table: Any) -> tuple[Conv, ...]:
    try:
        rows = tuple(Conv(*row) for row in table)
        rows = tuple(row._replace(then=tuple(row.then), maps=tuple(map(tuple, row.maps))) for row in rows)
    except TypeError:
        raise ValueError(f"`rows` must hold rows (c, k, s, p, g, then, maps). Received: rows={table!r}") from None
    checks.require(len(rows) > 0, "`rows` must hold at least one row", rows=table)
    before = 1
    for row in rows:
        numbers = (row.c, row.k, row.s, row.g, *([] if row.p is None else [row.p + 1]))
        whole = all(type(number) is int and number > 0 for number in numbers)
        checks.require(whole, "A row of `rows` has c, k, s, g and p, integers that make sense", row=row)
        checks.require(
            row.k % 2 == 1 and row.c <= MOST_CHANNELS and max(row.k, row.s, _padding(row)) < 100,
            f"In a row of `rows` the kernel k is odd; it has at most {MOST_CHANNELS} channels, and kernel, stride and "
            "padding are under 100 pixels",
            row=row,
        )
        checks.require(row.c % row.g == before % row.g == 0, "Groups divide the channels before and after", row=row)
        for name in row.then:
            checks.choice("rows", name, AFTER)
        twice = len({*row.then}) < len(row.then) or sum(AFTER[name].before is not None for name in row.then) > 1
        checks.require(not twice, "Behind a row come different things, and one pooling at most", row=row)
        known = all(type(channel) is int and 0 <= channel < before for taken in row.maps for channel in taken)
        checks.require(
            not row.maps or (len(row.maps) == row.c and row.g == 1 and known and all(row.maps)),
            "`maps` names the channels before, from 0, that each channel takes; without groups, in no first row",
            row=row,
        )
        before = row.c
    return rows


def early(x: Any, spec: EarlySpec) -> tuple[Any, dict[str, FeatureMap]]:
    """Builds the rows. A stage ends in a pooling, and its feature map is what that takes."""
    checks.require(
        all(size is None or size >= spec.smallest for size in x.shape[1:3]),
        f"The input is too small: `input_shape` must be at least ({spec.smallest}, {spec.smallest}, channels)",
        input_shape=tuple(x.shape[1:]),
    )
    maps, stage, i, stride = {}, 1, 1, 1
    for row in spec.rows:
        name, stride = f"stage{stage}", stride * row.s
        x = activation(_convolved(x, row, f"{name}_conv{i}"), spec.activation, name=f"{name}_act{i}")
        for kind in row.then:
            if AFTER[kind].before:
                maps[name], stride, stage, i = FeatureMap(x, stride), 2 * stride, stage + 1, 0
            x = AFTER[kind].build(x, spec, name)
        i += 1
    if i > 1:
        maps[f"stage{stage}"] = FeatureMap(x, stride)
    return x, {("stem" if name == "stage1" else name): found for name, found in maps.items()}


def _convolved(x: Any, row: Conv, name: str) -> Any:
    if row.maps:
        x = keras.layers.ZeroPadding2D(_padding(row), name=f"{name}_pad")(x) if _padding(row) else x
        return SparseConv2D(row.c, row.k, row.maps, strides=row.s, kernel_initializer=he_normal(), name=name)(x)
    return conv(x, row.c, row.k, stride=row.s, groups=row.g, padding=_padding(row), bias=True, name=name)


def classifier(x: Any, spec: EarlySpec, classes: int, classifier_activation: str | None) -> Any:
    """Classifies by dense layers, or by a map of each class, whose mean is its logit."""
    if spec.head == "dense":
        return dense_classifier(x, spec, classes, classifier_activation, spec.head_size, spec.dropout_first)
    options = {"dtype": float32_if_mixed()}
    x = keras.layers.Conv2D(classes, 1, kernel_initializer=he_normal(), name=HEAD, **options)(x)
    x = keras.layers.Activation(spec.activation, name="head_act", **options)(x)
    x = keras.layers.GlobalAveragePooling2D(name="head_pool", **options)(x)
    return keras.layers.Activation(classifier_activation, name="head_out", **options)(x)


def _is_torchvision_s(spec: EarlySpec) -> bool:
    """Tells whether convolutions and dense layers, and what lies between them, are torchvision's, of any widths."""
    shapes = [[row._replace(c=0) for row in rows] for rows in (spec.rows, ONE_TOWER)]
    return shapes[0] == shapes[1] and len(spec.dense_widths) == 2 and (spec.head, spec.head_size) == ("dense", 6)


TORCHVISION = Layout(
    "AlexNet, torchvision's",
    {
        "stage1_conv1": "features.0",
        "stage2_conv1": "features.3",
        "stage3_conv1": "features.6",
        "stage3_conv2": "features.8",
        "stage3_conv3": "features.10",
        "head_dense1": "classifier.1",
        "head_dense2": "classifier.4",
        HEAD: "classifier.6",
    },
    forms={"head_dense1": flattened(6, 6)},
    head="classifier.",
    fits=_is_torchvision_s,
)

EARLY = Family("early", EarlySpec, early, head=classifier, layouts=(TORCHVISION,))

# Ink is 255 and paper 0, as in MNIST's files: section III.A has paper at -0.1 and ink at 1.175.
INK = {"mean": (0.1 / 1.275,), "std": (1 / 1.275,)}
TOWER = EarlySpec()
TOWERS = replace(TOWER, rows=ALEXNET2012, ceil_pool=True, dropout_first=False)
INSIDE = replace(TOWER, rows=NIN, head="maps", dense_widths=(), ceil_pool=True, head_dropout_rate=0.0)
LENET = replace(TOWER, rows=LENET5, dense_widths=(120, 84), head_size=5, head_dropout_rate=0.0, **INK)
# Its 60,000 parameters are the paper's. The paper's outputs are distances to drawings of the characters (RBF units);
# of a softmax of these, the dense layer here can learn any.
LENET_1998 = replace(LENET, rows=LENET5_1998, activation="scaled_tanh")

LENET_PAPER, ALEXNET_PAPER = "10.1109/5.726791", "10.1145/3065386"
LeNet5 = variant("LeNet5", EARLY, LENET, paper=LENET_PAPER, size=32, classes=10)
LeNet5_1998 = variant("LeNet5_1998", EARLY, LENET_1998, paper=LENET_PAPER, size=32, classes=10)
AlexNet = variant("AlexNet", EARLY, TOWER, paper="1404.5997")
# The paper says 224 pixels; its 55x55 maps need 227.
AlexNet2012 = variant("AlexNet2012", EARLY, TOWERS, paper=ALEXNET_PAPER, size=227)
ZFNet = variant("ZFNet", EARLY, replace(TOWERS, rows=ZFNET), paper="1311.2901")
NiN = variant("NiN", EARLY, INSIDE, paper="1312.4400")
NiN_CIFAR = variant(
    "NiN_CIFAR", EARLY, replace(INSIDE, rows=NIN_CIFAR, **CIFAR), paper="1312.4400", size=32, classes=10
)

ARCHITECTURES = {AlexNet.key: AlexNet.spec}
