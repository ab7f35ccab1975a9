"""What a residual network is: the fields of its spec, and the blocks that follow from them."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

from kresnet import checks
from kresnet.layers import ACTIVATIONS
from kresnet.models.family import MOST_BLOCKS, MOST_CHANNELS, Spec
from kresnet.models.scaling import make_divisible, multiplied_depth

STEMS = ("conv7", "deep", "tiered", "conv3")
STEM_POOLS = ("symmetric", "zeros", "ceil", "conv")
ATTENTIONS = (None, "eca")
ANTI_ALIASES = (None, "average", "blur")
SHORTCUTS = ("conv", "avg_conv", "conv3", "pad", "none")


@dataclasses.dataclass(frozen=True)
class ResNetSpec(Spec):
    """A residual network. The defaults are ResNet-50's (v1.5).

    Raises:
        ValueError: if a field, or two together, make no sense.
    """

    # Which fields change what the same weights compute, and which any checkpoint leaves open; see `Spec`.
    settings = (*Spec.settings, "activation", "activated_branch", "stem_pool", "stride_in", "stride_at", "anti_alias")
    free = (*Spec.free, "output_stride", "zero_init_residual", "drop_path_rate", "dropout_rate")

    depths: tuple[int, ...] = (3, 4, 6, 3)  # blocks in each stage
    widths: tuple[int, ...] = (64, 128, 256, 512)  # channels of each stage's blocks, before expansion
    expansion: int = 4  # 1: basic block, two 3x3; more: bottleneck, whose output has expansion * width channels
    groups: int = 1  # ResNeXt's cardinality: groups of the bottleneck's 3x3
    group_width: int | None = None  # channels in each group at the first stage; None: the stage's width / groups
    entry_divisor: int = 1  # the bottleneck's first 1x1 has this times fewer channels than its 3x3 (SENet-154: 2)
    se_reduction: int | None = None  # squeeze-and-excitation's ratio; None: there is none
    se_divisor: int = 8  # of the channels that it squeezes to, as timm rounds; 1: as the ratio gives them
    attention: str | None = None  # in squeeze-and-excitation's place: "eca" (arXiv:1910.03151)
    stem: str = "conv7"  # 7x7 and a pooling; "deep": three 3x3 (C, D); "tiered": these, widening; "conv3": one (CIFAR)
    stem_width: int | None = None  # channels of the stem; None: the first stage's width
    stem_pool: str = "symmetric"  # max pooling; padded with "zeros"; "ceil": as in Caffe; "conv": a convolution (RS)
    anti_alias: str | None = None  # what strides instead: "average" of 2x2; "blur" (1904.11486): binomial, 3x3
    shortcut: str = "conv"  # option B; "avg_conv" (D), "conv3" (SENet-154), "pad" (option A), "none" (plain networks)
    activated_branch: bool = False  # v1: an activation after the branch's last norm too (timm's legacy_seresnet18)
    stride_in: str = "3x3"  # which convolution of a bottleneck strides; "1x1": v1 as printed; "3x3": v1.5
    stride_at: str = "start"  # of stages: their first block; "end": the last, but of the last stage (Keras's v2)
    preactivation: bool = False  # v2
    shared_entry: bool = False  # v2: the first block's shortcut starts after its activation (1603.05027, appendix)
    final_norm: bool | None = True  # v2: norm and activation after the last block; None: unless the stem is "conv3"
    biases: bool = False  # v2: of the convolutions that no norm follows (Keras's v2)
    activation: str = "relu"  # one of `kresnet.layers.ACTIVATIONS`
    output_stride: int = 32  # 8 or 16: the later stages dilate instead of striding
    zero_init_residual: bool = False  # blocks start as identities (arXiv:1706.02677, section 5.1)
    drop_path_rate: float = 0.0  # probability of dropping the last block; the others' rise to it linearly
    dropout_rate: float = 0.0  # before a block's last convolution (WRN: 0.3)

    def __post_init__(self):
        super().__post_init__()
        depths = checks.integers("depths", self.depths, maximum=MOST_BLOCKS)
        widths = checks.integers("widths", self.widths, maximum=MOST_CHANNELS)
        checks.require(len(depths) == len(widths), "`depths` and `widths` must match", depths=depths, widths=widths)
        self._set(depths=depths, widths=widths)
        for name in ("expansion", "groups", "entry_divisor", "se_divisor"):
            self._set(**{name: checks.integer(name, getattr(self, name), maximum=MOST_CHANNELS)})
        for name in ("group_width", "se_reduction", "stem_width"):
            if getattr(self, name) is not None:
                self._set(**{name: checks.integer(name, getattr(self, name), maximum=MOST_CHANNELS)})
        for name in ("activated_branch", "preactivation", "shared_entry", "biases", "zero_init_residual"):
            checks.boolean(name, getattr(self, name))
        checks.choice("final_norm", self.final_norm, (True, False, None))
        checks.choice("stem", self.stem, STEMS)
        checks.choice("stem_pool", self.stem_pool, STEM_POOLS)
        checks.choice("attention", self.attention, ATTENTIONS)
        checks.choice("anti_alias", self.anti_alias, ANTI_ALIASES)
        checks.choice("shortcut", self.shortcut, SHORTCUTS)
        checks.choice("stride_in", self.stride_in, ("1x1", "3x3"))
        checks.choice("stride_at", self.stride_at, ("start", "end"))
        checks.choice("activation", self.activation, ACTIVATIONS)
        output_stride = checks.integer("output_stride", self.output_stride)
        self._set(output_stride=checks.choice("output_stride", output_stride, (8, 16, 32)))
        for name in ("drop_path_rate", "dropout_rate"):
            self._set(**{name: checks.number(name, getattr(self, name), 0, 1, "a fraction in [0, 1)")})
        self._check_combinations()

    def _check_combinations(self) -> None:
        groups, widths, bottleneck = self.groups, self.widths, self.expansion > 1
        checks.require(
            max(widths) * self.expansion <= MOST_CHANNELS,
            f"A stage has at most {MOST_CHANNELS} channels, `expansion` times its width",
            expansion=self.expansion,
            widths=widths,
        )
        checks.require(
            bottleneck or (groups == 1 and self.group_width is None and self.entry_divisor == 1),
            "Groups and their width are of a bottleneck's 3x3; a basic block (`expansion=1`) has none",
            groups=groups,
            group_width=self.group_width,
            entry_divisor=self.entry_divisor,
        )
        for stage in range(len(widths)):
            inner = self.inner_width(stage)
            checks.require(
                inner > 0
                and inner % groups == 0
                and inner % self.entry_divisor == 0
                and inner // self.entry_divisor % groups == 0,
                f"Stage {stage + 2}'s 3x3 has {inner} channels, which `groups` and `entry_divisor` must divide, and "
                "`groups` also what it takes",
                groups=groups,
                entry_divisor=self.entry_divisor,
                widths=widths,
            )
        divisor = {"deep": 2, "tiered": 8}.get(self.stem, 1)
        checks.require(
            self.stem_channels % divisor == 0,
            f"Such a stem starts with a part of its width, which {divisor} must divide",
            stem=self.stem,
            stem_width=self.stem_channels,
        )
        checks.require(
            self.attention is None or self.se_reduction is None,
            "A block rescales its channels by one kind of attention",
            attention=self.attention,
            se_reduction=self.se_reduction,
        )
        checks.require(
            not self.preactivation or (self.stem_pool != "conv" and not self.activated_branch),
            "A convolution in the pooling's place and a last activation are for post-activation networks",
            stem_pool=self.stem_pool,
            activated_branch=self.activated_branch,
            preactivation=self.preactivation,
        )
        aliased = {"stem_pool": "symmetric", "stride_in": "3x3", "preactivation": False, "output_stride": 32}
        checks.require(
            self.anti_alias is None or all(getattr(self, name) == value for name, value in aliased.items()),
            f"Anti-aliasing needs {', '.join(f'{name}={v!r}' for name, v in aliased.items())}",
            anti_alias=self.anti_alias,
            **{name: getattr(self, name) for name in aliased},
        )
        late = {"preactivation": True, "shortcut": "conv", "output_stride": 32}
        checks.require(
            self.stride_at == "start" or all(getattr(self, name) == value for name, value in late.items()),
            f"Striding at the ends of stages needs {', '.join(f'{name}={v!r}' for name, v in late.items())}",
            stride_at=self.stride_at,
            **{name: getattr(self, name) for name in late},
        )
        checks.require(
            self.preactivation or not self.biases,
            "In a post-activation network a norm follows every convolution, and none has a bias",
            biases=self.biases,
            preactivation=self.preactivation,
        )
        channels = (self.stem_channels, *(width * self.expansion for width in widths))
        checks.require(
            self.shortcut != "pad" or all(a <= b for a, b in itertools.pairwise(channels)),
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

    @property
    def has_final_norm(self) -> bool:
        wanted = self.stem != "conv3" if self.final_norm is None else self.final_norm
        return self.preactivation and wanted

    def inner_width(self, stage: int) -> int:
        """Channels of the bottleneck's 3x3 in the stage of that index, the first being 0."""
        if self.group_width is None:
            return self.widths[stage]
        return self.group_width * self.widths[stage] // self.widths[0] * self.groups

    @property
    def stride(self) -> int:
        whole = (1 if self.stem == "conv3" else 4) * 2 ** (len(self.depths) - 1)
        return min(whole, self.output_stride)

    def scaled(self, depth: float, width: float) -> ResNetSpec:
        """Widths go to multiples of 8 (and of the groups, where these divide them), a group's to whole channels."""

        def channels(value: int | None, divisor: int) -> int | None:
            return value if value is None or width == 1 else make_divisible(value * width, divisor)

        return dataclasses.replace(
            self,
            depths=tuple(multiplied_depth(blocks, depth) for blocks in self.depths),
            widths=tuple(channels(w, math.lcm(8, 1 if self.group_width else self.groups)) for w in self.widths),
            group_width=channels(self.group_width, 8 if self.groups == 1 else 1),
            stem_width=channels(self.stem_width, 8),
        )


