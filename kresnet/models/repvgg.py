"""RepVGG: beside each 3x3 stand a 1x1 and an identity while it trains; one 3x3 does the work of the three then.

Ding et al. 2021, arXiv:2101.03697. `kresnet.reparameterize` makes the one of the three, and so does `kresnet.export`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import keras

from kresnet import checks
from kresnet.layers import ACTIVATIONS, activation, conv, norm, squeeze_excite
from kresnet.models.ends import FeatureMap
from kresnet.models.family import MOST_BLOCKS, MOST_CHANNELS, Family, Spec
from kresnet.models.registry import variant
from kresnet.models.scaling import make_divisible, multiplied_depth
from kresnet.weights.layout import BLOCK, HEAD, Layout


@dataclasses.dataclass(frozen=True)
class RepVGGSpec(Spec):
    """A RepVGG. The defaults are RepVGG-A0's.

    Raises:
        ValueError: if a field, or two together, make no sense.
    """

    settings = (*Spec.settings, "activation")

    depths: tuple[int, ...] = (2, 4, 14, 1)  # blocks in each stage; the stem is one more
    widths: tuple[int, ...] = (48, 96, 192, 1280)  # channels of each stage; the stem has the first's, but at most 64
    groups: int = 1  # in the 3rd, 5th, 7th, ... block, the stem counted
    se_reduction: int | None = None  # ratio of a block's channels to those of its squeezed layer; None: no such layer
    activation: str = "relu"  # one of `kresnet.layers.ACTIVATIONS`
    deployed: bool = False  # whether a block is the 3x3 that does the work of the three

    def __post_init__(self):
        super().__post_init__()
        depths = checks.integers("depths", self.depths, maximum=MOST_BLOCKS)
        widths = checks.integers("widths", self.widths, maximum=MOST_CHANNELS)
        checks.require(len(depths) == len(widths), "`depths` and `widths` must match", depths=depths, widths=widths)
        self._set(depths=depths, widths=widths, groups=checks.integer("groups", self.groups, maximum=MOST_CHANNELS))
        checks.require(
            all(width % self.groups == 0 for width in widths),
            "`groups` must divide the channels of all stages",
            groups=self.groups,
            widths=widths,
        )
        if self.se_reduction is not None:
            self._set(se_reduction=checks.integer("se_reduction", self.se_reduction, maximum=MOST_CHANNELS))
        checks.choice("activation", self.activation, ACTIVATIONS)
        checks.boolean("deployed", self.deployed)

    @property
    def stem_width(self) -> int:
        return min(64, self.widths[0])

    @property
    def stride(self) -> int:
        return 2 ** (1 + len(self.depths))

    def scaled(self, depth: float, width: float) -> RepVGGSpec:
        """Widths go to multiples of 8, and of the groups."""
        step = 8 * self.groups
        widths = tuple(w if width == 1 else make_divisible(w * width, step) for w in self.widths)
        return replace(self, depths=tuple(multiplied_depth(n, depth) for n in self.depths), widths=widths)


def repvgg(x: Any, spec: RepVGGSpec) -> tuple[Any, dict[str, FeatureMap]]:
    """Builds stem and stages. As with residual networks, stage 1 is the stem."""
    x = _block(x, spec, spec.stem_width, 2, 1, "stem")
    maps, layer = {"stem": FeatureMap(x, 2)}, 1
    for stage, (depth, width) in enumerate(zip(spec.depths, spec.widths, strict=True), 2):
        for i in range(1, depth + 1):
            layer += 1
            groups = spec.groups if layer % 2 else 1
            x = _block(x, spec, width, 2 if i == 1 else 1, groups, f"stage{stage}_block{i}")
        maps[f"stage{stage}"] = FeatureMap(x, 2**stage)
    return x, maps


def _block(x: Any, spec: RepVGGSpec, width: int, stride: int, groups: int, name: str) -> Any:
    if spec.deployed:
        y = conv(x, width, 3, stride=stride, groups=groups, bias=True, name=f"{name}_conv")
    else:
        parts = [*branches(x, spec, width, stride=stride, groups=groups, name=name)]
        if stride == 1 and x.shape[-1] == width:
            parts.append(norm(x, epsilon=spec.epsilon, momentum=spec.momentum, name=f"{name}_identity_norm"))
        y = keras.layers.Add(name=f"{name}_add")(parts)
    if spec.se_reduction is not None:
        y = squeeze_excite(y, max(1, width // spec.se_reduction), name=f"{name}_se")
    return activation(y, spec.activation, name=f"{name}_out")


def branches(
    x: Any, spec: Spec, width: int, *, stride: int, groups: int, averaged: bool = False, name: str
) -> tuple[Any, Any]:
    """A 3x3 and a 1x1, each with its norm, which are to be added.

    Args:
        x: feature map, (batch, height, width, channels).
        spec: has the norms' `epsilon` and `momentum`.
        width: channels of both.
        stride: step in pixels, 1 or 2.
        groups: of both.
        averaged: whether the 1x1 takes averages of 2x2 pixels where the stride is 2, and not every second pixel.
        name: prefix of the layers' names.

    Returns:
        Two tensors of shape (batch, ceil(height / stride), ceil(width / stride), width).
    """
    y, step = x, stride
    if averaged and stride > 1:
        y, step = keras.layers.AveragePooling2D(2, stride, "same", name=f"{name}_step")(x), 1
    parts = (
        conv(x, width, 3, stride=stride, groups=groups, name=f"{name}_conv3x3"),
        conv(y, width, 1, stride=step, groups=groups, name=f"{name}_conv1x1"),
    )
    return tuple(
        norm(part, epsilon=spec.epsilon, momentum=spec.momentum, name=f"{name}_norm{kernel}")
        for part, kernel in zip(parts, ("3x3", "1x1"), strict=True)
    )


def _names(stem: str, block: str, modules: Mapping[str, str], head: str) -> dict[str, str]:
    """Returns a layout's names, from those of the stem, of a block, and of the modules in both."""
    in_stem = {f"stem_{layer}": f"{stem}.{module}" for layer, module in modules.items()}
    return in_stem | {f"{BLOCK}{layer}": f"{block}.{module}" for layer, module in modules.items()} | {HEAD: head}


