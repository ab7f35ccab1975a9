"""The residual engine: a stem and two kinds of block, which make every residual network.

He et al. 2015, arXiv:1512.03385 (post-activation); He et al. 2016, arXiv:1603.05027 (pre-activation).
"""

from __future__ import annotations

from typing import Any

import keras

from kresnet.layers import (
    activation,
    anti_aliased,
    conv,
    drop_path,
    efficient_attention,
    max_pool,
    norm,
    padded_identity,
    squeeze_excite,
)
from kresnet.models.ends import FeatureMap
from kresnet.models.family import Family
from kresnet.models.residual.layouts import LAYOUTS
from kresnet.models.residual.spec import Block, Conv, ResNetSpec, blocks
from kresnet.models.scaling import make_divisible


def resnet(x: Any, spec: ResNetSpec) -> tuple[Any, dict[str, FeatureMap]]:
    """Builds stem, stages and, of a pre-activation network, the final norm. The papers' stage 1 is the stem."""
    x, stem_stride, maps = _stem(x, spec)
    block = _preactivation_block if spec.preactivation else _block
    for stage, stride, rows in blocks(spec, stem_stride):
        for row in rows:
            x = block(x, row, spec)
        maps[stage] = FeatureMap(x, stride)
    if spec.has_final_norm:
        x = _activation(_norm(x, spec, "head_norm"), spec, "head_out")
    return x, maps


