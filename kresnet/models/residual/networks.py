"""The residual networks by name: each a difference from another."""

from __future__ import annotations

import functools
from dataclasses import replace

from kresnet.layers.pixels import CIFAR, INCEPTION
from kresnet.models.registry import base, variant
from kresnet.models.residual.engine import RESIDUAL
from kresnet.models.residual.spec import ResNetSpec

V1, V2, RESNEXT, SENET, WIDE, TRICKS = (
    "1512.03385",
    "1603.05027",
    "1611.05431",
    "1709.01507",
    "1605.07146",
    "1812.01187",
)

R50 = ResNetSpec()
R26 = replace(R50, depths=(2, 2, 2, 2))
R101 = replace(R50, depths=(3, 4, 23, 3))
R152 = replace(R50, depths=(3, 8, 36, 3))
R18 = replace(R26, expansion=1)
R34 = replace(R50, expansion=1)

ResNet = base("ResNet", RESIDUAL, R50, paper=V1)

ResNet18 = variant("ResNet18", RESIDUAL, R18, paper=V1)
ResNet26 = variant("ResNet26", RESIDUAL, R26, paper=V1)
ResNet34 = variant("ResNet34", RESIDUAL, R34, paper=V1)
ResNet50 = variant("ResNet50", RESIDUAL, R50, paper=V1)
ResNet101 = variant("ResNet101", RESIDUAL, R101, paper=V1)
ResNet152 = variant("ResNet152", RESIDUAL, R152, paper=V1)
PlainNet18 = variant("PlainNet18", RESIDUAL, replace(R18, shortcut="none"), paper=V1)
PlainNet34 = variant("PlainNet34", RESIDUAL, replace(R34, shortcut="none"), paper=V1)

# He et al. 2019: C has a deep stem, D also averages before it projects.
deep_stem = functools.partial(replace, stem="deep")
average_shortcut = functools.partial(replace, stem="deep", shortcut="avg_conv")
ResNet50C = variant("ResNet50C", RESIDUAL, deep_stem(R50), paper=TRICKS)
ResNet101C = variant("ResNet101C", RESIDUAL, deep_stem(R101), paper=TRICKS)
ResNet18D = variant("ResNet18D", RESIDUAL, average_shortcut(R18), paper=TRICKS)
ResNet26D = variant("ResNet26D", RESIDUAL, average_shortcut(R26), paper=TRICKS)
ResNet34D = variant("ResNet34D", RESIDUAL, average_shortcut(R34), paper=TRICKS)
ResNet50D = variant("ResNet50D", RESIDUAL, average_shortcut(R50), paper=TRICKS)
ResNet101D = variant("ResNet101D", RESIDUAL, average_shortcut(R101), paper=TRICKS)
ResNet152D = variant("ResNet152D", RESIDUAL, average_shortcut(R152), paper=TRICKS)

# With CIFAR's stem these are the PreActResNets that many papers use (github.com/kuangliu/pytorch-cifar): unlike their
# paper's networks, those end without norm and activation.
preactivated = functools.partial(replace, preactivation=True, final_norm=None, **INCEPTION)
R200 = replace(R50, depths=(3, 24, 36, 3))
ResNet18V2 = variant("ResNet18V2", RESIDUAL, preactivated(R18), paper=V2, key="resnetv2_18")
ResNet34V2 = variant("ResNet34V2", RESIDUAL, preactivated(R34), paper=V2, key="resnetv2_34")
ResNet50V2 = variant("ResNet50V2", RESIDUAL, preactivated(R50), paper=V2, key="resnetv2_50")
ResNet101V2 = variant("ResNet101V2", RESIDUAL, preactivated(R101), paper=V2, key="resnetv2_101")
ResNet152V2 = variant("ResNet152V2", RESIDUAL, preactivated(R152), paper=V2, key="resnetv2_152")
ResNet200V2 = variant("ResNet200V2", RESIDUAL, preactivated(R200), paper=V2, key="resnetv2_200")

cardinality_32 = functools.partial(replace, groups=32, group_width=4)
X101_64X4 = replace(R101, groups=64, group_width=4)
ResNeXt50_32x4d = variant("ResNeXt50_32x4d", RESIDUAL, cardinality_32(R50), paper=RESNEXT)
ResNeXt50D_32x4d = variant("ResNeXt50D_32x4d", RESIDUAL, average_shortcut(cardinality_32(R50)), paper=RESNEXT)
ResNeXt101_32x4d = variant("ResNeXt101_32x4d", RESIDUAL, cardinality_32(R101), paper=RESNEXT)
ResNeXt101_32x8d = variant("ResNeXt101_32x8d", RESIDUAL, replace(R101, groups=32, group_width=8), paper=RESNEXT)
ResNeXt101_64x4d = variant("ResNeXt101_64x4d", RESIDUAL, X101_64X4, paper=RESNEXT)

