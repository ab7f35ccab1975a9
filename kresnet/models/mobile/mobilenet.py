"""MobileNet V1 and V2."""

from __future__ import annotations

from dataclasses import replace

from kresnet.layers.pixels import INCEPTION
from kresnet.models.mobile.engine import INVERTED, InvertedSpec, Row
from kresnet.models.registry import variant

MOBILENETV1, MOBILENETV2 = "1704.04861", "1801.04381"

# V1's depthwise separable convolution is V2's block without expansion and shortcut, but with a last activation.
V1 = InvertedSpec(
    table=(Row(1, 64, 1, 1), Row(1, 128, 2, 2), Row(1, 256, 2, 2), Row(1, 512, 6, 2), Row(1, 1024, 2, 2)),
    head_width=None,
    linear=False,
    shortcut=False,
    head_dropout_rate=0.001,
    **INCEPTION,
)
V2 = InvertedSpec(head_never_shrinks=True, head_dropout_rate=0.2)

MobileNetV1 = variant("MobileNetV1", INVERTED, V1, paper=MOBILENETV1, key="mobilenetv1_100", alpha_is_width=True)


def widened(name: str, alpha: float, key: str):
    spec = replace(V2, width_multiplier=alpha)
    return variant(name, INVERTED, spec, paper=MOBILENETV2, key=key, alpha_is_width=True)


MobileNetV2 = widened("MobileNetV2", 1.0, key="mobilenetv2_100")
MobileNetV2_035 = widened("MobileNetV2_035", 0.35, key="mobilenetv2_035")
MobileNetV2_050 = widened("MobileNetV2_050", 0.5, key="mobilenetv2_050")
MobileNetV2_075 = widened("MobileNetV2_075", 0.75, key="mobilenetv2_075")
MobileNetV2_140 = widened("MobileNetV2_140", 1.4, key="mobilenetv2_140")
