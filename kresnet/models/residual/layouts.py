"""The names that residual networks' layers have in PyTorch's checkpoints."""

from __future__ import annotations

from typing import Any

from kresnet.weights import keras_applications
from kresnet.weights.forms import DENSE_AS_CONVOLUTION, Form
from kresnet.weights.layout import BLOCK, Layout

_DEEP_STEM = {"stem_conv1": "conv1.0", "stem_norm1": "conv1.1", "stem_conv2": "conv1.3", "stem_norm2": "conv1.4"}
# A convolution over the channels: (taps, 1, 1, 1) here, (1, 1, taps) there.
_OVER_CHANNELS = Form(
    lambda shape: ((1, 1, shape[0]),),
    lambda array, shape: array.reshape(shape),
    lambda array: array.reshape(1, 1, -1),
)


def _is_legacy(spec: Any) -> bool:
    """Tells whether a network is of github.com/Cadene/pretrained-models.pytorch, from Caffe, hence the pooling.

    Its SE-ResNets' bottlenecks stride in the first 1x1, the ResNeXts' and SENet-154's in the 3x3.
    """
    basic, early = spec.expansion == 1, spec.stride_in == "1x1"
    return _is_caffes(spec) and spec.activated_branch == basic and (basic or early == (spec.groups == 1))


def _is_caffes(spec: Any) -> bool:
    return spec.se_reduction is not None and spec.stem_pool == "ceil"


