"""The networks by family, as a reader looks for them: for the README's table and docs/networks.md (`make table`)."""

from __future__ import annotations

import re
from typing import NamedTuple


class Group(NamedTuple):
    """Networks that one section tells of."""

    title: str
    keys: str  # a regular expression of them
    story: str
    pictures: tuple[str, ...]  # names in `draw.PICTURES`


GROUPS = (
    Group(
        "LeNet-5 to Network in Network",
        r"lenet|alexnet|zfnet|nin",
        "Convolutions, poolings and dense layers, as tables of rows. AlexNet brought ReLU, dropout and response "
        "normalization; Network in Network put 1x1 convolutions behind larger ones, and an average in the place of "
        "dense layers.",
        ("alexnet2012", "nin"),
    ),
    Group("VGG", r"vgg", "3x3 convolutions alone, two to four before each pooling.", ("vgg",)),
    Group(
        "GoogLeNet and Inception",
        r"googlenet|inception",
        "Branches of several window sizes side by side, narrowed by 1x1 convolutions; Inception-v3 factorizes large "
        "windows, Inception-ResNet adds shortcuts.",
        ("googlenet", "inception_v3", "inception_resnet"),
    ),
    Group(
        "ResNet",
        r"(resnet|plainnet)\d",
        "A block adds to its input instead of replacing it. Basic blocks have two 3x3, bottlenecks a 3x3 between two "
        "1x1. Where the shape changes the shortcut is a projection (B), of CIFAR's networks a padded identity (A). "
        "PlainNets are the papers' counterparts without shortcuts; C has a deep stem, D also averages before it "
        "projects.",
        ("plain", "basic", "bottleneck", "projection", "resnet_d"),
    ),
    Group(
        "ResNet V2",
        r"resnetv2",
        "Norm and activation come before the convolutions, so that nothing stands on the way of the shortcuts.",
        ("preactivation",),
    ),
    Group("ResNeXt", r"resnext", "The 3x3 of a bottleneck is convolved in groups.", ("resnext",)),
    Group(
        "SENet",
        r"seres|senet",
        "Squeeze-and-excitation: each channel is rescaled by a gate that is computed from all channels' means.",
        ("se",),
    ),
    Group("Wide ResNet", r"wrn|wide_resnet", "Fewer blocks, of more channels.", ("wide",)),
    Group(
        "DenseNet",
        r"densenet",
        "Each layer takes the maps of all before it, concatenated; transitions halve them.",
        ("densenet", "transition"),
    ),
    Group(
        "MobileNet",
        r"mobilenet",
        "A depthwise convolution and a 1x1 for one convolution. V2 widens inside the block and adds the narrow ends "
        "(inverted residual); V3 adds squeeze-and-excitation and hard-swish.",
        ("mobilenetv1", "mobilenetv2", "mobilenetv3"),
    ),
    Group(
        "EfficientNet",
        r"efficientnet_",
        "MobileNet's block with squeeze-and-excitation, scaled in depth, width and resolution at once. Lite, "
        "for int8, has neither the gates nor swish.",
        ("efficientnet",),
    ),
    Group(
        "EfficientNetV2",
        r"efficientnetv2",
        "In the early stages one 3x3 convolution does the work of the 1x1 and the depthwise (fused).",
        ("fused",),
    ),
    Group(
        "RepVGG",
        r"repvgg",
        "While it trains, a 1x1 and an identity stand beside each 3x3; `kresnet.reparameterize` merges the three into "
        "one.",
        ("repvgg",),
    ),
    Group("ParNet", r"parnet", "Short streams of RepVGG-like blocks side by side, 12 layers deep.", ("parnet",)),
)


def of(key: str) -> Group:
    """Returns a network's group.

    Raises:
        ValueError: if it is in none, or in several.
    """
    found = [group for group in GROUPS if re.match(group.keys, key)]
    if len(found) != 1:
        raise ValueError(
            f"A network belongs in one of `GROUPS` (tools/families.py). Received: key={key!r}, in {len(found)}"
        )
    return found[0]
