"""Densely connected networks: each layer takes the maps of all before it in its stage, and adds a few channels.

Huang et al. 2017, arXiv:1608.06993 (DenseNet).
"""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from typing import Any

import keras

from kresnet import checks
from kresnet.layers import ACTIVATIONS, activation, conv, max_pool, norm
from kresnet.layers.pixels import CIFAR
from kresnet.models.ends import FeatureMap
from kresnet.models.family import MOST_BLOCKS, MOST_CHANNELS, Family, Spec
from kresnet.models.registry import variant
from kresnet.models.scaling import make_divisible, multiplied_depth
from kresnet.weights.layout import BLOCK, HEAD, Layout


@dataclasses.dataclass(frozen=True)
class DenseNetSpec(Spec):
    """A densely connected network. The defaults are DenseNet-121's.

    Raises:
        ValueError: if a field, or two together, make no sense.
    """

    settings = (*Spec.settings, "activation")
    free = (*Spec.free, "dropout_rate")

    depths: tuple[int, ...] = (6, 12, 24, 16)  # layers in each stage
    growth_rate: int = 32  # channels that a layer adds
    stem: str = "conv7"  # 7x7 at stride 2 and a pooling; "conv3": 3x3, for CIFAR
    stem_width: int = 64  # channels
    bottleneck: int | None = 4  # channels of the 1x1 before the 3x3, in growth rates; None: no 1x1
    compression: float = 0.5  # share of the channels that a transition keeps
    activation: str = "relu"  # one of `kresnet.layers.ACTIVATIONS`
    dropout_rate: float = 0.0  # after each convolution but the first

    def __post_init__(self):
        super().__post_init__()
        self._set(depths=checks.integers("depths", self.depths, maximum=MOST_BLOCKS))
        checks.integer("growth_rate", self.growth_rate, maximum=MOST_CHANNELS)
        checks.choice("stem", self.stem, ("conv7", "conv3"))
        checks.integer("stem_width", self.stem_width, maximum=MOST_CHANNELS)
        if self.bottleneck is not None:
            checks.integer("bottleneck", self.bottleneck, maximum=MOST_CHANNELS)
        self._set(compression=checks.number("compression", self.compression, 0.01, 1.0001, "a fraction in (0, 1]"))
        checks.choice("activation", self.activation, ACTIVATIONS)
        self._set(dropout_rate=checks.number("dropout_rate", self.dropout_rate, 0, 1, "a fraction in [0, 1)"))

    @property
    def stride(self) -> int:
        return (4 if self.stem == "conv7" else 1) * 2 ** (len(self.depths) - 1)

    def scaled(self, depth: float, width: float) -> DenseNetSpec:
        """The growth rate, which all widths follow, goes to multiples of 4; the stem's width to multiples of 8."""
        if width == 1:
            rates = {}
        else:
            growth_rate = make_divisible(self.growth_rate * width, 4)
            rates = {"growth_rate": growth_rate, "stem_width": make_divisible(self.stem_width * width)}
        return replace(self, depths=tuple(multiplied_depth(n, depth) for n in self.depths), **rates)


def densenet(x: Any, spec: DenseNetSpec) -> tuple[Any, dict[str, FeatureMap]]:
    """Builds stem, stages and the transitions between them. As with residual networks, stage 1 is the stem."""
    wide = spec.stem == "conv7"
    x = conv(x, spec.stem_width, 7 if wide else 3, stride=2 if wide else 1, name="stem_conv")
    if wide:
        x = _activated(x, spec, "stem_norm", "stem_act")
    stride = 2 if wide else 1
    maps = {"stem": FeatureMap(x, stride)}
    if wide:
        x, stride = max_pool(x, nonnegative=spec.activation in ("relu", "relu6"), name="stem_pool"), 4
    for stage, depth in enumerate(spec.depths, 2):
        if stage > 2:
            x, stride = _transition(x, spec, f"stage{stage - 1}_transition"), 2 * stride
        for i in range(1, depth + 1):
            x = _layer(x, spec, f"stage{stage}_block{i}")
        maps[f"stage{stage}"] = FeatureMap(x, stride)
    return _activated(x, spec, "head_norm", "head_out"), maps


