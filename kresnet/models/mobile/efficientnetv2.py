"""EfficientNetV2: S, M and L, and B0 to B3, scaled as EfficientNet's.

The early stages fuse expansion and depthwise convolution into one, which is faster where channels are few. Sizes in
pixels are those of the published accuracies; their authors trained with smaller images, at last 192, 192, 208 and 240
for B0 to B3, 300 for S, and 384 for M and L.

Tables, multipliers and dropout: github.com/google/automl, efficientnetv2/effnetv2_configs.py; S is the paper's table 4.
"""

from __future__ import annotations

from dataclasses import replace

from kresnet.models.mobile.engine import INVERTED, InvertedSpec, Row
from kresnet.models.registry import variant
from kresnet.weights.keras_applications import TENSORFLOW

PAPER = "2104.00298"

BASE = (
    Row(1, 16, 1, 1, fused=True),
    Row(4, 32, 2, 2, fused=True),
    Row(4, 48, 2, 2, fused=True),
    Row(4, 96, 3, 2, 3, 0.25),
    Row(6, 112, 5, 1, 3, 0.25),
    Row(6, 192, 8, 2, 3, 0.25),
)
SMALL = (
    Row(1, 24, 2, 1, fused=True),
    Row(4, 48, 4, 2, fused=True),
    Row(4, 64, 4, 2, fused=True),
    Row(4, 128, 6, 2, 3, 0.25),
    Row(6, 160, 9, 1, 3, 0.25),
    Row(6, 256, 15, 2, 3, 0.25),
)
MEDIUM = (
    Row(1, 24, 3, 1, fused=True),
    Row(4, 48, 5, 2, fused=True),
    Row(4, 80, 5, 2, fused=True),
    Row(4, 160, 7, 2, 3, 0.25),
    Row(6, 176, 14, 1, 3, 0.25),
    Row(6, 304, 18, 2, 3, 0.25),
    Row(6, 512, 5, 1, 3, 0.25),
)
LARGE = (
    Row(1, 32, 4, 1, fused=True),
    Row(4, 64, 7, 2, fused=True),
    Row(4, 96, 7, 2, fused=True),
    Row(4, 192, 10, 2, 3, 0.25),
    Row(6, 224, 19, 1, 3, 0.25),
    Row(6, 384, 25, 2, 3, 0.25),
    Row(6, 640, 7, 1, 3, 0.25),
)
S = InvertedSpec(
    table=SMALL, stem_width=24, activation="swish", kept_width=0.0, drop_path_rate=0.2, head_dropout_rate=0.2
)
M = replace(S, table=MEDIUM, head_dropout_rate=0.3)
L = replace(S, table=LARGE, stem_width=32, head_dropout_rate=0.4)
# Nobody has published these but their authors, so that they pad as TensorFlow does.
B0 = replace(S, table=BASE, stem_width=32, **TENSORFLOW)
B1 = replace(B0, depth_multiplier=1.1)
B2 = replace(B0, width_multiplier=1.1, depth_multiplier=1.2, head_dropout_rate=0.3)
B3 = replace(B0, width_multiplier=1.2, depth_multiplier=1.4, head_dropout_rate=0.3)

EfficientNetV2S = variant("EfficientNetV2S", INVERTED, S, paper=PAPER, size=384, key="efficientnetv2_s")
EfficientNetV2M = variant("EfficientNetV2M", INVERTED, M, paper=PAPER, size=480, key="efficientnetv2_m")
EfficientNetV2L = variant("EfficientNetV2L", INVERTED, L, paper=PAPER, size=480, key="efficientnetv2_l")
EfficientNetV2B0 = variant("EfficientNetV2B0", INVERTED, B0, paper=PAPER, size=224, key="efficientnetv2_b0")
EfficientNetV2B1 = variant("EfficientNetV2B1", INVERTED, B1, paper=PAPER, size=240, key="efficientnetv2_b1")
EfficientNetV2B2 = variant("EfficientNetV2B2", INVERTED, B2, paper=PAPER, size=260, key="efficientnetv2_b2")
EfficientNetV2B3 = variant("EfficientNetV2B3", INVERTED, B3, paper=PAPER, size=300, key="efficientnetv2_b3")
