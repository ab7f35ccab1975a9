"""The original networks' stored outputs, and checkpoints as their authors' code would write them."""

import gzip
import json
import pathlib

import numpy as np
from parity import reference_weights
from safetensors.numpy import save_file

import kresnet

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
    "torchvision:googlenet:224": ("googlenet", {"auxiliary": True}),
    "torchvision:inception_v3:299": ("inception_v3", {"auxiliary": True}),
    "timm:tf_efficientnet_b0:224": ("efficientnet_b0", {"padding": "same", "epsilon": 1e-3}),
    "torchvision:mobilenet_v3_large:65": ("mobilenetv3_large_100", {"epsilon": 1e-3}),
    "torchvision:mobilenet_v3_small:65": ("mobilenetv3_small_100", {"epsilon": 1e-3}),
    "torchvision:efficientnet_v2_s:65": ("efficientnetv2_s", {"epsilon": 1e-3}),
    "timm:tf_efficientnetv2_b0:65": ("efficientnetv2_b0", {}),
    "timm:tf_efficientnetv2_b3:65": ("efficientnetv2_b3", {}),
    "timm:tf_mobilenetv3_large_minimal_100:65": ("tf_mobilenetv3_large_minimal_100", {}),
    "kuangliu:preact_resnet18:32": ("resnetv2_18", {"stem": "conv3"}),
}
for key in LOGITS:
    if key not in NETWORKS and (name := key.split(":")[1]) in kresnet.list_models():
        NETWORKS[key] = (name, {})


def checkpoint(key: str, path: pathlib.Path) -> pathlib.Path:
    """Writes the safetensors file that the network of that key, `source:model:size`, held when it was stored."""
    state = LAYOUTS[key]["state"]
    save_file({name: reference_weights.tensor(name, shape) for name, shape in state.items()}, path)
    return path


def image(size: int, channels: int = 3) -> np.ndarray:
    """Returns the input of the stored outputs, (1, size, size, channels), float32 in [0, 1)."""
    return reference_weights.image(size, channels)
