"""Stores more references, besides those that tests/parity/README.md describes and in the same way.

Needs PyTorch 2.13.0, torchvision 0.28.0 and timm 1.0.31, in an environment of their own: no test needs them.
"""

import functools
import gzip
import json
import pathlib
import sys

import numpy as np
import torch

FOLDER = pathlib.Path(__file__).parent.parent / "tests" / "parity"
sys.path.insert(0, str(FOLDER))
from reference_weights import image, tensor  # noqa: E402

operators = torch.library.Library("torchvision", "DEF")  # a build without its compiled ones wants these to be declared
operators.define("nms(Tensor boxes, Tensor scores, float threshold) -> Tensor")
operators.define("qnms(Tensor boxes, Tensor scores, float threshold) -> Tensor")

import timm  # noqa: E402
import torchvision  # noqa: E402
from timm.layers import BatchNormAct2d, create_conv2d  # noqa: E402
from timm.models.resnetv2 import ResNetV2  # noqa: E402

SIZE = 65  # odd all the way down: 65, 33, 17, 9, 5, 3
TORCHVISION = (
    *("resnext101_32x8d", "resnext101_64x4d", "wide_resnet101_2", "vgg13_bn", "vgg19"),
    *("mobilenet_v3_large", "mobilenet_v3_small", "efficientnet_v2_s"),
)
TIMM = (
    *("resnet26", "resnet101c", "resnet18d", "resnet34d", "resnet101d", "resnet152d"),
    *("resnetv2_18", "resnetv2_34", "resnetv2_101", "resnetv2_152", "resnext101_32x4d", "resnext50d_32x4d"),
    *("mobilenetv2_035", "mobilenetv2_075", "mobilenetv2_140"),
    *(f"efficientnet_b{i}" for i in range(2, 8)),
    *(f"efficientnet_lite{i}" for i in range(1, 5)),
    *("seresnet18", "seresnet34", "seresnet101", "seresnet152", "seresnet152d", "seresnext101_32x4d"),
    *("mobilenetv3_large_100", "mobilenetv3_small_100", "tf_mobilenetv3_large_minimal_100"),
    *("efficientnetv2_s", "tf_efficientnetv2_b0", "tf_efficientnetv2_b3"),
)
MODELS = {f"torchvision:{name}:{SIZE}": getattr(torchvision.models, name) for name in TORCHVISION}
MODELS |= {f"timm:{name}:{SIZE}": functools.partial(timm.create_model, name) for name in TIMM}
MODELS[f"timm:resnetv2_200:{SIZE}"] = functools.partial(
    ResNetV2, layers=(3, 24, 36, 3), conv_layer=create_conv2d, norm_layer=BatchNormAct2d
)


def main() -> None:
    """Computes what is not stored yet, and leaves the rest as it is."""
    logits = dict(np.load(FOLDER / "more_logits.npz"))
    layouts = json.loads(gzip.decompress((FOLDER / "more_layouts.json.gz").read_bytes()))
    for key in [key for key in MODELS if key not in logits]:
        model = MODELS[key]().eval()
        state = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        model.load_state_dict(
            {name: torch.from_numpy(np.asarray(tensor(name, shape))) for name, shape in state.items()}
        )
        with torch.no_grad():
            logits[key] = model(torch.from_numpy(image(SIZE)).permute(0, 3, 1, 2))[0].numpy()
        layouts[key] = {"params": sum(p.numel() for p in model.parameters()), "state": state}
        print(key, layouts[key]["params"])
    np.savez_compressed(FOLDER / "more_logits.npz", **logits)
    (FOLDER / "more_layouts.json.gz").write_bytes(gzip.compress(json.dumps(layouts).encode(), mtime=0))


if __name__ == "__main__":
    main()
