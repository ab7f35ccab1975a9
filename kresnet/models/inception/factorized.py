"""Inception-v3 and v4: large convolutions as rows of small ones, and reductions that pool beside them.

Szegedy et al. 2016, arXiv:1512.00567 (v3) and arXiv:1602.07261 (v4). Where figures and the authors' code differ, as in
the channels of v3, it is the code: tensorflow/models, research/slim/nets.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras

from kresnet import checks
from kresnet.layers.pixels import IMAGENET
from kresnet.models.ends import FeatureMap, predictions
from kresnet.models.family import MOST_BLOCKS, Family, Maps
from kresnet.models.inception.modules import (
    HALVED,
    Branch,
    Conv,
    Fork,
    InceptionSpec,
    Pool,
    check_size,
    halving,
    module,
    row,
)
from kresnet.models.registry import variant
from kresnet.models.scaling import multiplied_depth
from kresnet.weights.layout import BLOCK, HEAD, Layout

AVERAGE, WIDE, TALL = Pool("avg"), (1, 7), (7, 1)


@dataclasses.dataclass(frozen=True)
class FactorizedSpec(InceptionSpec):
    """Inception-v3 or v4: modules on three grids, 35x35, 17x17 and 8x8 of an image of 299x299 pixels.

    Raises:
        ValueError: if a field makes no sense.
    """

    smallest = 75  # height and width in pixels of images of which the last reduction leaves something

    depths: tuple[int, ...] = (3, 4, 2)  # modules on each grid, besides the reductions between them
    count_padding: bool = False  # whether averages at the edge count pixels beyond it, as PyTorch's do by default

    def __post_init__(self):
        super().__post_init__()
        depths = checks.integers("depths", self.depths, maximum=MOST_BLOCKS)
        checks.require(len(depths) == 3, "`depths` are those of three grids", depths=depths)
        self._set(depths=depths)
        checks.boolean("count_padding", self.count_padding)

    def scaled(self, depth: float, width: float) -> FactorizedSpec:
        """Widths go to multiples of 8; reductions stay."""
        depths = tuple(multiplied_depth(n, depth) for n in self.depths)
        return replace(self, depths=depths, width_multiplier=self.width_multiplier * width)


class V3Spec(FactorizedSpec):
    """Inception-v3; see `FactorizedSpec`."""


class V4Spec(FactorizedSpec):
    """Inception-v4; see `FactorizedSpec`."""


def inception_v3(x: Any, spec: V3Spec) -> tuple[Any, Maps]:
    """Builds the stem and the modules of figures 5, 6 and 7, with the reductions of figure 10 between them."""
    check_size(x, spec.smallest)
    x = row(x, (Conv(32, 3, 2, "valid"), Conv(32, 3, 1, "valid"), Conv(64, 3)), spec, "stem")
    maps = {"stem": FeatureMap(x, 2)}
    x = keras.layers.MaxPooling2D(3, 2, name="stem_pool")(x)
    x = row(x, (Conv(80), Conv(192, 3, 1, "valid")), spec, "stage2")
    maps["stage2"] = FeatureMap(x, 4)
    x = keras.layers.MaxPooling2D(3, 2, name="stage2_pool")(x)
    first, second, third = spec.depths
    stages = (
        [_v3_a(32 if i == 0 else 64) for i in range(first)],
        # Its middle widths grow from 128 to 192: all but the first and the last have 160.
        [_V3_REDUCE_A, *(_v3_b(128 if i == 0 else 192 if i == second - 1 else 160) for i in range(second))],
        [_V3_REDUCE_B, *[_V3_C] * third],
    )
    return _stages(x, stages, spec, maps)


def inception_v4(x: Any, spec: V4Spec) -> tuple[Any, Maps]:
    """Builds the stem of figure 3, and the modules of figures 4 to 8."""
    check_size(x, spec.smallest)
    x = row(x, (Conv(32, 3, 2, "valid"), Conv(32, 3, 1, "valid"), Conv(64, 3)), spec, "stem")
    maps = {"stem": FeatureMap(x, 2)}
    shared = (Conv(64), Conv(96, 3, 1, "valid"))
    long = (Conv(64), Conv(64, WIDE), Conv(64, TALL), Conv(96, 3, 1, "valid"))
    for block, branches in enumerate(((HALVED, (halving(96),)), (shared, long)), 1):
        x = module(x, branches, spec, f"stage2_block{block}")
    maps["stage2"] = FeatureMap(x, 4)
    first, second, third = spec.depths
    stages = (
        [((halving(192),), HALVED), *[_V4_A] * first],
        [_V4_REDUCE_A, *[_V4_B] * second],
        [_V4_REDUCE_B, *[_V4_C] * third],
    )
    return _stages(x, stages, spec, maps)


def _stages(x: Any, stages: Sequence[Sequence[tuple[Branch, ...]]], spec: FactorizedSpec, maps: Maps) -> tuple:
    for stage, blocks in enumerate(stages, 3):
        for block, branches in enumerate(blocks, 1):
            x = module(x, branches, spec, f"stage{stage}_block{block}", spec.count_padding)
        maps[f"stage{stage}"] = FeatureMap(x, 2**stage)
    return x, maps


def _v3_a(pooled: int) -> tuple[Branch, ...]:
    doubled = (Conv(64), Conv(96, 3), Conv(96, 3))
    return (Conv(64),), (Conv(48), Conv(64, 5)), doubled, (AVERAGE, Conv(pooled))


def _v3_b(width: int) -> tuple[Branch, ...]:
    once = (Conv(width), Conv(width, WIDE), Conv(192, TALL))
    twice = (Conv(width), Conv(width, TALL), Conv(width, WIDE), Conv(width, TALL), Conv(192, WIDE))
    return (Conv(192),), once, twice, (AVERAGE, Conv(192))


_V3_REDUCE_A = (halving(384),), (Conv(64), Conv(96, 3), halving(96)), HALVED
_V3_REDUCE_B = (Conv(192), halving(320)), (Conv(192), Conv(192, WIDE), Conv(192, TALL), halving(192)), HALVED
_V3_FORK = Fork((Conv(384, (1, 3)), Conv(384, (3, 1))))
_V3_C = (Conv(320),), (Conv(384), _V3_FORK), (Conv(448), Conv(384, 3), _V3_FORK), (AVERAGE, Conv(192))

_V4_A = (Conv(96),), (Conv(64), Conv(96, 3)), (Conv(64), Conv(96, 3), Conv(96, 3)), (AVERAGE, Conv(96))
_V4_REDUCE_A = (halving(384),), (Conv(192), Conv(224, 3), halving(256)), HALVED
_V4_B = (
    (Conv(384),),
    (Conv(192), Conv(224, WIDE), Conv(256, TALL)),
    (Conv(192), Conv(192, TALL), Conv(224, WIDE), Conv(224, TALL), Conv(256, WIDE)),
    (AVERAGE, Conv(128)),
)
_V4_REDUCE_B = (Conv(192), halving(192)), (Conv(256), Conv(256, WIDE), Conv(320, TALL), halving(320)), HALVED
_V4_FORK = Fork((Conv(256, (1, 3)), Conv(256, (3, 1))))
_V4_C = (
    (Conv(256),),
    (Conv(384), _V4_FORK),
    (Conv(384), Conv(448, (3, 1)), Conv(512, (1, 3)), _V4_FORK),
    (AVERAGE, Conv(256)),
)


def auxiliary(maps: Maps, spec: V3Spec, classes: int, classifier_activation: str | None) -> Mapping[str, Any]:
    """Builds v3's auxiliary classifier on the 17x17 grid (section 4)."""
    x = maps["stage4"].tensor
    checks.require(
        all(side is None or side >= 17 for side in x.shape[1:3]),
        "The auxiliary classifier needs images of 299x299 pixels and more",
        feature_map=tuple(x.shape[1:]),
    )
    x = keras.layers.AveragePooling2D(5, 3, name="auxiliary_pool")(x)
    x = row(x, (Conv(128), Conv(768, 5, 1, "valid")), spec, "auxiliary")
    x = keras.layers.GlobalAveragePooling2D(name="auxiliary_average")(x)
    return {"auxiliary": predictions(x, classes, classifier_activation, name="auxiliary")}