RESNET = Layout(
    "ResNet, torchvision's and timm's",
    {
        "stem_conv": "conv1",
        "stem_norm": "bn1",
        **_DEEP_STEM,
        "stem_conv3": "conv1.6",
        "stem_norm3": "bn1",
        BLOCK + r"conv(?P<i>\d)": "layer{stage_1}.{block_1}.conv{i}",
        BLOCK + r"norm(?P<i>\d)": "layer{stage_1}.{block_1}.bn{i}",
        BLOCK + "shortcut_conv": "layer{stage_1}.{block_1}.downsample.0",
        BLOCK + "shortcut_norm": "layer{stage_1}.{block_1}.downsample.1",
        BLOCK + "se_reduce": "layer{stage_1}.{block_1}.se.fc1",
        BLOCK + "se_expand": "layer{stage_1}.{block_1}.se.fc2",
        BLOCK + "eca_conv": "layer{stage_1}.{block_1}.se.conv",
        "stem_pool_conv": "maxpool.0",
        "stem_pool_norm": "maxpool.1",
        "predictions": "fc",
    },
    forms={BLOCK + "eca_conv": _OVER_CHANNELS},
    fits=lambda spec: spec.shortcut != "avg_conv" and not _is_caffes(spec),
)
RESNET_D = RESNET.but(  # the average pooling counts as a module
    "ResNet-D, timm's",
    {
        BLOCK + "shortcut_conv": "layer{stage_1}.{block_1}.downsample.1",
        BLOCK + "shortcut_norm": "layer{stage_1}.{block_1}.downsample.2",
    },
    fits=lambda spec: spec.shortcut == "avg_conv",
)
LEGACY_SENET = RESNET.but(
    "SENet, timm's legacy",
    {
        "stem_conv": "layer0.conv1",
        "stem_norm": "layer0.bn1",
        r"stem_conv(?P<i>\d)": "layer0.conv{i}",
        r"stem_norm(?P<i>\d)": "layer0.bn{i}",
        BLOCK + "se_reduce": "layer{stage_1}.{block_1}.se_module.fc1",
        BLOCK + "se_expand": "layer{stage_1}.{block_1}.se_module.fc2",
        "predictions": "last_linear",
    },
    fits=_is_legacy,
)
RESNETV2 = Layout(
    "ResNetV2, timm's",
    {
        r"stem_conv(?P<i>\d?)": "stem.conv{i}",
        r"stem_norm(?P<i>\d?)": "stem.norm{i}",
        BLOCK + r"(?P<part>(conv|norm)\d)": "stages.{stage_2}.blocks.{block_1}.{part}",
        BLOCK + "shortcut_(?P<part>conv|norm)": "stages.{stage_2}.blocks.{block_1}.downsample.{part}",
        "head_norm": "norm",
        "predictions": "head.fc",
    },
    forms={"predictions": DENSE_AS_CONVOLUTION},
    fits=lambda spec: spec.preactivation and not spec.biases and spec.stride_at == "start",
)
# What many hold who trained on CIFAR with the code of github.com/akamaster/pytorch_resnet_cifar10 and
# github.com/kuangliu/pytorch-cifar, which name alike, github.com/xternalz/WideResNet-pytorch and
# github.com/prlz77/ResNeXt.pytorch.
AKAMASTER_KUANGLIU = Layout(
    "akamaster's and kuangliu's for CIFAR",
    {
        "stem_conv": "conv1",
        "stem_norm": "bn1",
        BLOCK + r"conv(?P<i>\d)": "layer{stage_1}.{block_1}.conv{i}",
        BLOCK + r"norm(?P<i>\d)": "layer{stage_1}.{block_1}.bn{i}",
        BLOCK + "shortcut_conv": "layer{stage_1}.{block_1}.shortcut.0",
        BLOCK + "shortcut_norm": "layer{stage_1}.{block_1}.shortcut.1",
        "predictions": "linear",
    },
)
XTERNALZ = Layout(
    "xternalz's WideResNet",
    {
        "stem_conv": "conv1",
        BLOCK + r"conv(?P<i>\d)": "block{stage_1}.layer.{block_1}.conv{i}",
        BLOCK + r"norm(?P<i>\d)": "block{stage_1}.layer.{block_1}.bn{i}",
        BLOCK + "shortcut_conv": "block{stage_1}.layer.{block_1}.convShortcut",
        "head_norm": "bn1",
        "predictions": "fc",
    },
)
_BOTTLENECK = "stage_{stage_1}.stage_{stage_1}_bottleneck_{block_1}"
PRLZ77 = Layout(
    "prlz77's ResNeXt",
    {
        "stem_conv": "conv_1_3x3",
        "stem_norm": "bn_1",
        BLOCK + "conv1": f"{_BOTTLENECK}.conv_reduce",
        BLOCK + "norm1": f"{_BOTTLENECK}.bn_reduce",
        BLOCK + "conv2": f"{_BOTTLENECK}.conv_conv",
        BLOCK + "norm2": f"{_BOTTLENECK}.bn",
        BLOCK + "conv3": f"{_BOTTLENECK}.conv_expand",
        BLOCK + "norm3": f"{_BOTTLENECK}.bn_expand",
        BLOCK + "shortcut_conv": f"{_BOTTLENECK}.shortcut.shortcut_conv",
        BLOCK + "shortcut_norm": f"{_BOTTLENECK}.shortcut.shortcut_bn",
        "predictions": "classifier",
    },
)
KERAS = Layout(
    "ResNet, keras.applications's",
    {
        "stem_conv": "conv1_conv",
        "stem_norm": "conv1_bn",
        BLOCK + r"conv(?P<i>\d)": "conv{stage}_block{block}_{i}_conv",
        BLOCK + r"norm(?P<i>\d)": "conv{stage}_block{block}_{i}_bn",
        BLOCK + "shortcut_conv": "conv{stage}_block{block}_0_conv",
        BLOCK + "shortcut_norm": "conv{stage}_block{block}_0_bn",
        "predictions": "predictions",
    },
    keras=True,
    prepare=keras_applications.without_biases,
)
KERAS_V2 = KERAS.but(
    "ResNetV2, keras.applications's",
    {
        BLOCK + "norm1": "conv{stage}_block{block}_preact_bn",
        BLOCK + r"norm(?P<i>\d)": "conv{stage}_block{block}_{i_1}_bn",
        "head_norm": "post_bn",
    },
    fits=lambda spec: spec.preactivation,
    prepare=lambda arrays: arrays,
)
LAYOUTS = (RESNET, RESNET_D, LEGACY_SENET, RESNETV2, AKAMASTER_KUANGLIU, XTERNALZ, PRLZ77, KERAS, KERAS_V2)
