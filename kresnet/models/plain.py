"""Plain networks: stages of convolutions, each ending in a pooling, and dense layers on the flattened last map.

Simonyan and Zisserman 2015, arXiv:1409.1556 (VGG).
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras

from kresnet import checks
from kresnet.layers import ACTIVATIONS, activation, conv, he_normal, local_response_norm, norm
from kresnet.models.ends import FeatureMap, predictions
from kresnet.models.family import MOST_BLOCKS, MOST_CHANNELS, Family, Spec
from kresnet.models.registry import variant
from kresnet.models.scaling import make_divisible, multiplied_depth
from kresnet.weights.forms import Form, flattened
from kresnet.weights.layout import HEAD, Layout

# Height and width of the map that the first dense layer takes, whatever the size of the image.
HEAD_SIZE = 7


def checked_dense_widths(widths: Any) -> tuple[int, ...]:
    """Returns the widths of a head's dense layers before the classifier, of which there may be none."""
    none = isinstance(widths, tuple | list) and not widths
    return () if none else checks.integers("dense_widths", widths, maximum=MOST_CHANNELS)


@dataclasses.dataclass(frozen=True)
class PlainSpec(Spec):
    """A plain network of 3x3 convolutions, but for configuration C. The defaults are VGG-11's (configuration A).

    Raises:
        ValueError: if a field, or two together, make no sense.
    """

    settings = (*Spec.settings, "activation")

    depths: tuple[int, ...] = (1, 1, 2, 2, 2)  # convolutions in each stage
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)  # channels of each stage
    batch_norm: bool = False  # after each convolution
    local_response_norm: bool = False  # after the first stage, with AlexNet's numbers (configuration A-LRN)
    last_kernel: int = 3  # of the last convolution in a stage of three and more; 1 in configuration C
    dense_widths: tuple[int, ...] = (4096, 4096)  # of the layers before the classifier
    activation: str = "relu"  # one of `kresnet.layers.ACTIVATIONS`
    head_dropout_rate: float = 0.5  # after each of the dense layers

    def __post_init__(self):
        super().__post_init__()
        depths = checks.integers("depths", self.depths, maximum=MOST_BLOCKS)
        widths = checks.integers("widths", self.widths, maximum=MOST_CHANNELS)
        checks.require(len(depths) == len(widths), "`depths` and `widths` must match", depths=depths, widths=widths)
        self._set(depths=depths, widths=widths, dense_widths=checked_dense_widths(self.dense_widths))
        for name in ("batch_norm", "local_response_norm"):
            checks.boolean(name, getattr(self, name))
        checks.choice("last_kernel", self.last_kernel, (1, 3))
        checks.choice("activation", self.activation, ACTIVATIONS)

    @property
    def stride(self) -> int:
        return 2 ** len(self.depths)

    def scaled(self, depth: float, width: float) -> PlainSpec:
        """Widths go to multiples of 8; the dense layers keep theirs."""
        widths = tuple(w if width == 1 else make_divisible(w * width) for w in self.widths)
        return replace(self, depths=tuple(multiplied_depth(n, depth) for n in self.depths), widths=widths)


def plain(x: Any, spec: PlainSpec) -> tuple[Any, dict[str, FeatureMap]]:
    """Builds the stages. Each one's feature map is what its pooling takes."""
    maps = {}
    for stage, (depth, width) in enumerate(zip(spec.depths, spec.widths, strict=True), 1):
        for i in range(1, depth + 1):
            kernel = spec.last_kernel if i == depth >= 3 else 3
            x = conv(x, width, kernel, bias=True, name=f"stage{stage}_conv{i}")
            if spec.batch_norm:
                x = norm(x, epsilon=spec.epsilon, momentum=spec.momentum, name=f"stage{stage}_norm{i}")
            x = activation(x, spec.activation, name=f"stage{stage}_act{i}")
        if stage == 1 and spec.local_response_norm:
            x = local_response_norm(x, name="stage1_lrn")
        maps["stem" if stage == 1 else f"stage{stage}"] = FeatureMap(x, 2 ** (stage - 1))
        x = keras.layers.MaxPooling2D(2, name=f"stage{stage}_pool")(x)
    return x, maps


