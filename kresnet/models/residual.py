"""The residual engine: one spec, two kinds of block, and with them every residual network.

He et al. 2015, arXiv:1512.03385 (post-activation); He et al. 2016, arXiv:1603.05027 (pre-activation).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras

from kresnet import checks
from kresnet.layers import (
    ACTIVATIONS,
    PaddedIdentity,
    activation,
    conv,
    drop_path,
    make_divisible,
    max_pool,
    norm,
    squeeze_excite,
)
from kresnet.weights import Layout
from kresnet.zoo import FeatureMap, Spec

STEMS = ("conv7", "deep", "conv3")
SHORTCUTS = ("conv", "avg_conv", "conv3", "pad", "none")


@dataclasses.dataclass(frozen=True)
class ResNetSpec(Spec):
    """A residual network. The defaults are ResNet-50's (v1.5).

    Raises:
        ValueError: if a field, or two together, make no sense.
    """

    depths: tuple[int, ...] = (3, 4, 6, 3)  # blocks in each stage
    widths: tuple[int, ...] = (64, 128, 256, 512)  # channels of each stage's blocks, before expansion
    expansion: int = 4  # 1: basic block, two 3x3; more: bottleneck, whose output has expansion * width channels
    groups: int = 1  # ResNeXt's cardinality: groups of the bottleneck's 3x3
    group_width: int | None = None  # channels in each group at the first stage; None: the stage's width / groups
    entry_divisor: int = 1  # the bottleneck's first 1x1 has this times fewer channels than its 3x3 (SENet-154: 2)
    se_reduction: int | None = None  # squeeze-and-excitation's ratio; None: there is none
    stem: str = "conv7"  # 7x7 and max pooling; "deep": three 3x3 and max pooling (C, D); "conv3": one 3x3 (CIFAR)
    stem_width: int | None = None  # channels of the stem; None: the first stage's width
    stem_pool: str = "symmetric"  # the max pooling's padding; "ceil": only at the end, as Caffe's
    shortcut: str = "conv"  # option B; "avg_conv" (D), "conv3" (SENet-154), "pad" (option A), "none" (plain networks)
    stride_in: str = "3x3"  # where the bottleneck strides; "1x1": v1 as printed; "3x3": v1.5
    preactivation: bool = False  # v2
    shared_entry: bool = False  # v2: the first block's shortcut starts behind its activation too (1603.05027, appendix)
    final_norm: bool = True  # v2: norm and activation behind the last block
    activation: str = "relu"  # one of `kresnet.layers.ACTIVATIONS`
    output_stride: int = 32  # 8 or 16: the later stages dilate instead of striding
    zero_init_residual: bool = False  # blocks start as identities (arXiv:1706.02677, section 5.1)
    drop_path_rate: float = 0.0  # the last block's probability of being dropped; the others' rise to it linearly
    dropout_rate: float = 0.0  # before a block's last convolution (WRN: 0.3)
    epsilon: float = 1e-5  # of batch normalization
    momentum: float = 0.9  # of batch normalization, in Keras's sense: the share of the old statistics

    def __post_init__(self):
        super().__post_init__()
        depths, widths = checks.integers("depths", self.depths), checks.integers("widths", self.widths)
        checks.require(len(depths) == len(widths), "`depths` and `widths` must match", depths=depths, widths=widths)
        self._set(depths=depths, widths=widths)
        for name in ("expansion", "groups", "entry_divisor"):
            checks.integer(name, getattr(self, name))
        for name in ("group_width", "se_reduction", "stem_width"):
            if getattr(self, name) is not None:
                checks.integer(name, getattr(self, name))
        for name in ("preactivation", "shared_entry", "final_norm", "zero_init_residual"):
            checks.boolean(name, getattr(self, name))
        checks.choice("stem", self.stem, STEMS)
        checks.choice("stem_pool", self.stem_pool, ("symmetric", "ceil"))
        checks.choice("shortcut", self.shortcut, SHORTCUTS)
        checks.choice("stride_in", self.stride_in, ("1x1", "3x3"))
        checks.choice("activation", self.activation, ACTIVATIONS)
        checks.choice("output_stride", self.output_stride, (8, 16, 32))
        for name in ("drop_path_rate", "dropout_rate", "momentum"):
            checks.number(name, getattr(self, name), 0, 1, "a fraction in [0, 1)")
        checks.number("epsilon", self.epsilon, 1e-12, 1, "in [1e-12, 1)")
        self._check_combinations()

    def _check_combinations(self) -> None:
        groups, widths, bottleneck = self.groups, self.widths, self.expansion > 1
        checks.require(
            bottleneck or (groups == 1 and self.group_width is None and self.entry_divisor == 1),
            "Groups and their width shape a bottleneck's 3x3; a basic block (`expansion=1`) has none",
            groups=groups,
            group_width=self.group_width,
            entry_divisor=self.entry_divisor,
        )
        for stage in range(len(widths)):
            inner = self.inner_width(stage)
            checks.require(
                inner > 0 and inner % groups == 0 and inner % self.entry_divisor == 0,
                f"Stage {stage + 2}'s 3x3 has {inner} channels, which `groups` and `entry_divisor` must divide",
                groups=groups,
                entry_divisor=self.entry_divisor,
                widths=widths,
            )
        checks.require(
            self.stem != "deep" or self.stem_channels % 2 == 0,
            "A deep stem starts with half its width, which must be even",
            stem=self.stem,
            stem_width=self.stem_channels,
        )
        channels = (self.stem_channels, *(width * self.expansion for width in widths))
        checks.require(
            self.shortcut != "pad" or all(a <= b for a, b in zip(channels, channels[1:], strict=False)),
            "A padded shortcut cannot drop channels, so no stage may be narrower than the one before",
            shortcut=self.shortcut,
            channels=channels,
        )
        checks.require(
            self.shortcut != "none" or not (self.zero_init_residual or self.drop_path_rate),
            "Without shortcuts a branch that is zeroed or dropped leaves nothing",
            shortcut=self.shortcut,
            zero_init_residual=self.zero_init_residual,
            drop_path_rate=self.drop_path_rate,
        )

    @property
    def stem_channels(self) -> int:
        return self.stem_width or self.widths[0]

    def inner_width(self, stage: int) -> int:
        """Channels of the bottleneck's 3x3 in the stage of that index, the first being 0."""
        if self.group_width is None:
            return self.widths[stage]
        return self.group_width * self.widths[stage] // self.widths[0] * self.groups

    @property
    def stride(self) -> int:
        whole = (1 if self.stem == "conv3" else 4) * 2 ** (len(self.depths) - 1)
        return min(whole, self.output_stride)


