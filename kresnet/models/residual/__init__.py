"""Residual networks: ResNet, ResNeXt, SE-ResNet, wide ones, for ImageNet and CIFAR."""
