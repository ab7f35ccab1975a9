"""The names that mobile networks' layers have in PyTorch's checkpoints."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kresnet.weights import keras_applications
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
_LUKEMELAS = "_blocks.{nth_1}."
LUKEMELAS = Layout(  # github.com/lukemelas/EfficientNet-PyTorch, and what is converted from its Lite networks
    "EfficientNet, lukemelas's",
    {
        "stem_conv": "_conv_stem",
        "stem_norm": "_bn0",
        BLOCK + "conv1/2": _LUKEMELAS + "_depthwise_conv",
        BLOCK + "conv2/2": _LUKEMELAS + "_project_conv",
        BLOCK + r"norm(?P<i>\d)/2": _LUKEMELAS + "_bn{i}",
        BLOCK + "conv1/3": _LUKEMELAS + "_expand_conv",
        BLOCK + "conv2/3": _LUKEMELAS + "_depthwise_conv",
        BLOCK + "conv3/3": _LUKEMELAS + "_project_conv",
        BLOCK + r"norm(?P<i>\d)/3": _LUKEMELAS + "_bn{i_1}",
        BLOCK + "se_(?P<part>reduce|expand)": _LUKEMELAS + "_se_{part}",
        "head_conv": "_conv_head",
        "head_norm": "_bn1",
        "predictions": "_fc",
    },
)
KERAS_MOBILENET = Layout(
    "MobileNet, keras.applications's",
    {
        "stem_conv": "conv1",
        "stem_norm": "conv1_bn",
        BLOCK + "conv1": "conv_dw_{nth}",
        BLOCK + "norm1": "conv_dw_{nth}_bn",
        BLOCK + "conv2": "conv_pw_{nth}",
        BLOCK + "norm2": "conv_pw_{nth}_bn",
        "predictions": "conv_preds",
    },
    keras=True,
    prepare=keras_applications.flat_classifier,
)
KERAS_MOBILENETV2 = Layout(
    "MobileNetV2, keras.applications's",
    {
        "stem_conv": "Conv1",
        "stem_norm": "bn_Conv1",
        "stage2_block1_conv1/2": "expanded_conv_depthwise",
        "stage2_block1_norm1/2": "expanded_conv_depthwise_BN",
        "stage2_block1_conv2/2": "expanded_conv_project",
        "stage2_block1_norm2/2": "expanded_conv_project_BN",
        BLOCK + "conv1/3": "block_{nth_1}_expand",
        BLOCK + "norm1/3": "block_{nth_1}_expand_BN",
        BLOCK + "conv2/3": "block_{nth_1}_depthwise",
        BLOCK + "norm2/3": "block_{nth_1}_depthwise_BN",
        BLOCK + "conv3/3": "block_{nth_1}_project",
        BLOCK + "norm3/3": "block_{nth_1}_project_BN",
        "head_conv": "Conv_1",
        "head_norm": "Conv_1_bn",
        "predictions": "predictions",
    },
    keras=True,
)


def _lettered(part: str):
    """Returns the function from a block's layer to the name that Keras gives it: block1a_dwconv, block2b_se_reduce."""

    def name(match: re.Match, layers: Sequence[str]) -> str:
        return f"block{int(match['stage']) - 1}{chr(ord('a') + int(match['block']) - 1)}_{part}"

    return name


KERAS_EFFICIENTNET = Layout(
    "EfficientNet, keras.applications's",
    {
        "stem_conv": "stem_conv",
        "stem_norm": "stem_bn",
        BLOCK + "conv1/2": _lettered("dwconv"),
        BLOCK + "norm1/2": _lettered("bn"),
        BLOCK + "conv2/2": _lettered("project_conv"),
        BLOCK + "norm2/2": _lettered("project_bn"),
        BLOCK + "conv1/3": _lettered("expand_conv"),
        BLOCK + "norm1/3": _lettered("expand_bn"),
        BLOCK + "conv2/3": _lettered("dwconv"),
        BLOCK + "norm2/3": _lettered("bn"),
        BLOCK + "conv3/3": _lettered("project_conv"),
        BLOCK + "norm3/3": _lettered("project_bn"),
        BLOCK + "se_reduce": _lettered("se_reduce"),
        BLOCK + "se_expand": _lettered("se_expand"),
        "head_conv": "top_conv",
        "head_norm": "top_bn",
        "predictions": "predictions",
    },
    left_over=(r"normalization(_\d+)?/\d",),  # the mean and variance of ImageNet's images
    keras=True,
)
LAYOUTS = (
    *(TIMM, TORCHVISION_MOBILENETV2, TORCHVISION_EFFICIENTNET, LUKEMELAS),
    *(KERAS_MOBILENET, KERAS_MOBILENETV2, KERAS_EFFICIENTNET),
)