def _letter(number: int) -> str:
    return chr(ord("a") + number)


def _v3_module(kind: str, match: re.Match, layers: Sequence[str]) -> str:
    """Names torchvision's branches, by what the module is: the kernel's sides, and the number in a row of several."""
    stage, block, branch, number = (int(match[name]) for name in ("stage", "block", "branch", "i"))
    place = f"stage{stage}_block{block}_branch{branch}_"
    count = len({layer for layer in layers if re.match(place + r"(fork\d_)?conv", layer)})
    forked = any(layer.startswith(f"{place}fork") for layer in layers)
    reduces = stage > 3 and block == 1
    names = {
        3: ("branch1x1", "branch5x5", "branch3x3dbl", "branch_pool"),
        4: ("branch3x3", "branch3x3dbl") if reduces else ("branch1x1", "branch7x7", "branch7x7dbl", "branch_pool"),
        5: ("branch3x3", "branch7x7x3") if reduces else ("branch1x1", "branch3x3", "branch3x3dbl", "branch_pool"),
    }[stage]
    place = f"_{number}" if count > 1 or forked else ""
    prong = _letter(int(match["fork"]) - 1) if match["fork"] else ""
    mixed = f"Mixed_{stage + 2}{_letter(block - (stage != 3))}"
    return f"{mixed}.{names[branch - 1]}{place}{prong}.{kind}"