def _stem(x: Any, spec: ResNetSpec) -> tuple[Any, int, dict[str, FeatureMap]]:
    """Returns the feature map, its stride, and the map before the pooling as "stem"."""
    width = spec.stem_channels
    if spec.stem in ("deep", "tiered"):
        first = width // 2 if spec.stem == "deep" else 3 * width // 8
        rows = [Conv(first, 3, 2), Conv(width // 2, 3), Conv(width, 3)]
        names = ["1", "2", "3"]
    else:
        rows = [Conv(width, 7, 2) if spec.stem == "conv7" else Conv(width, 3)]
        names = [""]
    for name, row in zip(names, rows, strict=True):
        # In a pre-activation network the first block has the norm and activation that follow the last convolution.
        bare = spec.preactivation and row is rows[-1]
        x = _conv(x, row, f"stem_conv{name}", bias=bare and spec.biases)
        if not bare:
            x = _activation(_norm(x, spec, f"stem_norm{name}"), spec, f"stem_act{name}")
    maps = {"stem": FeatureMap(x, rows[0].stride)}
    if spec.stem == "conv3":
        return x, 1, maps
    return _stem_pool(x, spec), 4, maps


def _stem_pool(x: Any, spec: ResNetSpec) -> Any:
    """Halves the stem's map: by the largest of 3x3, by a convolution, or by what keeps it from aliasing."""
    if spec.stem_pool == "conv":  # Bello et al. 2021, arXiv:2103.07579, section 4
        x = _norm(_conv(x, Conv(x.shape[-1], 3, 2), "stem_pool_conv"), spec, "stem_pool_norm")
        return _activation(x, spec, "stem_pool_act")
    if spec.anti_alias == "average":  # as timm does: without a maximum, and without an odd last row or column
        return keras.layers.AveragePooling2D(2, name="stem_pool")(x)
    nonnegative = spec.activation in ("relu", "relu6") and not spec.preactivation
    if spec.anti_alias == "blur":
        x = keras.layers.MaxPooling2D(3, 1, "same", name="stem_pool")(x)
        return anti_aliased(x, "blur", name="stem_blur")
    if spec.stem_pool == "zeros":  # which are the largest values where the others are negative
        x = keras.layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
        return keras.layers.MaxPooling2D(3, 2, name="stem_pool")(x)
    return max_pool(x, nonnegative=nonnegative, padding=spec.stem_pool, name="stem_pool")


def _block(x: Any, block: Block, spec: ResNetSpec) -> Any:
    """Post-activation, v1: convolution, norm, activation, and the last activation after the sum."""
    shortcut, last = _shortcut(x, x, block, spec), len(block.convs)
    for i, row in enumerate(block.convs, 1):
        if i == last:
            x = _dropout(x, block, spec)
        aliases = spec.anti_alias is not None and row.kernel == 3 and row.stride > 1
        x = _conv(x, row._replace(stride=1) if aliases else row, f"{block.name}_conv{i}")
        x = _norm(x, spec, f"{block.name}_norm{i}", zero_gamma=i == last and spec.zero_init_residual)
        if i < last or spec.activated_branch:
            x = _activation(x, spec, f"{block.name}_act{i}")
        if aliases:
            x = anti_aliased(x, spec.anti_alias, name=f"{block.name}_{spec.anti_alias}")
    x = _merge(x, shortcut, block, spec)
    return _activation(x, spec, f"{block.name}_out")


def _preactivation_block(x: Any, block: Block, spec: ResNetSpec) -> Any:
    """Pre-activation, v2: norm, activation, convolution, and nothing after the sum."""
    y, last = x, len(block.convs)
    for i, row in enumerate(block.convs, 1):
        y = _activation(_norm(y, spec, f"{block.name}_norm{i}"), spec, f"{block.name}_act{i}")
        if i == 1:
            shortcut = _shortcut(x, y, block, spec)
        if i == last:
            y = _dropout(y, block, spec)
        ends = i == last
        y = _conv(y, row, f"{block.name}_conv{i}", zero=ends and spec.zero_init_residual, bias=ends and spec.biases)
    return _merge(y, shortcut, block, spec)


def _shortcut(x: Any, activated: Any, block: Block, spec: ResNetSpec) -> Any | None:
    """Returns what a block adds to its branch: x itself where the shapes agree, and None in a plain network.

    `activated` is what a projection starts from: in a pre-activation network, x after the block's first activation.
    """
    if spec.shortcut == "none":
        return None
    if block.stride == 1 and block.filters == x.shape[-1]:
        return activated if block.first and spec.shared_entry else x
    stride, name = block.stride, f"{block.name}_shortcut"
    if spec.stride_at == "end" and block.filters == x.shape[-1]:
        return keras.layers.MaxPooling2D(1, stride, name=f"{name}_step")(x)
    x = activated
    if spec.shortcut == "pad":
        return padded_identity(x, block.filters, stride=stride, name=f"{name}_pad")
    kernel, dilation = 1, 1
    if spec.shortcut == "conv3" and (stride > 1 or block.dilation > 1):
        kernel, dilation = 3, next(row.dilation for row in block.convs if row.kernel == 3)
    if spec.shortcut == "avg_conv":
        x, stride = _average(x, stride, block.dilation, f"{name}_pool"), 1
    x = _conv(x, Conv(block.filters, kernel, stride, 1, dilation), f"{name}_conv", bias=spec.biases)
    return x if spec.preactivation else _norm(x, spec, f"{name}_norm")


def _average(x: Any, stride: int, dilation: int, name: str) -> Any:
    """Averages 2x2 pixels before D's projection, so that it sees all of them; nothing where the block does not stride.

    He et al. 2019, arXiv:1812.01187, section 4.2. Where a stage dilates instead of striding, timm averages 2x2 pixels
    all the same, one step apart, and counts the zeros that it pads with.
    """
    if stride == 1 and dilation > 1:
        x = keras.layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{name}_pad")(x)
        return keras.layers.AveragePooling2D(2, 1, "valid", name=name)(x)
    return keras.layers.AveragePooling2D(2, 2, "same", name=name)(x) if stride > 1 else x


def _merge(x: Any, shortcut: Any | None, block: Block, spec: ResNetSpec) -> Any:
    """Rescales the branch's channels, drops it for some samples in training, and adds the shortcut."""
    if spec.se_reduction:
        hidden = make_divisible(block.filters / spec.se_reduction, spec.se_divisor)
        x = squeeze_excite(x, hidden, name=f"{block.name}_se")
    elif spec.attention == "eca":
        x = efficient_attention(x, name=f"{block.name}_eca")
    x = drop_path(x, block.drop_path_rate, name=f"{block.name}_drop_path")
    return x if shortcut is None else keras.layers.Add(name=f"{block.name}_add")([shortcut, x])


def _conv(x: Any, row: Conv, name: str, **options: bool) -> Any:
    filters, kernel, stride, groups, dilation = row
    return conv(x, filters, kernel, stride=stride, groups=groups, dilation=dilation, name=name, **options)


def _norm(x: Any, spec: ResNetSpec, name: str, zero_gamma: bool = False) -> Any:
    return norm(x, epsilon=spec.epsilon, momentum=spec.momentum, zero_gamma=zero_gamma, name=name)


def _activation(x: Any, spec: ResNetSpec, name: str) -> Any:
    return activation(x, spec.activation, name=name)


def _dropout(x: Any, block: Block, spec: ResNetSpec) -> Any:
    """Zagoruyko and Komodakis 2016, arXiv:1605.07146, section 2.4."""
    return keras.layers.Dropout(spec.dropout_rate, name=f"{block.name}_dropout")(x) if spec.dropout_rate else x


RESIDUAL = Family("residual", ResNetSpec, resnet, layouts=LAYOUTS)
