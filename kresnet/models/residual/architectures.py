"""Timm's residual architectures by its names: each one's spec is what computes the same function.

github.com/huggingface/pytorch-image-models, timm/models/resnet.py, resnetv2.py and senet.py.
"""

from __future__ import annotations

from dataclasses import replace

from kresnet.models.residual import networks
from kresnet.models.residual.networks import (
    R18,
    R26,
    R34,
    R50,
    R101,
    R152,
    R200,
    average_shortcut,
    cardinality_32,
    deep_stem,
    preactivated,
    squeeze_excited,
)
from kresnet.models.residual.spec import ResNetSpec


def tiered(spec: ResNetSpec, **fields) -> ResNetSpec:
    return replace(spec, stem="tiered", shortcut="avg_conv", **fields)


def wide_stem(spec: ResNetSpec) -> ResNetSpec:
    return replace(spec, stem="deep", stem_width=128)


def channel_attention(spec: ResNetSpec) -> ResNetSpec:
    return replace(spec, attention="eca")


def rescaled(spec: ResNetSpec) -> ResNetSpec:
    """Bello et al. 2021, arXiv:2103.07579, section 4."""
    return replace(average_shortcut(spec), stem_pool="conv", se_reduction=4)


def legacy(spec: ResNetSpec, **fields) -> ResNetSpec:
    """The networks of github.com/Cadene/pretrained-models.pytorch."""
    return replace(squeeze_excited(spec), stem_pool="ceil", **fields)


# Of the bottlenecks' channels, which 8 divides, both roundings say the same.
LEGACY_BASIC = {"se_divisor": 1, "activated_branch": True}
averaged = {"anti_alias": "average"}
X101_32X8 = replace(R101, groups=32, group_width=8)
R269 = replace(R50, depths=(3, 30, 48, 8))

