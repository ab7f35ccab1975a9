"""Inception networks: GoogLeNet, Inception-v3 and v4, Inception-ResNet-v1 and v2."""