class Conv(NamedTuple):
    """A row of a block: one convolution."""

    filters: int
    kernel: int
    stride: int = 1
    groups: int = 1
    dilation: int = 1


class Block(NamedTuple):
    """A block: the rows of its branch, and what its shortcut must match."""

    name: str
    convs: list[Conv]
    stride: int  # of the whole block
    dilation: int  # of the stage; above 1 where it takes the place of a stride
    drop_path_rate: float  # probability in [0, 1)
    first: bool  # whether it follows the stem

    @property
    def filters(self) -> int:
        return self.convs[-1].filters


def blocks(spec: ResNetSpec, stem_stride: int) -> Iterator[tuple[str, int, list[Block]]]:
    """Yields each stage's name, output stride in input pixels, and blocks."""
    stride_so_far, dilation, number, total = stem_stride, 1, 0, sum(spec.depths)
    at_end = spec.stride_at == "end"
    unstrided = len(spec.depths) - 1 if at_end else 0
    for index, (depth, width) in enumerate(zip(spec.depths, spec.widths, strict=True)):
        stride, before = (1 if index == unstrided else 2), dilation
        if stride_so_far * stride > spec.output_stride:
            dilation, stride = dilation * stride, 1
        stride_so_far *= stride
        stage = []
        for i in range(depth):
            number += 1
            s, d = (stride, before) if i == (depth - 1 if at_end else 0) else (1, dilation)
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
