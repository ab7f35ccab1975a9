"""Inception-ResNet v1 and v2: modules whose branches are projected, scaled down, and added to what they took.

Szegedy et al. 2016, arXiv:1602.07261, section 3. Of v2 the authors published other numbers than the figures': this is
their code's (tensorflow/models, research/slim/nets/inception_resnet_v2.py), which the weights are of.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras

from kresnet import checks
from kresnet.layers import activation, he_normal
from kresnet.models.ends import FeatureMap
from kresnet.models.family import MOST_BLOCKS, Family, Maps
from kresnet.models.inception.modules import (
    HALVED,
    Branch,
    Conv,
    InceptionSpec,
    Pool,
    check_size,
    convolved,
    halving,
    module,
    row,
)
from kresnet.models.registry import variant
from kresnet.models.scaling import multiplied_depth
from kresnet.weights.layout import BLOCK, HEAD, Layout


@dataclasses.dataclass(frozen=True)
class InceptionResNetSpec(InceptionSpec):
    """Inception-ResNet; the defaults are v2's.

    Raises:
        ValueError: if a field makes no sense.
    """

    settings = (*InceptionSpec.settings, "residual_scales")
    smallest = 75  # height and width in pixels of images of which the last reduction leaves something

    version: int = 2  # 1 or 2: the channels, v2's module before the first residual one, and its convolution at the end
    depths: tuple[int, ...] = (10, 20, 10)  # residual modules on the grids of 35x35, 17x17 and 8x8
    residual_scales: tuple[float, ...] = (0.17, 0.1, 0.2)  # of the branches, before they are added, on each grid
    head_dropout_rate: float = 0.2

    def __post_init__(self):
        super().__post_init__()
        checks.choice("version", self.version, (1, 2))
        depths = checks.integers("depths", self.depths, maximum=MOST_BLOCKS)
        scales = self.residual_scales
        ok = isinstance(scales, tuple | list) and len(scales) == 3
        checks.require(ok, "`residual_scales` must be three numbers", residual_scales=scales)
        scales = tuple(checks.number("residual_scales", scale, 1e-6, 100, "above 0") for scale in scales)
        checks.require(len(depths) == 3, "`depths` are those of three grids", depths=depths)
        self._set(depths=depths, residual_scales=scales)

    def scaled(self, depth: float, width: float) -> InceptionResNetSpec:
        """Widths go to multiples of 8; reductions stay."""
        depths = tuple(multiplied_depth(n, depth) for n in self.depths)
        return replace(self, depths=depths, width_multiplier=self.width_multiplier * width)


def _long(*widths: int, kernels: tuple = (1, 3, 3)) -> Branch:
    return tuple(Conv(width, kernel) for width, kernel in zip(widths, kernels, strict=False))


_WIDE, _SHORT = (1, (1, 7), (7, 1)), (1, (1, 3), (3, 1))
# By version, the residual modules of each grid, and the reductions before the second and the third.
MODULES = {
    1: (
        ((Conv(32),), _long(32, 32), _long(32, 32, 32)),
        ((Conv(128),), _long(128, 128, 128, kernels=_WIDE)),
        ((Conv(192),), _long(192, 192, 192, kernels=_SHORT)),
    ),
    2: (
        ((Conv(32),), _long(32, 32), _long(32, 48, 64)),
        ((Conv(192),), _long(128, 160, 192, kernels=_WIDE)),
        ((Conv(192),), _long(192, 224, 256, kernels=_SHORT)),
    ),
}
REDUCTIONS = {
    1: (
        ((halving(384),), (*_long(192, 192), halving(256)), HALVED),
        ((Conv(256), halving(384)), (Conv(256), halving(256)), (*_long(256, 256), halving(256)), HALVED),
    ),
    2: (
        ((halving(384),), (*_long(256, 256), halving(384)), HALVED),
        ((Conv(256), halving(384)), (Conv(256), halving(288)), (*_long(256, 288), halving(320)), HALVED),
    ),
}
_FIRST = (Conv(96),), (Conv(48), Conv(64, 5)), _long(64, 96, 96), (Pool("avg"), Conv(64))


def inception_resnet(x: Any, spec: InceptionResNetSpec) -> tuple[Any, Maps]:
    """Builds the stem of figure 14, the reductions, and the residual modules, of which v2's last has no activation."""
    check_size(x, spec.smallest)
    x = row(x, (Conv(32, 3, 2, "valid"), Conv(32, 3, 1, "valid"), Conv(64, 3)), spec, "stem")
    maps = {"stem": FeatureMap(x, 2)}
    x = keras.layers.MaxPooling2D(3, 2, name="stem_pool")(x)
    x = row(x, (Conv(80), Conv(192, 3, 1, "valid")), spec, "stage2")
    maps["stage2"] = FeatureMap(x, 4)
    if spec.version == 1:
        x = convolved(x, halving(256), spec, "stage3")
        first: list = []
    else:
        x = keras.layers.MaxPooling2D(3, 2, name="stage2_pool")(x)
        first = [_FIRST]
    before = (first, *([reduction] for reduction in REDUCTIONS[spec.version]))
    for stage, depth in enumerate(spec.depths, 3):
        for branches in before[stage - 3]:
            x = module(x, branches, spec, f"stage{stage}_block1")
        start, scale = 1 + len(before[stage - 3]), spec.residual_scales[stage - 3]
        for block in range(start, start + depth):
            last = spec.version == 2 and stage == 5 and block == start + depth - 1
            name = f"stage{stage}_block{block}"
            x = _residual(x, MODULES[spec.version][stage - 3], spec, 1.0 if last else scale, not last, name)
        maps[f"stage{stage}"] = FeatureMap(x, 2**stage)
    return (convolved(x, Conv(1536), spec, "head") if spec.version == 2 else x), maps