squeeze_excited = functools.partial(replace, se_reduction=16)
SENET_154 = replace(
    squeeze_excited(R152),
    **{"stem": "deep", "stem_width": 128, "stem_pool": "ceil", "shortcut": "conv3", "head_dropout_rate": 0.2},
    **{"groups": 64, "group_width": 4, "entry_divisor": 2},
)
SEResNet18 = variant("SEResNet18", RESIDUAL, squeeze_excited(R18), paper=SENET)
SEResNet34 = variant("SEResNet34", RESIDUAL, squeeze_excited(R34), paper=SENET)
SEResNet50 = variant("SEResNet50", RESIDUAL, squeeze_excited(R50), paper=SENET)
SEResNet101 = variant("SEResNet101", RESIDUAL, squeeze_excited(R101), paper=SENET)
SEResNet152 = variant("SEResNet152", RESIDUAL, squeeze_excited(R152), paper=SENET)
SEResNet152D = variant("SEResNet152D", RESIDUAL, average_shortcut(squeeze_excited(R152)), paper=SENET)
SEResNeXt50_32x4d = variant("SEResNeXt50_32x4d", RESIDUAL, cardinality_32(squeeze_excited(R50)), paper=SENET)
SEResNeXt101_32x4d = variant("SEResNeXt101_32x4d", RESIDUAL, cardinality_32(squeeze_excited(R101)), paper=SENET)
SENet154 = variant("SENet154", RESIDUAL, SENET_154, paper=SENET)

twice_as_wide = functools.partial(replace, group_width=128)
WideResNet50_2 = variant("WideResNet50_2", RESIDUAL, twice_as_wide(R50), paper=WIDE, key="wide_resnet50_2")
WideResNet101_2 = variant("WideResNet101_2", RESIDUAL, twice_as_wide(R101), paper=WIDE, key="wide_resnet101_2")

# For CIFAR: 32x32 pixels, three stages of n blocks.
cifar = functools.partial(variant, family=RESIDUAL, size=32, classes=10)
CIFAR_BASE = ResNetSpec(widths=(16, 32, 64), depths=(3, 3, 3), expansion=1, stem="conv3", shortcut="pad", **CIFAR)


def cifar_depth(blocks: int, spec: ResNetSpec = CIFAR_BASE, **fields) -> ResNetSpec:
    """Returns a CIFAR network with that many blocks in each of its stages."""
    return replace(spec, depths=(blocks,) * 3, **fields)


ResNet20 = cifar("ResNet20", spec=cifar_depth(3), paper=V1)
ResNet32 = cifar("ResNet32", spec=cifar_depth(5), paper=V1)
ResNet44 = cifar("ResNet44", spec=cifar_depth(7), paper=V1)
ResNet56 = cifar("ResNet56", spec=cifar_depth(9), paper=V1)
ResNet110 = cifar("ResNet110", spec=cifar_depth(18), paper=V1)
ResNet1202 = cifar("ResNet1202", spec=cifar_depth(200), paper=V1)
PlainNet20 = cifar("PlainNet20", spec=cifar_depth(3, shortcut="none"), paper=V1)
PlainNet32 = cifar("PlainNet32", spec=cifar_depth(5, shortcut="none"), paper=V1)
PlainNet44 = cifar("PlainNet44", spec=cifar_depth(7, shortcut="none"), paper=V1)
PlainNet56 = cifar("PlainNet56", spec=cifar_depth(9, shortcut="none"), paper=V1)
PlainNet110 = cifar("PlainNet110", spec=cifar_depth(18, shortcut="none"), paper=V1)

# The authors' code strides in the first 1x1 here: github.com/KaimingHe/resnet-1k-layers.
PREACT = replace(CIFAR_BASE, preactivation=True, shared_entry=True)
PREACT_BOTTLENECK = replace(PREACT, expansion=4, shortcut="conv", stride_in="1x1")
ResNet110V2 = cifar("ResNet110V2", spec=cifar_depth(18, PREACT), paper=V2, key="resnetv2_110")
ResNet164V2 = cifar("ResNet164V2", spec=cifar_depth(18, PREACT_BOTTLENECK), paper=V2, key="resnetv2_164")
ResNet1001V2 = cifar("ResNet1001V2", spec=cifar_depth(111, PREACT_BOTTLENECK), paper=V2, key="resnetv2_1001")


def wrn(depth: int, k: int) -> ResNetSpec:
    """Returns WRN-depth-k: k times wider than the CIFAR networks, with (depth - 4) / 6 blocks in a stage."""
    spec = replace(CIFAR_BASE, preactivation=True, shortcut="conv", stem_width=16, widths=(16 * k, 32 * k, 64 * k))
    return cifar_depth((depth - 4) // 6, spec)


WRN16_8 = cifar("WRN16_8", spec=wrn(16, 8), paper=WIDE, key="wrn_16_8")
WRN28_2 = cifar("WRN28_2", spec=wrn(28, 2), paper=WIDE, key="wrn_28_2")
WRN28_10 = cifar("WRN28_10", spec=wrn(28, 10), paper=WIDE, key="wrn_28_10")
WRN40_4 = cifar("WRN40_4", spec=wrn(40, 4), paper=WIDE, key="wrn_40_4")

X29 = cifar_depth(3, R50, widths=(64, 128, 256), stem="conv3", **CIFAR)
X29_8X64, X29_16X64 = replace(X29, groups=8, group_width=64), replace(X29, groups=16, group_width=64)
ResNeXt29_8x64d = cifar("ResNeXt29_8x64d", spec=X29_8X64, paper=RESNEXT)
ResNeXt29_16x64d = cifar("ResNeXt29_16x64d", spec=X29_16X64, paper=RESNEXT)
