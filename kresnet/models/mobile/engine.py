"""Inverted residuals: a table in the papers' columns, and the engine that builds it.

Sandler et al. 2018, arXiv:1801.04381 (MobileNetV2); Tan and Le 2019, arXiv:1905.11946 (EfficientNet), whose MBConv is
the same block with squeeze-and-excitation.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras

from kresnet import checks
from kresnet.layers import ACTIVATIONS, activation, conv, depthwise_conv, drop_path, norm, squeeze_excite
from kresnet.models.ends import FeatureMap
from kresnet.models.family import MOST_BLOCKS, MOST_CHANNELS, Family, Spec
from kresnet.models.mobile.layouts import LAYOUTS
from kresnet.models.scaling import make_divisible, multiplied_depth


class Row(NamedTuple):
    """A stage: a line of the paper's table."""

    t: int  # expansion: the depthwise convolution has t times the block's input channels; 1: no expansion
    c: int  # channels of the output
    n: int  # blocks
    s: int  # stride of the first block
    k: int = 3  # side of the depthwise kernel in pixels, odd
    se: float = 0.0  # squeeze-and-excitation's width as a fraction of the block's input; 0: there is none


MOBILENETV2 = (
    Row(1, 16, 1, 1),
    Row(6, 24, 2, 2),
    Row(6, 32, 3, 2),
    Row(6, 64, 4, 2),
    Row(6, 96, 3, 1),
    Row(6, 160, 3, 2),
    Row(6, 320, 1, 1),
)


@dataclasses.dataclass(frozen=True)
class InvertedSpec(Spec):
    """A network of inverted residuals. The defaults are MobileNetV2's.

    Raises:
        ValueError: if a field makes no sense.
    """

    settings = (*Spec.settings, "activation", "padding")
    free = (*Spec.free, "output_stride", "drop_path_rate")

    table: tuple[Row, ...] = MOBILENETV2  # rows (t, c, n, s, k, se), or their first four columns
    stem_width: int = 32  # channels of the first convolution
    head_width: int | None = 1280  # channels of the last 1x1 convolution; None: there is none
    width_multiplier: float = 1.0  # times all channels, to a multiple of 8
    depth_multiplier: float = 1.0  # times all blocks of a stage, rounded up
    fixed_ends: bool = False  # stem, head, and the depths of the first and last stage are not multiplied (Lite)
    head_never_shrinks: bool = False  # the head's width is never multiplied by less than 1 (MobileNetV2)
    linear: bool = True  # no activation after a block's last convolution
    shortcut: bool = True  # where a block's input and output have the same shape
    activation: str = "relu6"  # one of `kresnet.layers.ACTIVATIONS`; squeeze-and-excitation has it too
    padding: str = "symmetric"  # as PyTorch's weights want it; "same": as TensorFlow's do
    output_stride: int = 32  # 8 or 16: the later stages dilate instead of striding
    drop_path_rate: float = 0.0  # rises linearly from 0 at the first block; one more block would have this rate

    def __post_init__(self):
        super().__post_init__()
        self._set(table=_checked_table(self.table))
        self._set(stem_width=checks.integer("stem_width", self.stem_width, maximum=MOST_CHANNELS))
        if self.head_width is not None:
            self._set(head_width=checks.integer("head_width", self.head_width, maximum=MOST_CHANNELS))
        for name in ("width_multiplier", "depth_multiplier"):
            self._set(**{name: checks.number(name, getattr(self, name), 0.01, 100, "in [0.01, 100)")})
        for name in ("fixed_ends", "head_never_shrinks", "linear", "shortcut"):
            checks.boolean(name, getattr(self, name))
        checks.choice("activation", self.activation, ACTIVATIONS)
        checks.choice("padding", self.padding, ("symmetric", "same"))
        output_stride = checks.integer("output_stride", self.output_stride)
        self._set(output_stride=checks.choice("output_stride", output_stride, (8, 16, 32)))
        self._set(drop_path_rate=checks.number("drop_path_rate", self.drop_path_rate, 0, 1, "a fraction in [0, 1)"))

    @property
    def stride(self) -> int:
        return min(2 * math.prod(row.s for row in self.table), self.output_stride)

    def scaled(self, depth: float, width: float) -> InvertedSpec:
        return dataclasses.replace(
            self, depth_multiplier=self.depth_multiplier * depth, width_multiplier=self.width_multiplier * width
        )

    def channels(self, width: int) -> int:
        """Returns a width of the table, multiplied: to a multiple of 8 that loses at most a tenth."""
        return width if self.width_multiplier == 1 else make_divisible(width * self.width_multiplier, 8, keep=0.9)

    @property
    def stem_channels(self) -> int:
        return self.stem_width if self.fixed_ends else self.channels(self.stem_width)

    @property
    def head_channels(self) -> int | None:
        if self.head_width is None or self.fixed_ends:
            return self.head_width
        channels = self.channels(self.head_width)
        return max(channels, self.head_width) if self.head_never_shrinks else channels

    def stages(self) -> Iterator[Row]:
        """Yields the table's rows, multiplied."""
        for i, row in enumerate(self.table):
            end = self.fixed_ends and i in (0, len(self.table) - 1)
            depth = row.n if end else multiplied_depth(row.n, self.depth_multiplier)
            yield row._replace(c=self.channels(row.c), n=depth)