_BRANCH = BLOCK + r"branch(?P<branch>\d)_(fork(?P<fork>\d)_)?"
_V3_STEM = {"stem": ("1a_3x3", "2a_3x3", "2b_3x3"), "stage2": ("3b_1x1", "4a_3x3")}


def _v3_stem(kind: str, match: re.Match, layers: Sequence[str]) -> str:
    return f"Conv2d_{_V3_STEM[match['part']][int(match['i']) - 1]}.{kind}"


TORCHVISION = Layout(
    "Inception-v3, torchvision's and timm's",
    {
        r"(?P<part>stem|stage2)_conv(?P<i>\d)": lambda match, layers: _v3_stem("conv", match, layers),
        r"(?P<part>stem|stage2)_norm(?P<i>\d)": lambda match, layers: _v3_stem("bn", match, layers),
        _BRANCH + r"conv(?P<i>\d)": lambda match, layers: _v3_module("conv", match, layers),
        _BRANCH + r"norm(?P<i>\d)": lambda match, layers: _v3_module("bn", match, layers),
        r"auxiliary_conv(?P<i>\d)": "AuxLogits.conv{i_1}.conv",
        r"auxiliary_norm(?P<i>\d)": "AuxLogits.conv{i_1}.bn",
        "auxiliary": "AuxLogits.fc",
        HEAD: "fc",
    },
    left_over=(r"AuxLogits\..*",),
    fits=lambda spec: spec.batch_norm and max(spec.depths) <= 25,
)


def _v4_module(kind: str, match: re.Match, layers: Sequence[str]) -> str:
    """Names timm's branches: one convolution alone, or a row, in which a pooling counts; forks are named in full."""
    stage, block, branch, number = (int(match[name]) for name in ("stage", "block", "branch", "i"))
    blocks = list(dict.fromkeys(found.group() for layer in layers if (found := re.match(BLOCK, layer))))
    feature = f"features.{blocks.index(f'stage{stage}_block{block}_') + 3}"
    place = f"stage{stage}_block{block}_branch{branch}_"
    count = sum(bool(re.match(place + r"conv\d", layer)) for layer in layers)
    if (stage == 2 and block == 1) or (stage == 3 and block == 1):
        return f"{feature}.conv.{kind}"
    if any(layer.startswith(f"{place}fork") for layer in layers):
        prong = _letter(int(match["fork"]) - 1) if match["fork"] else ""
        return f"{feature}.branch{branch - 1}_{number - 1}{prong}.{kind}"
    if branch == 4:
        return f"{feature}.branch3.1.{kind}"
    return f"{feature}.branch{branch - 1}{f'.{number - 1}' if count > 1 else ''}.{kind}"


TIMM = Layout(
    "Inception-v4, timm's",
    {
        r"stem_conv(?P<i>\d)": "features.{i_1}.conv",
        r"stem_norm(?P<i>\d)": "features.{i_1}.bn",
        _BRANCH + r"conv(?P<i>\d)": lambda match, layers: _v4_module("conv", match, layers),
        _BRANCH + r"norm(?P<i>\d)": lambda match, layers: _v4_module("bn", match, layers),
        HEAD: "last_linear",
    },
    fits=lambda spec: spec.batch_norm,
)

INCEPTION_V3 = Family("inception_v3", V3Spec, inception_v3, layouts=(TORCHVISION,), auxiliary=auxiliary)
INCEPTION_V4 = Family("inception_v4", V4Spec, inception_v4, layouts=(TIMM,))

# torchvision's, which counts the padding, with the pixels that its weights and timm's were trained on; v4's do not.
V3 = V3Spec(count_padding=True, head_dropout_rate=0.5)
V4 = V4Spec(depths=(4, 7, 3), head_dropout_rate=0.2)

InceptionV3 = variant("InceptionV3", INCEPTION_V3, V3, paper="1512.00567", key="inception_v3", size=299)
InceptionV4 = variant("InceptionV4", INCEPTION_V4, V4, paper="1602.07261", key="inception_v4", size=299)

ARCHITECTURES = {
    InceptionV3.key: InceptionV3.spec,
    InceptionV4.key: InceptionV4.spec,
    "gluon_inception_v3": replace(V3, **IMAGENET),
}
