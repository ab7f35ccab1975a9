"""Inverted residuals: MobileNet V1 and V2, EfficientNet."""