TIMM = Layout(
    "RepVGG, timm's",
    _names(
        "stem",
        "stages.{stage_2}.{block_1}",
        {
            "conv3x3": "conv_kxk.conv",
            "norm3x3": "conv_kxk.bn",
            "conv1x1": "conv_1x1.conv",
            "norm1x1": "conv_1x1.bn",
            "identity_norm": "identity",
            "conv": "reparam_conv",
            "se_reduce": "attn.fc1",
            "se_expand": "attn.fc2",
        },
        "head.fc",
    ),
)
DINGXIAOH = Layout(
    "RepVGG, DingXiaoH's",
    _names(
        "stage0",
        "stage{stage_1}.{block_1}",
        {
            "conv3x3": "rbr_dense.conv",
            "norm3x3": "rbr_dense.bn",
            "conv1x1": "rbr_1x1.conv",
            "norm1x1": "rbr_1x1.bn",
            "identity_norm": "rbr_identity",
            "conv": "rbr_reparam",
            "se_reduce": "se.down",
            "se_expand": "se.up",
        },
        "linear",
    ),
)

REPVGG = Family("repvgg", RepVGGSpec, repvgg, layouts=(TIMM, DINGXIAOH))

PAPER = "2101.03697"
A0 = RepVGGSpec()
A1 = replace(A0, widths=(64, 128, 256, 1280))
A2 = replace(A0, widths=(96, 192, 384, 1408))
B0 = replace(A1, depths=(4, 6, 16, 1))
B1 = replace(B0, widths=(128, 256, 512, 2048))
B2 = replace(B0, widths=(160, 320, 640, 2560))
B3 = replace(B0, widths=(192, 384, 768, 2560))
# Not in the paper, but of its authors: github.com/DingXiaoH/RepVGG. It was trained at 224 pixels, and tested at 320.
D2SE = replace(B2, depths=(8, 14, 24, 1), se_reduction=16)

RepVGG_A0 = variant("RepVGG_A0", REPVGG, A0, paper=PAPER)
RepVGG_A1 = variant("RepVGG_A1", REPVGG, A1, paper=PAPER)
RepVGG_A2 = variant("RepVGG_A2", REPVGG, A2, paper=PAPER)
RepVGG_B0 = variant("RepVGG_B0", REPVGG, B0, paper=PAPER)
RepVGG_B1 = variant("RepVGG_B1", REPVGG, B1, paper=PAPER)
RepVGG_B1g2 = variant("RepVGG_B1g2", REPVGG, replace(B1, groups=2), paper=PAPER)
RepVGG_B1g4 = variant("RepVGG_B1g4", REPVGG, replace(B1, groups=4), paper=PAPER)
RepVGG_B2 = variant("RepVGG_B2", REPVGG, B2, paper=PAPER)
RepVGG_B2g4 = variant("RepVGG_B2g4", REPVGG, replace(B2, groups=4), paper=PAPER)
RepVGG_B3 = variant("RepVGG_B3", REPVGG, B3, paper=PAPER)
RepVGG_B3g4 = variant("RepVGG_B3g4", REPVGG, replace(B3, groups=4), paper=PAPER)
RepVGG_D2se = variant("RepVGG_D2se", REPVGG, D2SE, paper=PAPER, size=320)

_OF_TIMM = (RepVGG_A0, RepVGG_A1, RepVGG_A2, RepVGG_B0, RepVGG_B1, RepVGG_B1g4, RepVGG_B2, RepVGG_B2g4, RepVGG_B3)
ARCHITECTURES = {builder.key: builder.spec for builder in (*_OF_TIMM, RepVGG_B3g4, RepVGG_D2se)}
