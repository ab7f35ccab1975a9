"""The names that mobile networks' layers have in PyTorch's checkpoints."""

from __future__ import annotations

from kresnet.weights.layout import BLOCK, Layout

_TIMM = "blocks.{stage_2}.{block_1}."

TIMM = Layout(
    "MobileNet and EfficientNet, timm's",
    {
        "stem_conv": "conv_stem",
        "stem_norm": "bn1",
        BLOCK + "conv1/2": _TIMM + "conv_dw",
        BLOCK + "conv2/2": _TIMM + "conv_pw",
        BLOCK + "conv1/3": _TIMM + "conv_pw",
        BLOCK + "conv2/3": _TIMM + "conv_dw",
        BLOCK + "conv3/3": _TIMM + "conv_pwl",
        BLOCK + r"norm(?P<i>\d)": _TIMM + "bn{i}",
        BLOCK + "se_(?P<part>reduce|expand)": _TIMM + "se.conv_{part}",
        "head_conv": "conv_head",
        "head_norm": "bn2",
        "predictions": "classifier",
    },
)
TORCHVISION_MOBILENETV2 = Layout(
    "MobileNetV2, torchvision's",
    {
        "stem_conv": "features.0.0",
        "stem_norm": "features.0.1",
        BLOCK + "conv2/2": "features.{nth}.conv.1",
        BLOCK + "norm2/2": "features.{nth}.conv.2",
        BLOCK + "conv3/3": "features.{nth}.conv.2",
        BLOCK + "norm3/3": "features.{nth}.conv.3",
        BLOCK + r"conv(?P<i>\d)": "features.{nth}.conv.{i_1}.0",
        BLOCK + r"norm(?P<i>\d)": "features.{nth}.conv.{i_1}.1",
        "head_conv": "features.{next}.0",
        "head_norm": "features.{next}.1",
        "predictions": "classifier.1",
    },
)
_TORCHVISION = "features.{stage_1}.{block_1}.block."
TORCHVISION_EFFICIENTNET = Layout(
    "EfficientNet, torchvision's",
    {
        "stem_conv": "features.0.0",
        "stem_norm": "features.0.1",
        BLOCK + "conv2/2": _TORCHVISION + "2.0",
        BLOCK + "norm2/2": _TORCHVISION + "2.1",
        BLOCK + "conv3/3": _TORCHVISION + "3.0",
        BLOCK + "norm3/3": _TORCHVISION + "3.1",
        BLOCK + r"conv(?P<i>\d)": _TORCHVISION + "{i_1}.0",
        BLOCK + r"norm(?P<i>\d)": _TORCHVISION + "{i_1}.1",
        BLOCK + r"se_reduce/(?P<convs>\d)": _TORCHVISION + "{convs_1}.fc1",
        BLOCK + r"se_expand/(?P<convs>\d)": _TORCHVISION + "{convs_1}.fc2",
        "head_conv": "features.{stages}.0",
        "head_norm": "features.{stages}.1",
        "predictions": "classifier.1",
    },
)
LAYOUTS = (TIMM, TORCHVISION_MOBILENETV2, TORCHVISION_EFFICIENTNET)