RESNETS = {
    **{"resnet18": R18, "resnet26": R26, "resnet34": R34, "resnet50": R50, "resnet101": R101, "resnet152": R152},
    **{"resnet50c": deep_stem(R50), "resnet101c": deep_stem(R101), "resnet152c": deep_stem(R152)},
    **{"resnet50s": wide_stem(R50), "resnet101s": wide_stem(R101), "resnet152s": wide_stem(R152)},
    **{"resnet18d": average_shortcut(R18), "resnet26d": average_shortcut(R26), "resnet34d": average_shortcut(R34)},
    **{"resnet50d": average_shortcut(R50), "resnet101d": average_shortcut(R101)},
    **{"resnet152d": average_shortcut(R152), "resnet200d": average_shortcut(R200)},
    "resnet10t": tiered(R18, depths=(1, 1, 1, 1)),
    "resnet14t": tiered(R50, depths=(1, 1, 1, 1)),
    "resnet26t": tiered(R26),
    **{"wide_resnet50_2": networks.WideResNet50_2.spec, "wide_resnet101_2": networks.WideResNet101_2.spec},
}
RESNEXTS = {
    **{"resnext50_32x4d": cardinality_32(R50), "resnext101_32x4d": cardinality_32(R101)},
    "resnext50d_32x4d": average_shortcut(cardinality_32(R50)),
    "resnext101_32x8d": X101_32X8,
    "resnext101_32x16d": replace(X101_32X8, group_width=16),
    "resnext101_32x32d": replace(X101_32X8, group_width=32),
    "resnext101_64x4d": networks.X101_64X4,
}
SMOOTHED = {
    "resnetaa50": replace(R50, **averaged),
    "resnetaa50d": average_shortcut(R50, **averaged),
    "resnetaa101d": average_shortcut(R101, **averaged),
    "resnetblur50": replace(R50, anti_alias="blur"),
    "seresnextaa101d_32x8d": squeeze_excited(average_shortcut(X101_32X8, **averaged)),
    "seresnextaa201d_32x8d": squeeze_excited(
        average_shortcut(X101_32X8, depths=(3, 24, 36, 4), stem_width=128, **averaged)
    ),
}
EXCITED = {
    "seresnet50": squeeze_excited(R50),
    "seresnet152d": squeeze_excited(average_shortcut(R152)),
    "seresnext26d_32x4d": squeeze_excited(average_shortcut(cardinality_32(R26))),
    "seresnext26t_32x4d": squeeze_excited(tiered(cardinality_32(R26))),
    "seresnext50_32x4d": squeeze_excited(cardinality_32(R50)),
    "seresnext101_32x4d": squeeze_excited(cardinality_32(R101)),
    "seresnext101_32x8d": squeeze_excited(X101_32X8),
    "seresnext101d_32x8d": squeeze_excited(average_shortcut(X101_32X8)),
    "seresnext101_64x4d": squeeze_excited(networks.X101_64X4),
    "senet154": replace(networks.SENET_154, stem_pool="symmetric"),
    "ecaresnet26t": channel_attention(tiered(R26)),
    "ecaresnet50t": channel_attention(tiered(R50)),
    "ecaresnet50d": channel_attention(average_shortcut(R50)),
    "ecaresnet101d": channel_attention(average_shortcut(R101)),
    "ecaresnet269d": channel_attention(average_shortcut(R269)),
    "ecaresnetlight": replace(R50, depths=(1, 1, 11, 3), shortcut="avg_conv", attention="eca"),
}
RESCALED = {
    **{"resnetrs50": rescaled(R50), "resnetrs101": rescaled(R101), "resnetrs152": rescaled(R152)},
    "resnetrs200": rescaled(R200),
    "resnetrs270": rescaled(replace(R50, depths=(4, 29, 53, 4))),
    "resnetrs350": rescaled(replace(R50, depths=(4, 36, 72, 4))),
    "resnetrs420": rescaled(replace(R50, depths=(4, 44, 87, 4))),
}
PREACTIVATED = {
    **{"resnetv2_18": preactivated(R18), "resnetv2_34": preactivated(R34), "resnetv2_50": preactivated(R50)},
    **{"resnetv2_101": preactivated(R101)},
    **{"resnetv2_18d": average_shortcut(preactivated(R18)), "resnetv2_34d": average_shortcut(preactivated(R34))},
}
LEGACY = {
    **{"legacy_seresnet18": legacy(R18, **LEGACY_BASIC), "legacy_seresnet34": legacy(R34, **LEGACY_BASIC)},
    **{"legacy_seresnet50": legacy(R50, stride_in="1x1"), "legacy_seresnet101": legacy(R101, stride_in="1x1")},
    "legacy_seresnet152": legacy(R152, stride_in="1x1"),
    "legacy_seresnext26_32x4d": legacy(cardinality_32(R26)),
    "legacy_seresnext50_32x4d": legacy(cardinality_32(R50)),
    "legacy_seresnext101_32x4d": legacy(cardinality_32(R101)),
    "legacy_senet154": networks.SENET_154,
}
# Those that timm has no weights of, and others may. Its anti-aliased ones are left out: they would only make one doubt
# what other networks' files are of, whose names they share.
UNTRAINED = {
    "resnet50t": tiered(R50),
    "resnet200": R200,
    **{"seresnet18": squeeze_excited(R18), "seresnet34": squeeze_excited(R34)},
    **{"seresnet101": squeeze_excited(R101), "seresnet152": squeeze_excited(R152)},
    "seresnet50t": squeeze_excited(tiered(R50)),
    "seresnet200d": squeeze_excited(average_shortcut(R200)),
    "seresnet269d": squeeze_excited(average_shortcut(R269)),
    "ecaresnet200d": channel_attention(average_shortcut(R200)),
    "ecaresnext26t_32x4d": channel_attention(tiered(cardinality_32(R26))),
    "ecaresnext50t_32x4d": channel_attention(tiered(cardinality_32(R50))),
    **{"resnetv2_152": preactivated(R152), "resnetv2_152d": average_shortcut(preactivated(R152))},
    **{"resnetv2_50d": average_shortcut(preactivated(R50)), "resnetv2_50t": tiered(preactivated(R50))},
    "resnetv2_101d": average_shortcut(preactivated(R101)),
}
ARCHITECTURES: dict[str, ResNetSpec] = {
    **RESNETS,
    **RESNEXTS,
    **SMOOTHED,
    **EXCITED,
    **RESCALED,
    **PREACTIVATED,
    **LEGACY,
    **UNTRAINED,
}
