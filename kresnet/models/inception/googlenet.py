"""GoogLeNet: nine modules of four branches, and classifiers at three depths.

Szegedy et al. 2015, arXiv:1409.4842.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import keras

from kresnet import checks
from kresnet.layers import activation, conv, he_normal, local_response_norm, max_pool, norm
from kresnet.models.ends import FeatureMap, predictions
from kresnet.models.family import MOST_CHANNELS, Family, Maps
from kresnet.models.inception.modules import Conv, InceptionSpec, Pool, convolved, module
from kresnet.models.plain import averaged
from kresnet.models.registry import variant
from kresnet.models.scaling import multiplied_depth
from kresnet.weights.forms import flattened
from kresnet.weights.layout import BLOCK, HEAD, Layout


class Row(NamedTuple):
    """A module: channels of its branches, in the order of the paper's table 1."""

    one: int  # 1x1
    reduce3: int  # 1x1 before the 3x3
    three: int
    reduce5: int  # 1x1 before the 5x5
    five: int
    pool: int  # 1x1 behind the pooling


TABLE = (
    (Row(64, 96, 128, 16, 32, 32), Row(128, 128, 192, 32, 96, 64)),
    (
        Row(192, 96, 208, 16, 48, 64),
        Row(160, 112, 224, 24, 64, 64),
        Row(128, 128, 256, 24, 64, 64),
        Row(112, 144, 288, 32, 64, 64),
        Row(256, 160, 320, 32, 128, 128),
    ),
    (Row(256, 160, 320, 32, 128, 128), Row(384, 192, 384, 48, 128, 128)),
)
# Height and width of the map that an auxiliary classifier's dense layer takes, and its channels.
AUXILIARY_SIZE, AUXILIARY_WIDTHS = 4, (128, 1024)


