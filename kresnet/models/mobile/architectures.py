"""Timm's mobile architectures by its names: each one's spec is what computes the same function.

github.com/huggingface/pytorch-image-models, timm/models/efficientnet.py.
"""

from __future__ import annotations

from dataclasses import replace

from kresnet.models.mobile import efficientnet, mobilenet
from kresnet.models.mobile.engine import InvertedSpec

# As TensorFlow's weights want it.
TENSORFLOW = {"padding": "same", "epsilon": 1e-3}

B8 = replace(efficientnet.B0, width_multiplier=2.2, depth_multiplier=3.6, head_dropout_rate=0.5)
_EFFICIENTNETS = {f"efficientnet_b{i}": getattr(efficientnet, f"EfficientNetB{i}").spec for i in range(8)} | {
    **{f"efficientnet_lite{i}": getattr(efficientnet, f"EfficientNetLite{i}").spec for i in range(5)},
    "efficientnet_b8": B8,
}
_WIDTHS = (0.35, 0.5, 0.75, 1.0, 1.4)
_MOBILENETS = {f"mobilenetv2_{round(100 * a):03}": replace(mobilenet.V2, width_multiplier=a) for a in _WIDTHS}

ARCHITECTURES: dict[str, InvertedSpec] = {
    "mobilenetv1_100": mobilenet.V1,
    "mobilenetv1_125": replace(mobilenet.V1, width_multiplier=1.25),
    "mobilenetv1_100h": replace(mobilenet.V1, head_width=1024, head_never_shrinks=True),
    **_MOBILENETS,
    "mobilenetv2_110d": replace(mobilenet.V2, width_multiplier=1.1, depth_multiplier=1.2, fixed_ends=True),
    "mobilenetv2_120d": replace(mobilenet.V2, width_multiplier=1.2, depth_multiplier=1.4, fixed_ends=True),
    **_EFFICIENTNETS,
    **{f"tf_{name}": replace(spec, **TENSORFLOW) for name, spec in _EFFICIENTNETS.items()},
}