def _activated(x: Any, spec: DenseNetSpec, norm_name: str, name: str) -> Any:
    x = norm(x, epsilon=spec.epsilon, momentum=spec.momentum, name=norm_name)
    return activation(x, spec.activation, name=name)


def _layer(x: Any, spec: DenseNetSpec, name: str) -> Any:
    """Appends `growth_rate` channels: norm, activation, convolution, as in a pre-activation network."""
    y = x
    rows = [(spec.growth_rate, 3)]
    if spec.bottleneck is not None:
        rows.insert(0, (spec.bottleneck * spec.growth_rate, 1))
    for i, (width, kernel) in enumerate(rows, 1):
        y = _activated(y, spec, f"{name}_norm{i}", f"{name}_act{i}")
        y = _dropped(conv(y, width, kernel, name=f"{name}_conv{i}"), spec, f"{name}_dropout{i}")
    return keras.layers.Concatenate(name=f"{name}_concat")([x, y])


def _transition(x: Any, spec: DenseNetSpec, name: str) -> Any:
    """Compresses the channels, and halves the map by averages."""
    width = int(x.shape[-1] * spec.compression)
    x = conv(_activated(x, spec, f"{name}_norm", f"{name}_act"), width, 1, name=f"{name}_conv")
    return keras.layers.AveragePooling2D(2, name=f"{name}_pool")(_dropped(x, spec, f"{name}_dropout"))


def _dropped(x: Any, spec: DenseNetSpec, name: str) -> Any:
    return keras.layers.Dropout(spec.dropout_rate, name=name)(x) if spec.dropout_rate else x


TORCHVISION = Layout(
    "DenseNet, torchvision's and timm's",
    {
        "stem_conv": "features.conv0",
        "stem_norm": "features.norm0",
        BLOCK + r"norm(?P<i>\d)": "features.denseblock{stage_1}.denselayer{block}.norm{i}",
        BLOCK + r"conv(?P<i>\d)": "features.denseblock{stage_1}.denselayer{block}.conv{i}",
        r"stage(?P<stage>\d+)_transition_norm": "features.transition{stage_1}.norm",
        r"stage(?P<stage>\d+)_transition_conv": "features.transition{stage_1}.conv",
        "head_norm": "features.norm5",
        HEAD: "classifier",
    },
)

DENSENET = Family("densenet", DenseNetSpec, densenet, layouts=(TORCHVISION,))

PAPER = "1608.06993"
D121 = DenseNetSpec()
D169 = replace(D121, depths=(6, 12, 32, 32))
D201 = replace(D121, depths=(6, 12, 48, 32))
D264 = replace(D121, depths=(6, 12, 64, 48))
D161 = replace(D121, depths=(6, 12, 36, 24), growth_rate=48, stem_width=96)
# Three stages of (L - 4) / 3 convolutions; of BC, half as many layers of two each, and 2k channels in the stem.
BC100 = replace(D121, depths=(16,) * 3, growth_rate=12, stem="conv3", stem_width=24, **CIFAR)
BC190 = replace(BC100, depths=(31,) * 3, growth_rate=40, stem_width=80)
D40 = replace(BC100, depths=(12,) * 3, stem_width=16, bottleneck=None, compression=1.0)

DenseNet121 = variant("DenseNet121", DENSENET, D121, paper=PAPER)
DenseNet161 = variant("DenseNet161", DENSENET, D161, paper=PAPER)
DenseNet169 = variant("DenseNet169", DENSENET, D169, paper=PAPER)
DenseNet201 = variant("DenseNet201", DENSENET, D201, paper=PAPER)
DenseNet264 = variant("DenseNet264", DENSENET, D264, paper=PAPER)
DenseNet40_12 = variant("DenseNet40_12", DENSENET, D40, paper=PAPER, size=32, classes=10)
DenseNetBC100_12 = variant("DenseNetBC100_12", DENSENET, BC100, paper=PAPER, size=32, classes=10)
DenseNetBC190_40 = variant("DenseNetBC190_40", DENSENET, BC190, paper=PAPER, size=32, classes=10)

ARCHITECTURES = {builder.key: builder.spec for builder in (DenseNet121, DenseNet161, DenseNet169, DenseNet201)}