@dataclasses.dataclass(frozen=True)
class GoogLeNetSpec(InceptionSpec):
    """GoogLeNet; the defaults are torchvision's.

    Raises:
        ValueError: if a field makes no sense.
    """

    modules: tuple[tuple[Row, ...], ...] = TABLE  # of each of three stages
    reduced: bool = True  # whether 1x1 convolutions reduce the channels; False: the naive module, figure 2(a)
    large_kernel: int = 3  # of the paper's 5x5 branch
    last_pool: int = 2  # side of the windows between the last two stages
    local_response_norm: bool = False  # behind the first pooling, and before the second
    averaged_auxiliary: bool = True  # auxiliary maps are averaged to 4x4, and not by windows of 5x5, 3 pixels apart
    head_dropout_rate: float = 0.2

    def __post_init__(self):
        super().__post_init__()
        rows = isinstance(self.modules, tuple | list) and len(self.modules) == 3 and all(self.modules)
        rows = rows and all(isinstance(stage, tuple | list) for stage in self.modules)
        rows = rows and all(isinstance(row, tuple | list) and len(row) == 6 for stage in self.modules for row in stage)
        checks.require(rows, "`modules` must hold three stages of rows of six widths", modules=self.modules)
        stages = [
            [Row(*checks.integers("modules", row, maximum=MOST_CHANNELS)) for row in stage] for stage in self.modules
        ]
        self._set(modules=tuple(map(tuple, stages)))
        for name in ("reduced", "local_response_norm", "averaged_auxiliary"):
            checks.boolean(name, getattr(self, name))
        checks.choice("large_kernel", self.large_kernel, (3, 5))
        checks.choice("last_pool", self.last_pool, (2, 3))

    def scaled(self, depth: float, width: float) -> GoogLeNetSpec:
        """A stage's modules are repeated evenly; widths go to multiples of 8."""
        stages = []
        for stage in self.modules:
            count = multiplied_depth(len(stage), depth)
            stages.append(tuple(stage[i * len(stage) // count] for i in range(count)))
        return replace(self, modules=tuple(stages), width_multiplier=self.width_multiplier * width)


def googlenet(x: Any, spec: GoogLeNetSpec) -> tuple[Any, Maps]:
    """Builds the stem and the modules. Of stage 4 the maps that auxiliary classifiers take are among the maps."""
    nonnegative = spec.activation in ("relu", "relu6")
    x = conv(x, spec.channels(64), 7, stride=2, bias=not spec.batch_norm, name="stem_conv")
    if spec.batch_norm:
        x = norm(x, epsilon=spec.epsilon, momentum=spec.momentum, name="stem_norm")
    x = activation(x, spec.activation, name="stem_act")
    maps = {"stem": FeatureMap(x, 2)}
    x = max_pool(x, padding="ceil", nonnegative=nonnegative, name="stem_pool")
    if spec.local_response_norm:
        x = _response_norm(x, "stem_lrn")
    for number, unit in enumerate((Conv(64), Conv(192, 3)), 1):
        x = convolved(x, unit, spec, "stage2", number)
    if spec.local_response_norm:
        x = _response_norm(x, "stage2_lrn")
    maps["stage2"] = FeatureMap(x, 4)
    for stage, rows in enumerate(spec.modules, 3):
        if stage == 5 and spec.last_pool == 2:
            x = keras.layers.MaxPooling2D(2, 2, "same", name="stage4_pool")(x)
        else:
            x = max_pool(x, padding="ceil", nonnegative=nonnegative, name=f"stage{stage - 1}_pool")
        for block, widths in enumerate(rows, 1):
            x = module(x, _branches(widths, spec), spec, f"stage{stage}_block{block}")
            if stage == 4 and block in (1, len(rows) - 1):
                maps[f"stage4_block{block}"] = FeatureMap(x, 16)
        maps[f"stage{stage}"] = FeatureMap(x, 2**stage)
    return x, maps


def _branches(widths: Row, spec: GoogLeNetSpec) -> tuple:
    one, three, five = Conv(widths.one), Conv(widths.three, 3), Conv(widths.five, spec.large_kernel)
    if not spec.reduced:
        return (one,), (three,), (five,), (Pool("max"),)
    reduced = (Conv(widths.reduce3), three), (Conv(widths.reduce5), five)
    return (one,), *reduced, (Pool("max"), Conv(widths.pool))


def _response_norm(x: Any, name: str) -> Any:
    # The paper gives no numbers: these are of Caffe's replication, bvlc_googlenet, which divides alpha by the size.
    return local_response_norm(x, size=5, alpha=1e-4 / 5, beta=0.75, bias=1.0, name=name)


def auxiliary(maps: Maps, spec: GoogLeNetSpec, classes: int, classifier_activation: str | None) -> Mapping[str, Any]:
    """Builds the classifiers at the first and the last but one module of stage 4 (section 5)."""
    places = [name for name in maps if name.startswith("stage4_block")]
    outputs = {}
    for name, place in zip(("auxiliary1", "auxiliary2"), (places[0], places[-1]), strict=True):
        x = maps[place].tensor
        smallest = 1 if spec.averaged_auxiliary else 5
        checks.require(
            all(side is not None and side >= smallest for side in x.shape[1:3]),
            f"An auxiliary classifier needs a whole `input_shape`, and a feature map of {smallest}x{smallest} and more",
            feature_map=tuple(x.shape[1:]),
        )
        if spec.averaged_auxiliary:
            x = averaged(x, AUXILIARY_SIZE, f"{name}_pool")
        else:
            x = keras.layers.AveragePooling2D(5, 3, name=f"{name}_pool")(x)
        x = convolved(x, Conv(AUXILIARY_WIDTHS[0]), spec, name)
        x = keras.layers.Flatten(name=f"{name}_flatten")(x)
        width = spec.channels(AUXILIARY_WIDTHS[1])
        x = keras.layers.Dense(width, kernel_initializer=he_normal(), name=f"{name}_dense")(x)
        x = activation(x, spec.activation, name=f"{name}_dense_act")
        x = keras.layers.Dropout(0.7, name=f"{name}_dropout")(x)
        outputs[name] = predictions(x, classes, classifier_activation, name=name)
    return outputs


def _module(kind: str, match: re.Match, layers: Sequence[str]) -> str:
    """Names torchvision's branches: those of several convolutions are rows, and a pooling is the first of its row."""
    branch, number = int(match["branch"]), int(match["i"])
    place = {1: "", 2: f".{number - 1}", 3: f".{number - 1}", 4: ".1"}[branch]
    letter = "abcdefghijklmnopqrstuvwxyz"[int(match["block"]) - 1]
    return f"inception{match['stage']}{letter}.branch{branch}{place}.{kind}"


_BRANCH = BLOCK + r"branch(?P<branch>\d)_"
TORCHVISION = Layout(
    "GoogLeNet, torchvision's",
    {
        "stem_(?P<kind>conv)": "conv1.conv",
        "stem_norm": "conv1.bn",
        r"stage2_conv(?P<i>\d)": lambda match, layers: f"conv{int(match['i']) + 1}.conv",
        r"stage2_norm(?P<i>\d)": lambda match, layers: f"conv{int(match['i']) + 1}.bn",
        _BRANCH + r"conv(?P<i>\d)": lambda match, layers: _module("conv", match, layers),
        _BRANCH + r"norm(?P<i>\d)": lambda match, layers: _module("bn", match, layers),
        r"auxiliary(?P<i>\d)_conv": "aux{i}.conv.conv",
        r"auxiliary(?P<i>\d)_norm": "aux{i}.conv.bn",
        r"auxiliary(?P<i>\d)_dense": "aux{i}.fc1",
        r"auxiliary(?P<i>\d)": "aux{i}.fc2",
        HEAD: "fc",
    },
    forms={r"auxiliary\d_dense": flattened(AUXILIARY_SIZE, AUXILIARY_SIZE)},
    left_over=(r"aux\d\..*",),
    fits=lambda spec: spec.batch_norm and spec.reduced and max(map(len, spec.modules)) <= 26,
)

GOOGLENET = Family("googlenet", GoogLeNetSpec, googlenet, layouts=(TORCHVISION,), auxiliary=auxiliary)

PAPER = "1409.4842"
V1 = GoogLeNetSpec()
V2014 = replace(
    V1,
    batch_norm=False,
    large_kernel=5,
    last_pool=3,
    local_response_norm=True,
    averaged_auxiliary=False,
    head_dropout_rate=0.4,
)

GoogLeNet = variant("GoogLeNet", GOOGLENET, V1, paper=PAPER)
GoogLeNet2014 = variant("GoogLeNet2014", GOOGLENET, V2014, paper=PAPER)

ARCHITECTURES = {GoogLeNet.key: GoogLeNet.spec}