class Conv(NamedTuple):
    """A row of a block: one convolution."""

    filters: int
    kernel: int
    stride: int = 1
    groups: int = 1
    dilation: int = 1


class Block(NamedTuple):
    """A block, as the rows of its branch and what its shortcut must make up for."""

    name: str
    convs: list[Conv]
    stride: int  # of the whole block
    dilation: int  # of the stage; above 1 where it replaces a stride
    drop_path_rate: float  # probability in [0, 1)
    first: bool  # whether it follows the stem

    @property
    def filters(self) -> int:
        return self.convs[-1].filters


def blocks(spec: ResNetSpec, stem_stride: int) -> Iterator[tuple[str, int, list[Block]]]:
    """Yields each stage's name, output stride in input pixels, and blocks."""
    stride_so_far, dilation, number, total = stem_stride, 1, 0, sum(spec.depths)
    for index, (depth, width) in enumerate(zip(spec.depths, spec.widths, strict=True)):
        stride, before = (1 if index == 0 else 2), dilation
        if stride_so_far * stride > spec.output_stride:
            dilation, stride = dilation * stride, 1
        stride_so_far *= stride
        stage = []
        for i in range(depth):
            number += 1
            s, d = (stride, before) if i == 0 else (1, dilation)
            if spec.expansion == 1:
                convs = [Conv(width, 3, s, 1, d), Conv(width, 3, 1, 1, dilation)]
            else:
                inner = spec.inner_width(index)
                first, second = (s, 1) if spec.stride_in == "1x1" else (1, s)
                convs = [
                    Conv(inner // spec.entry_divisor, 1, first),
                    Conv(inner, 3, second, spec.groups, d),
                    Conv(width * spec.expansion, 1),
                ]
            name = f"stage{index + 2}_block{i + 1}"
            stage.append(Block(name, convs, s, dilation, spec.drop_path_rate * number / total, number == 1))
        yield f"stage{index + 2}", stride_so_far, stage


def resnet(x: Any, spec: ResNetSpec) -> tuple[Any, dict[str, FeatureMap]]:
    """Builds stem, stages and, of a pre-activation network, the final norm. Stage 1 of the papers is the stem."""
    x, stride, maps = _stem(x, spec)
    block = _preactivation_block if spec.preactivation else _block
    for stage, stride, rows in blocks(spec, stride):
        for row in rows:
            x = block(x, row, spec)
        maps[stage] = FeatureMap(x, stride)
    if spec.preactivation and spec.final_norm:
        x = _activation(_norm(x, spec, "head_norm"), spec, "head_out")
    return x, maps


def _stem(x: Any, spec: ResNetSpec) -> tuple[Any, int, dict[str, FeatureMap]]:
    """Returns the feature map, its stride, and the map before the pooling as "stem"."""
    width = spec.stem_channels
    if spec.stem == "deep":
        rows = [Conv(width // 2, 3, 2), Conv(width // 2, 3), Conv(width, 3)]
        names = ["1", "2", "3"]
    else:
        rows = [Conv(width, 7, 2) if spec.stem == "conv7" else Conv(width, 3)]
        names = [""]
    for name, row in zip(names, rows, strict=True):
        x = _conv(x, row, f"stem_conv{name}")
        # A pre-activation network's first block brings the norm and activation that follow the last convolution.
        if not (spec.preactivation and row is rows[-1]):
            x = _activation(_norm(x, spec, f"stem_norm{name}"), spec, f"stem_act{name}")
    maps = {"stem": FeatureMap(x, rows[0].stride)}
    if spec.stem == "conv3":
        return x, 1, maps
    nonnegative = spec.activation in ("relu", "relu6") and not spec.preactivation
    return max_pool(x, nonnegative=nonnegative, padding=spec.stem_pool, name="stem_pool"), 4, maps


def _block(x: Any, block: Block, spec: ResNetSpec) -> Any:
    """Post-activation, v1: convolution, norm, activation, and the last activation behind the sum."""
    shortcut, last = _shortcut(x, x, block, spec), len(block.convs)
    for i, row in enumerate(block.convs, 1):
        if i == last:
            x = _dropout(x, block, spec)
        x = _conv(x, row, f"{block.name}_conv{i}")
        x = _norm(x, spec, f"{block.name}_norm{i}", zero_gamma=i == last and spec.zero_init_residual)
        if i < last:
            x = _activation(x, spec, f"{block.name}_act{i}")
    x = _merge(x, shortcut, block, spec)
    return _activation(x, spec, f"{block.name}_out")


def _preactivation_block(x: Any, block: Block, spec: ResNetSpec) -> Any:
    """Pre-activation, v2: norm, activation, convolution, and nothing behind the sum."""
    y, last = x, len(block.convs)
    for i, row in enumerate(block.convs, 1):
        y = _activation(_norm(y, spec, f"{block.name}_norm{i}"), spec, f"{block.name}_act{i}")
        if i == 1:
            shortcut = _shortcut(x, y, block, spec)
        if i == last:
            y = _dropout(y, block, spec)
        y = _conv(y, row, f"{block.name}_conv{i}", zero=i == last and spec.zero_init_residual)
    return _merge(y, shortcut, block, spec)


def _shortcut(x: Any, activated: Any, block: Block, spec: ResNetSpec) -> Any | None:
    """Returns what a block adds to its branch: x itself where the shapes agree, and None in a plain network.

    `activated` is x behind the block's first activation in a pre-activation network, and what a projection starts from.
    """
    if spec.shortcut == "none":
        return None
    if block.stride == 1 and block.filters == x.shape[-1]:
        return activated if block.first and spec.shared_entry else x
    x, stride, name = activated, block.stride, f"{block.name}_shortcut"
    if spec.shortcut == "pad":
        return PaddedIdentity(block.filters, stride, name=f"{name}_pad")(x)
    kernel, dilation = 1, 1
    if spec.shortcut == "conv3" and (stride > 1 or block.dilation > 1):
        kernel, dilation = 3, next(row.dilation for row in block.convs if row.kernel == 3)
    if spec.shortcut == "avg_conv":
        x, stride = _average(x, stride, block.dilation, f"{name}_pool"), 1
    x = _conv(x, Conv(block.filters, kernel, stride, 1, dilation), f"{name}_conv")
    return x if spec.preactivation else _norm(x, spec, f"{name}_norm")


def _average(x: Any, stride: int, dilation: int, name: str) -> Any:
    """Averages 2x2 pixels before D's projection, which so sees all of them; nothing where the block does not stride.

    He et al. 2019, arXiv:1812.01187, section 4.2. Where a stage dilates instead of striding, timm averages 2x2 pixels all
    the same, one step apart, and counts the zeros that it pads with.
    """
    if stride == 1 and dilation > 1:
        x = keras.layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{name}_pad")(x)
        return keras.layers.AveragePooling2D(2, 1, "valid", name=name)(x)
    return keras.layers.AveragePooling2D(2, 2, "same", name=name)(x) if stride > 1 else x


def _merge(x: Any, shortcut: Any | None, block: Block, spec: ResNetSpec) -> Any:
    """Rescales the branch's channels, drops it for some samples in training, and adds the shortcut."""
    if spec.se_reduction:
        x = squeeze_excite(x, make_divisible(block.filters / spec.se_reduction), name=f"{block.name}_se")
    x = drop_path(x, block.drop_path_rate, name=f"{block.name}_drop_path")
    return x if shortcut is None else keras.layers.Add(name=f"{block.name}_add")([shortcut, x])


def _conv(x: Any, row: Conv, name: str, zero: bool = False) -> Any:
    filters, kernel, stride, groups, dilation = row
    return conv(x, filters, kernel, stride=stride, groups=groups, dilation=dilation, zero=zero, name=name)


def _norm(x: Any, spec: ResNetSpec, name: str, zero_gamma: bool = False) -> Any:
    return norm(x, epsilon=spec.epsilon, momentum=spec.momentum, zero_gamma=zero_gamma, name=name)


def _activation(x: Any, spec: ResNetSpec, name: str) -> Any:
    return activation(x, spec.activation, name=name)


def _dropout(x: Any, block: Block, spec: ResNetSpec) -> Any:
    """Zagoruyko and Komodakis 2016, arXiv:1605.07146, section 2.4."""
    return keras.layers.Dropout(spec.dropout_rate, name=f"{block.name}_dropout")(x) if spec.dropout_rate else x


BLOCK = r"stage(?P<stage>\d+)_block(?P<block>\d+)_"
_DEEP_STEM = {"stem_conv1": "conv1.0", "stem_norm1": "conv1.1", "stem_conv2": "conv1.3", "stem_norm2": "conv1.4"}

RESNET = Layout(
    "ResNet, torchvision's and timm's",
    {
        "stem_conv": "conv1",
        "stem_norm": "bn1",
        **_DEEP_STEM,
        "stem_conv3": "conv1.6",
        "stem_norm3": "bn1",
        BLOCK + r"conv(?P<i>\d)": "layer{stage_1}.{block_1}.conv{i}",
        BLOCK + r"norm(?P<i>\d)": "layer{stage_1}.{block_1}.bn{i}",
        BLOCK + "shortcut_conv": "layer{stage_1}.{block_1}.downsample.0",
        BLOCK + "shortcut_norm": "layer{stage_1}.{block_1}.downsample.1",
        BLOCK + "se_reduce": "layer{stage_1}.{block_1}.se.fc1",
        BLOCK + "se_expand": "layer{stage_1}.{block_1}.se.fc2",
        "predictions": "fc",
    },
)
RESNET_D = RESNET.but(  # the average pooling counts as a module
    "ResNet-D, timm's",
    {
        BLOCK + "shortcut_conv": "layer{stage_1}.{block_1}.downsample.1",
        BLOCK + "shortcut_norm": "layer{stage_1}.{block_1}.downsample.2",
    },
)
LEGACY_SENET = RESNET.but(
    "SENet, timm's legacy",
    {
        "stem_conv": "layer0.conv1",
        "stem_norm": "layer0.bn1",
        r"stem_conv(?P<i>\d)": "layer0.conv{i}",
        r"stem_norm(?P<i>\d)": "layer0.bn{i}",
        BLOCK + "se_reduce": "layer{stage_1}.{block_1}.se_module.fc1",
        BLOCK + "se_expand": "layer{stage_1}.{block_1}.se_module.fc2",
        "predictions": "last_linear",
    },
)
RESNETV2 = Layout(
    "ResNetV2, timm's",
    {
        r"stem_conv(?P<i>\d?)": "stem.conv{i}",
        r"stem_norm(?P<i>\d?)": "stem.norm{i}",
        BLOCK + r"(?P<part>(conv|norm)\d)": "stages.{stage_2}.blocks.{block_1}.{part}",
        BLOCK + "shortcut_(?P<part>conv|norm)": "stages.{stage_2}.blocks.{block_1}.downsample.{part}",
        "head_norm": "norm",
        "predictions": "head.fc",
    },
)
resnet.layouts = (RESNET, RESNET_D, LEGACY_SENET, RESNETV2)