def averaged(x: Any, target: int, name: str = "head_pool") -> Any:
    """Averages a map to one of target x target, which dense layers take."""
    size = x.shape[1:3]
    checks.require(None not in size, "Dense layers need a whole `input_shape`", feature_map=tuple(x.shape[1:]))
    if all(side % target == 0 for side in size):
        windows = tuple(side // target for side in size)
        return keras.layers.AveragePooling2D(windows, name=name)(x) if windows != (1, 1) else x
    if size == (1, 1):  # of which Keras's adaptive pooling fails in TensorFlow's graphs, and XNNPACK has no TILE
        return keras.layers.UpSampling2D(target, interpolation="bilinear", name=name)(x)
    return keras.layers.AdaptiveAveragePooling2D(target, name=name)(x)  # windows of different sizes


def dense_classifier(
    x: Any,
    spec: Spec,
    classes: int,
    classifier_activation: str | None,
    size: int = HEAD_SIZE,
    dropout_first: bool = False,
) -> Any:
    """Averages the map to size x size, flattens it, and classifies by dense layers, with dropout behind or before."""

    def dropped(x: Any, i: int, here: bool) -> Any:
        rate = spec.head_dropout_rate if here else 0
        return keras.layers.Dropout(rate, name=f"head_dropout{i}")(x) if rate else x

    x = keras.layers.Flatten(name="head_flatten")(averaged(x, size))
    for i, width in enumerate(spec.dense_widths, 1):
        x = dropped(x, i, dropout_first)
        x = keras.layers.Dense(width, kernel_initializer=he_normal(), name=f"head_dense{i}")(x)
        x = dropped(activation(x, spec.activation, name=f"head_act{i}"), i, not dropout_first)
    return predictions(x, classes, classifier_activation)


def _sequential(kind: str, match: re.Match, layers: Sequence[str]) -> str:
    """Numbers torchvision's `features`: convolutions, norms, activations and poolings in one row."""
    stage, number = int(match["stage"]), int(match["i"])
    each = 3 if any("_norm" in layer for layer in layers) else 2
    convs = [tuple(map(int, found.groups())) for layer in layers if (found := re.match(r"stage(\d+)_conv(\d+)", layer))]
    before = sum(conv < (stage, number) for conv in convs)
    return f"features.{each * before + stage - 1 + (kind == 'norm')}"


def _in_head(match: re.Match, layers: Sequence[str]) -> str:
    """Numbers torchvision's `classifier`: dense layers, activations and dropouts in one row."""
    dense = sum(layer.startswith("head_dense") for layer in layers)
    return f"classifier.{3 * (dense if match.group() == HEAD else int(match['i']) - 1)}"


def _first_dense(layers: Sequence[str]) -> Form | None:
    """Gives the classifier the form of the first dense layer where it is that."""
    return None if "head_dense1" in layers else flattened(HEAD_SIZE, HEAD_SIZE)


TORCHVISION = Layout(
    "VGG, torchvision's",
    {
        r"stage(?P<stage>\d+)_conv(?P<i>\d+)": functools.partial(_sequential, "conv"),
        r"stage(?P<stage>\d+)_norm(?P<i>\d+)": functools.partial(_sequential, "norm"),
        r"head_dense(?P<i>\d+)": _in_head,
        HEAD: _in_head,
    },
    forms={"head_dense1": flattened(HEAD_SIZE, HEAD_SIZE), HEAD: _first_dense},
    head="classifier.",
    fits=lambda spec: not spec.local_response_norm,
)
TIMM = TORCHVISION.but(
    "VGG, timm's",
    {r"head_dense(?P<i>\d+)": "pre_logits.fc{i}", HEAD: "head.fc"},
    forms={
        "head_dense1": flattened(HEAD_SIZE, HEAD_SIZE, convolution=True),
        r"head_dense\d+": flattened(1, 1, convolution=True),
    },
    head=("head.", "pre_logits."),
)

PLAIN = Family("plain", PlainSpec, plain, head=dense_classifier, layouts=(TORCHVISION, TIMM))

PAPER = "1409.1556"
A = PlainSpec()
B = replace(A, depths=(2, 2, 2, 2, 2))
D = replace(A, depths=(2, 2, 3, 3, 3))
C = replace(D, last_kernel=1)
E = replace(A, depths=(2, 2, 4, 4, 4))

VGG11 = variant("VGG11", PLAIN, A, paper=PAPER)
VGG13 = variant("VGG13", PLAIN, B, paper=PAPER)
VGG16 = variant("VGG16", PLAIN, D, paper=PAPER)
VGG19 = variant("VGG19", PLAIN, E, paper=PAPER)
VGG11_LRN = variant("VGG11_LRN", PLAIN, replace(A, local_response_norm=True), paper=PAPER)
VGG16_C = variant("VGG16_C", PLAIN, C, paper=PAPER)
VGG11_BN = variant("VGG11_BN", PLAIN, replace(A, batch_norm=True), paper=PAPER)
VGG13_BN = variant("VGG13_BN", PLAIN, replace(B, batch_norm=True), paper=PAPER)
VGG16_BN = variant("VGG16_BN", PLAIN, replace(D, batch_norm=True), paper=PAPER)
VGG19_BN = variant("VGG19_BN", PLAIN, replace(E, batch_norm=True), paper=PAPER)

ARCHITECTURES = {builder.key: builder.spec for builder in (VGG11, VGG13, VGG16, VGG19)}
ARCHITECTURES |= {builder.key: builder.spec for builder in (VGG11_BN, VGG13_BN, VGG16_BN, VGG19_BN)}
