"""The original networks' stored outputs, and checkpoints as their authors' code would write them."""

import gzip
import json
import pathlib

import numpy as np
from parity import reference_weights
from safetensors.numpy import save_file

import kresnet
from kresnet.weights import BLOCK, Layout

FOLDER = pathlib.Path(__file__).parent / "parity"
LAYOUTS, LOGITS = {}, {}
for prefix in ("", "more_"):
    LAYOUTS |= json.loads(gzip.decompress((FOLDER / f"{prefix}layouts.json.gz").read_bytes()))
    LOGITS |= np.load(FOLDER / f"{prefix}logits.npz")

# Stored network, `source:model:size`, to the network here, and the fields in which it differs from that.
NETWORKS = {
    "timm:legacy_senet154:224": ("senet154", {}),
    "timm:legacy_seresnet50:224": ("seresnet50", {"stride_in": "1x1", "stem_pool": "ceil"}),
    "torchvision:mobilenet_v2:224": ("mobilenetv2_100", {}),
    "timm:tf_efficientnet_b0:224": ("efficientnet_b0", {"padding": "same", "epsilon": 1e-3}),
    "kuangliu:preact_resnet18:32": ("resnetv2_18", {"stem": "conv3"}),
}
for key in LOGITS:
    if (name := key.split(":")[1]) in kresnet.list_models():
        NETWORKS[key] = (name, {})

_CONVS_AND_NORMS = {
    "stem_conv": "conv1",
    "stem_norm": "bn1",
    BLOCK + r"conv(?P<i>\d)": "layer{stage_1}.{block_1}.conv{i}",
    BLOCK + r"norm(?P<i>\d)": "layer{stage_1}.{block_1}.bn{i}",
    BLOCK + "shortcut_conv": "layer{stage_1}.{block_1}.shortcut.0",
    "predictions": "linear",
}
_PRLZ77_BLOCK = "stage_{stage_1}.stage_{stage_1}_bottleneck_{block_1}"

# How four authors' repositories on GitHub name what torchvision and timm do not have.
AUTHORS = {
    "akamaster": Layout("akamaster/pytorch_resnet_cifar10", _CONVS_AND_NORMS),
    "kuangliu": Layout("kuangliu/pytorch-cifar", _CONVS_AND_NORMS),
    "xternalz": Layout(
        "xternalz/WideResNet-pytorch",
        {
            "stem_conv": "conv1",
            BLOCK + r"conv(?P<i>\d)": "block{stage_1}.layer.{block_1}.conv{i}",
            BLOCK + r"norm(?P<i>\d)": "block{stage_1}.layer.{block_1}.bn{i}",
            BLOCK + "shortcut_conv": "block{stage_1}.layer.{block_1}.convShortcut",
            "head_norm": "bn1",
            "predictions": "fc",
        },
    ),
    "prlz77": Layout(
        "prlz77/ResNeXt.pytorch",
        {
            "stem_conv": "conv_1_3x3",
            "stem_norm": "bn_1",
            BLOCK + "conv1": f"{_PRLZ77_BLOCK}.conv_reduce",
            BLOCK + "norm1": f"{_PRLZ77_BLOCK}.bn_reduce",
            BLOCK + "conv2": f"{_PRLZ77_BLOCK}.conv_conv",
            BLOCK + "norm2": f"{_PRLZ77_BLOCK}.bn",
            BLOCK + "conv3": f"{_PRLZ77_BLOCK}.conv_expand",
            BLOCK + "norm3": f"{_PRLZ77_BLOCK}.bn_expand",
            BLOCK + "shortcut_conv": f"{_PRLZ77_BLOCK}.shortcut.shortcut_conv",
            BLOCK + "shortcut_norm": f"{_PRLZ77_BLOCK}.shortcut.shortcut_bn",
            "predictions": "classifier",
        },
    ),
}


def checkpoint(key: str, path: pathlib.Path) -> pathlib.Path:
    """Writes the safetensors file that the network of that key, `source:model:size`, held when it was stored."""
    state = LAYOUTS[key]["state"]
    save_file({name: reference_weights.tensor(name, shape) for name, shape in state.items()}, path)
    return path


def image(size: int, channels: int = 3) -> np.ndarray:
    """Returns the input of the stored outputs, (1, size, size, channels), float32 in [0, 1)."""
    return reference_weights.image(size, channels)
