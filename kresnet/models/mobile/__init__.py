"""Inverted residuals: MobileNet V1 to V3, EfficientNet and EfficientNetV2."""