def _residual(
    x: Any, branches: tuple[Branch, ...], spec: InceptionResNetSpec, scale: float, activated: bool, name: str
) -> Any:
    """Adds the branches' projection, times the scale (figure 20)."""
    y = module(x, branches, spec, name)
    y = keras.layers.Conv2D(x.shape[-1], 1, kernel_initializer=he_normal(), name=f"{name}_project")(y)
    if scale != 1:
        y = keras.layers.Rescaling(scale, name=f"{name}_scale")(y)
    x = keras.layers.Add(name=f"{name}_add")([x, y])
    return activation(x, spec.activation, name=f"{name}_out") if activated else x


def _place(match: re.Match, layers: Sequence[str]) -> str:
    """Names timm's modules: those alone, those in rows, and the last."""
    stage, block = int(match["stage"]), int(match["block"])
    if block == 1:
        return f"mixed_{stage + 2}{'b' if stage == 3 else 'a'}"
    last = max(
        int(found["block"]) for layer in layers if (found := re.match(rf"stage{stage}_block(?P<block>\d+)_", layer))
    )
    if stage == 5 and block == last:
        return "block8"
    return f"{('repeat', 'repeat_1', 'repeat_2')[stage - 3]}.{block - 2}"


def _branch(kind: str, match: re.Match, layers: Sequence[str]) -> str:
    """Names timm's branches: one convolution alone, or a row, in which a pooling counts."""
    branch, prefix = int(match["branch"]), match.group().rpartition("_")[0]
    row = sum(layer.startswith(f"{prefix}_conv") for layer in layers) > 1
    first = _place(match, layers) == "mixed_5b" and branch == 4
    number = f".{int(match['i']) - 1 + first}" if row or first else ""
    return f"{_place(match, layers)}.branch{branch - 1}{number}.{kind}"


_STEM = {"stem1": "1a", "stem2": "2a", "stem3": "2b", "stage21": "3b", "stage22": "4a"}
_FIRST_LAYERS, _BRANCH = r"(?P<part>stem|stage2)_", BLOCK + r"branch(?P<branch>\d)_"
TIMM = Layout(
    "Inception-ResNet, timm's",
    {
        _FIRST_LAYERS + r"conv(?P<i>\d)": lambda match, _: f"conv2d_{_STEM[match['part'] + match['i']]}.conv",
        _FIRST_LAYERS + r"norm(?P<i>\d)": lambda match, _: f"conv2d_{_STEM[match['part'] + match['i']]}.bn",
        _BRANCH + r"conv(?P<i>\d)": lambda match, layers: _branch("conv", match, layers),
        _BRANCH + r"norm(?P<i>\d)": lambda match, layers: _branch("bn", match, layers),
        BLOCK + "project": lambda match, layers: f"{_place(match, layers)}.conv2d",
        "head_conv": "conv2d_7b.conv",
        "head_norm": "conv2d_7b.bn",
        HEAD: "classif",
    },
    fits=lambda spec: spec.batch_norm and spec.version == 2,
)

INCEPTION_RESNET = Family("inception_resnet", InceptionResNetSpec, inception_resnet, layouts=(TIMM,))

PAPER = "1602.07261"
V2 = InceptionResNetSpec()
V1 = replace(V2, version=1, depths=(5, 10, 5))

InceptionResNetV1 = variant("InceptionResNetV1", INCEPTION_RESNET, V1, paper=PAPER, key="inception_resnet_v1", size=299)
InceptionResNetV2 = variant("InceptionResNetV2", INCEPTION_RESNET, V2, paper=PAPER, key="inception_resnet_v2", size=299)

ARCHITECTURES = {InceptionResNetV2.key: InceptionResNetV2.spec}
