"""MobileNet V1, V2 and V3."""

from __future__ import annotations

from dataclasses import replace

from kresnet.layers.pixels import INCEPTION
from kresnet.models.mobile.engine import INVERTED, InvertedSpec, Row
from kresnet.models.registry import variant

MOBILENETV1, MOBILENETV2, MOBILENETV3 = "1704.04861", "1801.04381", "1905.02244"

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

# The paper's tables 1 and 2, which have a line for each block, and its number of expanded channels. Rows have
# hard-swish unless they say otherwise; the last one is the 1x1 convolution before the average.
LARGE = (
    Row(1, 16, 1, 1, activation="relu"),
    Row((4, 3), 24, 2, 2, activation="relu"),
    Row(3, 40, 3, 2, 5, 0.25, activation="relu"),
    Row((6, 2.5, 2.3), 80, 4, 2),
    Row(6, 112, 2, 1, 3, 0.25),
    Row(6, 160, 3, 2, 5, 0.25),
    Row(1, 960, 1, 1, 1, fused=True),
)
SMALL = (
    Row(1, 16, 1, 2, 3, 0.25, activation="relu"),
    Row((4.5, 88 / 24), 24, 2, 2, activation="relu"),
    Row((4, 6), 40, 3, 2, 5, 0.25),
    Row(3, 48, 2, 1, 5, 0.25),
    Row(6, 96, 3, 2, 5, 0.25),
    Row(1, 576, 1, 1, 1, fused=True),
)
V3_LARGE = InvertedSpec(
    table=LARGE,
    stem_width=16,
    head_width=None,
    dense_width=1280,
    fixed_ends=True,
    activation="hard_swish",
    se_of="expanded",
    se_activation="relu",
    se_gate="hard_sigmoid",
    head_dropout_rate=0.2,
)
V3_SMALL = replace(V3_LARGE, table=SMALL, dense_width=1024)

MobileNetV1 = variant("MobileNetV1", INVERTED, V1, paper=MOBILENETV1, key="mobilenetv1_100", alpha_is_width=True)


def widened(name: str, spec: InvertedSpec, alpha: float, *, paper: str, key: str):
    return variant(name, INVERTED, replace(spec, width_multiplier=alpha), paper=paper, key=key, alpha_is_width=True)


MobileNetV2 = widened("MobileNetV2", V2, 1.0, paper=MOBILENETV2, key="mobilenetv2_100")
MobileNetV2_035 = widened("MobileNetV2_035", V2, 0.35, paper=MOBILENETV2, key="mobilenetv2_035")
MobileNetV2_050 = widened("MobileNetV2_050", V2, 0.5, paper=MOBILENETV2, key="mobilenetv2_050")
MobileNetV2_075 = widened("MobileNetV2_075", V2, 0.75, paper=MOBILENETV2, key="mobilenetv2_075")
MobileNetV2_140 = widened("MobileNetV2_140", V2, 1.4, paper=MOBILENETV2, key="mobilenetv2_140")

MobileNetV3Large = widened("MobileNetV3Large", V3_LARGE, 1.0, paper=MOBILENETV3, key="mobilenetv3_large_100")
MobileNetV3Large_075 = widened("MobileNetV3Large_075", V3_LARGE, 0.75, paper=MOBILENETV3, key="mobilenetv3_large_075")
MobileNetV3Small = widened("MobileNetV3Small", V3_SMALL, 1.0, paper=MOBILENETV3, key="mobilenetv3_small_100")
MobileNetV3Small_050 = widened("MobileNetV3Small_050", V3_SMALL, 0.5, paper=MOBILENETV3, key="mobilenetv3_small_050")
MobileNetV3Small_075 = widened("MobileNetV3Small_075", V3_SMALL, 0.75, paper=MOBILENETV3, key="mobilenetv3_small_075")
