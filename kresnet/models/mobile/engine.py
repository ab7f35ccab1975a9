"""Inverted residuals: a table in the papers' columns, and the engine that builds it.

Sandler et al. 2018, arXiv:1801.04381 (MobileNetV2); Howard et al. 2019, arXiv:1905.02244 (MobileNetV3), which has
another layer behind the average; Tan and Le 2019, arXiv:1905.11946 (EfficientNet), whose MBConv is the same block with
squeeze-and-excitation; Tan and Le 2021, arXiv:2104.00298 (EfficientNetV2), whose Fused-MBConv expands with its kernel.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras

from kresnet import checks
from kresnet.layers import ACTIVATIONS, activation, conv, depthwise_conv, drop_path, he_normal, norm, squeeze_excite
from kresnet.models.ends import FeatureMap, pooled_classifier, predictions
from kresnet.models.family import MOST_BLOCKS, MOST_CHANNELS, Family, Spec
from kresnet.models.mobile.layouts import LAYOUTS
from kresnet.models.scaling import make_divisible, multiplied_depth


class Row(NamedTuple):
    """A stage: a line of the paper's table."""

    # Expansion: the depthwise convolution has t times the block's input channels, to a multiple of 8 if t is no whole
    # number; 1: no expansion. Or one for each block, the last of which is also that of the blocks behind it.
    t: float | tuple[float, ...]
    c: int  # channels of the output
    n: int  # blocks
    s: int  # stride of the first block
    k: int = 3  # side of the depthwise or fused kernel in pixels, odd
    se: float = 0.0  # squeeze-and-excitation's width as a fraction, as `se_of` says; 0: there is none
    fused: bool = False  # one convolution expands and has the kernel; without expansion it is the whole block
    activation: str | None = None  # one of `kresnet.layers.ACTIVATIONS`; None: the network's

    def expansion(self, block: int) -> float:
        """Returns the expansion of a block of the stage, counted from 0."""
        each = self.t if isinstance(self.t, tuple) else (self.t,)
        return each[min(block, len(each) - 1)]


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

    settings = (*Spec.settings, "activation", "se_activation", "se_gate", "padding")
    free = (*Spec.free, "output_stride", "drop_path_rate")

    table: tuple[Row, ...] = MOBILENETV2  # rows (t, c, n, s, k, se, fused, activation), or their first four columns
    stem_width: int = 32  # channels of the first convolution
    head_width: int | None = 1280  # channels of the last 1x1 convolution; None: there is none
    dense_width: int | None = None  # channels of a layer between the average and the classifier; None: there is none
    width_multiplier: float = 1.0  # times all channels but those, to a multiple of 8
    kept_width: float = 0.9  # share of a multiplied width that rounding keeps, or else it goes up
    depth_multiplier: float = 1.0  # times all blocks of a stage, rounded up
    fixed_ends: bool = False  # stem, head, and the depths of the first and last stage are not multiplied (Lite)
    head_never_shrinks: bool = False  # the head's width is never multiplied by less than 1 (MobileNetV2)
    linear: bool = True  # no activation after a block's last convolution
    shortcut: bool = True  # where a block's input and output have the same shape
    activation: str = "relu6"  # one of `kresnet.layers.ACTIVATIONS`
    se_of: str = "input"  # rows' se is of the block's input; "expanded": of what is rescaled, to a multiple of 8
    se_activation: str | None = None  # of the squeezed layer; None: the network's
    se_gate: str = "sigmoid"  # activation that makes the gate
    padding: str = "symmetric"  # as PyTorch's weights want it; "same": as TensorFlow's do
    output_stride: int = 32  # 8 or 16: the later stages dilate instead of striding
    drop_path_rate: float = 0.0  # rises linearly from 0 at the first block; one more block would have this rate

    def __post_init__(self):
        super().__post_init__()
        self._set(table=_checked_table(self.table))
        self._set(stem_width=checks.integer("stem_width", self.stem_width, maximum=MOST_CHANNELS))
        if self.head_width is not None:
            self._set(head_width=checks.integer("head_width", self.head_width, maximum=MOST_CHANNELS))
        if self.dense_width is not None:
            self._set(dense_width=checks.integer("dense_width", self.dense_width, maximum=MOST_CHANNELS))
        self._set(kept_width=checks.number("kept_width", self.kept_width, 0, 1, "a fraction in [0, 1)"))
        for name in ("width_multiplier", "depth_multiplier"):
            self._set(**{name: checks.number(name, getattr(self, name), 0.01, 100, "in [0.01, 100)")})
        for name in ("fixed_ends", "head_never_shrinks", "linear", "shortcut"):
            checks.boolean(name, getattr(self, name))
        checks.choice("activation", self.activation, ACTIVATIONS)
        checks.choice("se_of", self.se_of, ("input", "expanded"))
        checks.choice("se_activation", self.se_activation, (None, *ACTIVATIONS))
        checks.choice("se_gate", self.se_gate, ("sigmoid", "hard_sigmoid"))
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
        """Returns a width of the table, multiplied: to a multiple of 8 that keeps at least `kept_width` of it."""
        multiplied = width * self.width_multiplier
        return width if self.width_multiplier == 1 else make_divisible(multiplied, 8, keep=self.kept_width)

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
        rows = [Row(*row) for row in table]
    except TypeError:
        raise ValueError(
            f"`table` must hold rows (t, c, n, s, k, se, fused, activation). Received: table={table!r}"
        ) from None
    checks.require(len(rows) > 0, "`table` must hold at least one row", table=table)
    for i, row in enumerate(rows):
        rows[i] = row._replace(t=_checked_expansions(row))
        whole = all(isinstance(value, int) and not isinstance(value, bool) and value > 0 for value in row[1:5])
        checks.require(whole, "A row of `table` has c, n, s and k, positive integers", row=row)
        checks.require(
            row.s in (1, 2) and row.k % 2 == 1,
            "In a row of `table` the stride s is 1 or 2, and the kernel k is odd",
            row=row,
        )
        checks.require(
            rows[i].expansion(0) * row.c <= MOST_CHANNELS and row.n <= MOST_BLOCKS and row.k < 100,
            f"A row of `table` has at most {MOST_CHANNELS} channels, {MOST_BLOCKS} blocks and kernels under 100 pixels",
            row=row,
        )
        checks.number("se", row.se, 0, 1.0001, "a fraction in [0, 1], in each row of `table`")
        checks.boolean("fused", row.fused)
        checks.choice("activation", row.activation, (None, *ACTIVATIONS))
    return tuple(rows)


