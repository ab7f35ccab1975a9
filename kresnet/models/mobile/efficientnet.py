"""EfficientNet B0 to B7, and EfficientNet-Lite 0 to 4, which were made for phones.

B1 to B7 are what their authors published. That is close to, but not the same as, compound scaling by the paper's
formula with its coefficients (alpha 1.2, beta 1.1, gamma 1.15), which `EfficientNet(phi=...)` applies:

| network | depth published | 1.2**phi | width published | 1.1**phi | pixels published | 224 * 1.15**phi | phi |
|---------|-----------------|----------|-----------------|----------|------------------|-----------------|-----|
| B1      | 1.1             | 1.10     | 1.0             | 1.05     | 240              | 240.2           | 0.5 |
| B2      | 1.2             | 1.20     | 1.1             | 1.10     | 260              | 257.6           | 1   |
| B3      | 1.4             | 1.44     | 1.2             | 1.21     | 300              | 296.2           | 2   |
| B4      | 1.8             | 1.73     | 1.4             | 1.33     | 380              | 340.7           | 3   |
| B5      | 2.2             | 2.07     | 1.6             | 1.46     | 456              | 391.8           | 4   |
| B6      | 2.6             | 2.49     | 1.8             | 1.61     | 528              | 450.5           | 5   |
| B7      | 3.1             | 2.99     | 2.0             | 1.77     | 600              | 518.1           | 6   |
"""

from __future__ import annotations

from dataclasses import replace

from kresnet.models.mobile.engine import INVERTED, InvertedSpec, Row
from kresnet.models.registry import base, variant

PAPER = "1905.11946"

TABLE = (
    Row(1, 16, 1, 1, 3, 0.25),
    Row(6, 24, 2, 2, 3, 0.25),
    Row(6, 40, 2, 2, 5, 0.25),
    Row(6, 80, 3, 2, 3, 0.25),
    Row(6, 112, 3, 1, 5, 0.25),
    Row(6, 192, 4, 2, 5, 0.25),
    Row(6, 320, 1, 1, 3, 0.25),
)
B0 = InvertedSpec(table=TABLE, activation="swish", drop_path_rate=0.2, head_dropout_rate=0.2)
LITE0 = replace(B0, table=tuple(row._replace(se=0.0) for row in TABLE), activation="relu6", fixed_ends=True)


def scaled(name: str, base: InvertedSpec, width: float, depth: float, size: int, dropout: float):
    """Makes a published network: its multipliers, input size in pixels, and dropout before the classifier."""
    spec = replace(base, width_multiplier=width, depth_multiplier=depth, head_dropout_rate=dropout)
    key = name.lower().replace("efficientnet", "efficientnet_")
    return variant(name, INVERTED, spec, paper=PAPER, size=size, key=key)


EfficientNet = base("EfficientNet", INVERTED, B0, paper=PAPER)

# The authors' code has these multipliers (github.com/tensorflow/tpu, models/official/efficientnet). They differ a
# little from the paper's alpha ** phi: the docstring above compares them.
EfficientNetB0 = scaled("EfficientNetB0", B0, 1.0, 1.0, 224, 0.2)
EfficientNetB1 = scaled("EfficientNetB1", B0, 1.0, 1.1, 240, 0.2)
EfficientNetB2 = scaled("EfficientNetB2", B0, 1.1, 1.2, 260, 0.3)
EfficientNetB3 = scaled("EfficientNetB3", B0, 1.2, 1.4, 300, 0.3)
EfficientNetB4 = scaled("EfficientNetB4", B0, 1.4, 1.8, 380, 0.4)
EfficientNetB5 = scaled("EfficientNetB5", B0, 1.6, 2.2, 456, 0.4)
EfficientNetB6 = scaled("EfficientNetB6", B0, 1.8, 2.6, 528, 0.5)
EfficientNetB7 = scaled("EfficientNetB7", B0, 2.0, 3.1, 600, 0.5)

EfficientNetLite0 = scaled("EfficientNetLite0", LITE0, 1.0, 1.0, 224, 0.2)
EfficientNetLite1 = scaled("EfficientNetLite1", LITE0, 1.0, 1.1, 240, 0.2)
EfficientNetLite2 = scaled("EfficientNetLite2", LITE0, 1.1, 1.2, 260, 0.3)
EfficientNetLite3 = scaled("EfficientNetLite3", LITE0, 1.2, 1.4, 280, 0.3)
EfficientNetLite4 = scaled("EfficientNetLite4", LITE0, 1.4, 1.8, 300, 0.3)
