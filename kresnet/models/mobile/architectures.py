"""Timm's mobile architectures by its names: each one's spec is what computes the same function.

github.com/huggingface/pytorch-image-models, timm/models/efficientnet.py and mobilenetv3.py.
"""

from __future__ import annotations

from dataclasses import replace

from kresnet.models import registry
from kresnet.models.mobile import efficientnet, mobilenet
from kresnet.models.mobile.engine import InvertedSpec
from kresnet.weights.keras_applications import TENSORFLOW


def registered(pattern: str) -> dict[str, InvertedSpec]:
    """Returns the specs of the networks that have builders here, whose keys are timm's names."""
    return {key: registry.get_builder(key).spec for key in registry.list_models(pattern)}


def minimalistic(spec: InvertedSpec) -> InvertedSpec:
    """Returns a MobileNetV3 without what is slow on some devices: 5x5 kernels, squeeze-and-excitation, hard-swish."""
    rows = (row._replace(k=min(row.k, 3), se=0.0, activation=None) for row in spec.table)
    return replace(spec, table=tuple(rows), activation="relu")


B8 = replace(efficientnet.B0, width_multiplier=2.2, depth_multiplier=3.6, head_dropout_rate=0.5)
_EFFICIENTNETS = {**registered("efficientnet_*"), "efficientnet_b8": B8, **registered("efficientnetv2_[sml]")}
_MOBILENETS = {
    **registered("mobilenetv3_*_075"),
    **registered("mobilenetv3_*_100"),
    "mobilenetv3_large_minimal_100": minimalistic(mobilenet.V3_LARGE),
    "mobilenetv3_small_minimal_100": minimalistic(mobilenet.V3_SMALL),
}

ARCHITECTURES: dict[str, InvertedSpec] = {
    **registered("mobilenet*"),
    "mobilenetv1_125": replace(mobilenet.V1, width_multiplier=1.25),
    "mobilenetv1_100h": replace(mobilenet.V1, head_width=1024, head_never_shrinks=True),
    "mobilenetv2_110d": replace(mobilenet.V2, width_multiplier=1.1, depth_multiplier=1.2, fixed_ends=True),
    "mobilenetv2_120d": replace(mobilenet.V2, width_multiplier=1.2, depth_multiplier=1.4, fixed_ends=True),
    **_EFFICIENTNETS,
    **{f"tf_{name}": replace(spec, **TENSORFLOW) for name, spec in (_EFFICIENTNETS | _MOBILENETS).items()},
    **{f"tf_{name}": spec for name, spec in registered("efficientnetv2_b*").items()},
}