def _checked_expansions(row: Row) -> float | tuple[float, ...]:
    """Returns a row's `t`, whole numbers as integers."""
    several = isinstance(row.t, tuple | list)
    each = row.t if several else (row.t,)
    ok = all(isinstance(t, int | float) and not isinstance(t, bool) and 1 <= t <= MOST_CHANNELS for t in each)
    checks.require(
        ok and len(each) > 0, "A row of `table` has t, a number of at least 1, or one for each of its blocks", row=row
    )
    each = tuple(int(t) if t == int(t) else float(t) for t in each)
    return each if several else each[0]


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
            block = row._replace(t=row.expansion(i))
            x = _block(x, block, place, spec, shortcut, spec.drop_path_rate * number / total)
            number += 1
        maps[f"stage{stage}"] = FeatureMap(x, stride)
    if spec.head_channels:
        x = _norm_act(conv(x, spec.head_channels, 1, name="head_conv"), spec, "head_norm", "head_act")
    return x, maps


class _Place(NamedTuple):
    """Where a block stands: its name, and the stride and dilation in pixels of its depthwise or fused convolution."""

    name: str
    stride: int
    dilation: int


def _block(x: Any, row: Row, place: _Place, spec: InvertedSpec, shortcut: bool, drop_path_rate: float) -> Any:
    """Expands, convolves each channel separately, rescales the channels, projects, and adds the input where it fits.

    Fused, one convolution of all channels does the first two.
    """
    (name, stride, dilation), before, channels, i = place, x, x.shape[-1], 1
    window = {"stride": stride, "dilation": dilation, "padding": spec.padding}
    function = row.activation or spec.activation
    expanded = channels * row.t if isinstance(row.t, int) else make_divisible(channels * row.t, 8, keep=0.9)
    if row.fused:
        x = conv(x, expanded if row.t > 1 else row.c, row.k, **window, name=f"{name}_fused_conv")
        x = _norm_act(x, spec, f"{name}_fused_norm", f"{name}_fused_act", function)
    else:
        if row.t > 1:
            x = conv(x, expanded, 1, name=f"{name}_conv1")
            x, i = _norm_act(x, spec, f"{name}_norm1", f"{name}_act1", function), 2
        x = depthwise_conv(x, row.k, **window, name=f"{name}_conv{i}")
        x = _norm_act(x, spec, f"{name}_norm{i}", f"{name}_act{i}", function)
    if row.se:
        hidden = _squeezed(channels, x.shape[-1], row, spec)
        squeezed_activation = spec.se_activation or function
        x = squeeze_excite(x, hidden, activation=squeezed_activation, gate=spec.se_gate, name=f"{name}_se")
    if not row.fused or row.t > 1:
        x = _norm(conv(x, row.c, 1, name=f"{name}_conv{i + 1}"), spec, f"{name}_norm{i + 1}")
        if not spec.linear:
            x = activation(x, function, name=f"{name}_act{i + 1}")
    if shortcut and channels == row.c:
        x = keras.layers.Add(name=f"{name}_add")([before, drop_path(x, drop_path_rate, name=f"{name}_drop_path")])
    return x


def _squeezed(before: int, rescaled: int, row: Row, spec: InvertedSpec) -> int:
    """Returns squeeze-and-excitation's width, from the channels of the block's input and of what is rescaled."""
    if spec.se_of == "expanded":
        return make_divisible(rescaled * row.se, 8, keep=0.9)
    return max(1, round(before * row.se))


def _norm(x: Any, spec: InvertedSpec, name: str) -> Any:
    return norm(x, epsilon=spec.epsilon, momentum=spec.momentum, name=name)


def _norm_act(x: Any, spec: InvertedSpec, norm_name: str, activation_name: str, function: str | None = None) -> Any:
    return activation(_norm(x, spec, norm_name), function or spec.activation, name=activation_name)


def classifier(x: Any, spec: InvertedSpec, classes: int, classifier_activation: str | None) -> Any:
    """The usual head; or MobileNetV3's, with a layer between the average and the dropout before the classifier."""
    if spec.dense_width is None:
        return pooled_classifier(x, spec, classes, classifier_activation)
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(x)
    x = keras.layers.Dense(spec.dense_width, kernel_initializer=he_normal(), name="head_dense1")(x)
    x = activation(x, spec.activation, name="head_act1")
    if spec.head_dropout_rate:
        x = keras.layers.Dropout(spec.head_dropout_rate, name="head_dropout")(x)
    return predictions(x, classes, classifier_activation)


INVERTED = Family("inverted residuals", InvertedSpec, inverted, head=classifier, layouts=LAYOUTS)