def _checked_table(table: Any) -> tuple[Row, ...]:
    try:
        rows = tuple(Row(*row) for row in table)
    except TypeError:
        raise ValueError(f"`table` must hold rows (t, c, n, s, k, se). Received: table={table!r}") from None
    checks.require(len(rows) > 0, "`table` must hold at least one row", table=table)
    for row in rows:
        whole = all(isinstance(value, int) and not isinstance(value, bool) and value > 0 for value in row[:5])
        checks.require(whole, "A row of `table` has t, c, n, s and k, positive integers", row=row)
        checks.require(
            row.s in (1, 2) and row.k % 2 == 1,
            "In a row of `table` the stride s is 1 or 2, and the kernel k is odd",
            row=row,
        )
        checks.require(
            row.t * row.c <= MOST_CHANNELS and row.n <= MOST_BLOCKS and row.k < 100,
            f"A row of `table` has at most {MOST_CHANNELS} channels, {MOST_BLOCKS} blocks and kernels under 100 pixels",
            row=row,
        )
        checks.number("se", row.se, 0, 1.0001, "a fraction in [0, 1], in each row of `table`")
    return rows


def inverted(x: Any, spec: InvertedSpec) -> tuple[Any, dict[str, FeatureMap]]:
    """Builds stem, stages and head. The papers' stage 1 is the stem."""
    x = conv(x, spec.stem_channels, 3, stride=2, padding=spec.padding, name="stem_conv")
    x = _norm_act(x, spec, "stem_norm", "stem_act")
    maps, stride, dilation = {"stem": FeatureMap(x, 2)}, 2, 1
    rows = list(spec.stages())
    total, number = sum(row.n for row in rows), 0
    for stage, row in enumerate(rows, 2):
        # What would stride beyond the limit dilates from the next block on (Chen et al. 2017, arXiv:1706.05587).
        before, step = dilation, row.s if stride * row.s <= spec.output_stride else 1
        dilation, stride = dilation * row.s // step, stride * step
        for i in range(row.n):
            first = i == 0
            place = _Place(f"stage{stage}_block{i + 1}", step if first else 1, before if first else dilation)
            shortcut = spec.shortcut and (row.s == 1 or not first)
            x = _block(x, row, place, spec, shortcut, spec.drop_path_rate * number / total)
            number += 1
        maps[f"stage{stage}"] = FeatureMap(x, stride)
    if spec.head_channels:
        x = _norm_act(conv(x, spec.head_channels, 1, name="head_conv"), spec, "head_norm", "head_act")
    return x, maps


class _Place(NamedTuple):
    """Where a block stands: its name, and its depthwise convolution's stride and dilation in pixels."""

    name: str
    stride: int
    dilation: int


def _block(x: Any, row: Row, place: _Place, spec: InvertedSpec, shortcut: bool, drop_path_rate: float) -> Any:
    """Expands, convolves each channel separately, rescales the channels, projects, and adds the input where it fits."""
    (name, stride, dilation), before, channels, i = place, x, x.shape[-1], 1
    if row.t > 1:
        x = _norm_act(conv(x, channels * row.t, 1, name=f"{name}_conv1"), spec, f"{name}_norm1", f"{name}_act1")
        i = 2
    x = depthwise_conv(x, row.k, stride=stride, dilation=dilation, padding=spec.padding, name=f"{name}_conv{i}")
    x = _norm_act(x, spec, f"{name}_norm{i}", f"{name}_act{i}")
    if row.se:
        x = squeeze_excite(x, max(1, round(channels * row.se)), activation=spec.activation, name=f"{name}_se")
    x = _norm(conv(x, row.c, 1, name=f"{name}_conv{i + 1}"), spec, f"{name}_norm{i + 1}")
    if not spec.linear:
        x = activation(x, spec.activation, name=f"{name}_act{i + 1}")
    if shortcut and channels == row.c:
        x = keras.layers.Add(name=f"{name}_add")([before, drop_path(x, drop_path_rate, name=f"{name}_drop_path")])
    return x


def _norm(x: Any, spec: InvertedSpec, name: str) -> Any:
    return norm(x, epsilon=spec.epsilon, momentum=spec.momentum, name=name)


def _norm_act(x: Any, spec: InvertedSpec, norm_name: str, activation_name: str) -> Any:
    return activation(_norm(x, spec, norm_name), spec.activation, name=activation_name)


INVERTED = Family("inverted residuals", InvertedSpec, inverted, layouts=LAYOUTS)
