"""The names that mobile networks' layers have in PyTorch's checkpoints."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kresnet.weights import keras_applications
from kresnet.weights.forms import DENSE_AS_CONVOLUTION
from kresnet.weights.layout import BLOCK, HEAD, Layout

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
        BLOCK + "fused_conv/0": _TIMM + "conv",
        BLOCK + "fused_conv/1": _TIMM + "conv_exp",
        BLOCK + "fused_norm": _TIMM + "bn1",
        BLOCK + "conv2/1": _TIMM + "conv_pwl",
        BLOCK + r"norm(?P<i>\d)": _TIMM + "bn{i}",
        BLOCK + "se_(?P<part>reduce|expand)": _TIMM + "se.conv_{part}",
        "head_conv": "conv_head",
        "head_norm": "bn2",
        HEAD: "classifier",
    },
    fits=lambda spec: spec.dense_width is None,
)
TIMM_MOBILENETV3 = TIMM.but(
    "MobileNetV3, timm's",
    {"head_dense1": "conv_head"},
    forms={"head_dense1": DENSE_AS_CONVOLUTION},
    head=("conv_head.", "classifier."),
    fits=lambda spec: spec.dense_width is not None,
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
        BLOCK + "fused_conv": _TORCHVISION + "0.0",
        BLOCK + "fused_norm": _TORCHVISION + "0.1",
        "head_conv": "features.{stages}.0",
        "head_norm": "features.{stages}.1",
        "predictions": "classifier.1",
    },
)


def _projection(match: re.Match, layers: Sequence[str]) -> str:
    """Numbers a block's last convolution and norm, behind squeeze-and-excitation where there is one."""
    place = int(match["i"]) - 1 + (f"stage{match['stage']}_block{match['block']}_se_reduce" in layers)
    return f"features.{{nth}}.block.{place}.{int(match['kind'] == 'norm')}"


_TORCHVISION_V3 = "features.{nth}.block."
TORCHVISION_MOBILENETV3 = Layout(
    "MobileNetV3, torchvision's",
    {
        "stem_conv": "features.0.0",
        "stem_norm": "features.0.1",
        BLOCK + r"(?P<kind>conv|norm)(?P<i>\d)/(?P=i)": _projection,
        BLOCK + r"conv(?P<i>\d)": _TORCHVISION_V3 + "{i_1}.0",
        BLOCK + r"norm(?P<i>\d)": _TORCHVISION_V3 + "{i_1}.1",
        BLOCK + r"se_reduce/(?P<convs>\d)": _TORCHVISION_V3 + "{convs_1}.fc1",
        BLOCK + r"se_expand/(?P<convs>\d)": _TORCHVISION_V3 + "{convs_1}.fc2",
        BLOCK + "fused_conv": "features.{nth}.0",
        BLOCK + "fused_norm": "features.{nth}.1",
        "head_dense1": "classifier.0",
        HEAD: "classifier.3",
    },
    head="classifier.",
    fits=lambda spec: spec.dense_width is not None,
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
    prepare=keras_applications.flat_head,
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
_EXPANDED = "expanded_conv_{nth_1}_"
KERAS_MOBILENETV3 = Layout(
    "MobileNetV3, keras.applications's",
    {
        "stem_conv": "conv",
        "stem_norm": "conv_bn",
        "stage2_block1_conv1": "expanded_conv_depthwise",
        "stage2_block1_norm1": "expanded_conv_depthwise_bn",
        "stage2_block1_se_reduce": "expanded_conv_squeeze_excite_conv",
        "stage2_block1_se_expand": "expanded_conv_squeeze_excite_conv_1",
        "stage2_block1_conv2": "expanded_conv_project",
        "stage2_block1_norm2": "expanded_conv_project_bn",
        BLOCK + "conv1": _EXPANDED + "expand",
        BLOCK + "norm1": _EXPANDED + "expand_bn",
        BLOCK + "conv2": _EXPANDED + "depthwise",
        BLOCK + "norm2": _EXPANDED + "depthwise_bn",
        BLOCK + "se_reduce": _EXPANDED + "squeeze_excite_conv",
        BLOCK + "se_expand": _EXPANDED + "squeeze_excite_conv_1",
        BLOCK + "conv3": _EXPANDED + "project",
        BLOCK + "norm3": _EXPANDED + "project_bn",
        BLOCK + "fused_conv": "conv_1",
        BLOCK + "fused_norm": "conv_1_bn",
        "head_dense1": "conv_2",
        HEAD: "logits",
    },
    keras=True,
    prepare=keras_applications.flat_head,
    fits=lambda spec: spec.dense_width is not None,
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
KERAS_EFFICIENTNETV2 = KERAS_EFFICIENTNET.but(
    "EfficientNetV2, keras.applications's",
    {
        BLOCK + "fused_conv/0": _lettered("project_conv"),
        BLOCK + "fused_norm/0": _lettered("project_bn"),
        BLOCK + "fused_conv/1": _lettered("expand_conv"),
        BLOCK + "fused_norm/1": _lettered("expand_bn"),
        BLOCK + "conv2/1": _lettered("project_conv"),
        BLOCK + "norm2/1": _lettered("project_bn"),
        BLOCK + "conv2/3": _lettered("dwconv2"),
    },
)
LAYOUTS = (
    *(TIMM, TIMM_MOBILENETV3, LUKEMELAS),
    *(TORCHVISION_MOBILENETV2, TORCHVISION_MOBILENETV3, TORCHVISION_EFFICIENTNET),
    *(KERAS_MOBILENET, KERAS_MOBILENETV2, KERAS_MOBILENETV3, KERAS_EFFICIENTNET, KERAS_EFFICIENTNETV2),
)
