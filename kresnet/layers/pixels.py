"""From pixels to the numbers that a network was trained with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

# Mean and standard deviation of red, green and blue in [0, 1], over the training images.
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
INCEPTION = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
CIFAR = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2470, 0.2435, 0.2616)}


def preprocess(image: Any, mean: Sequence[float], std: Sequence[float]) -> Any:
    """Standardizes pixels, 0 to 255, with the mean and deviation of the training images: (pixel / 255 - mean) / std.

    Args:
        image: (batch, height, width, channels).
        mean, std: for each channel, in [0, 1]. An image with another number of channels (grey, or multispectral) gets
            their averages in each channel.

    Returns:
        A tensor of the same shape, from the layer `preprocessing`.
    """
    channels = image.shape[-1]
    if channels != len(mean):
        mean, std = (sum(mean) / len(mean),) * channels, (sum(std) / len(std),) * channels
    scale, offset = [1 / (255 * s) for s in std], [-m / s for m, s in zip(mean, std, strict=True)]
    return keras.layers.Rescaling(scale, offset, dtype=float32_if_mixed(), name="preprocessing")(image)


def float32_if_mixed() -> str | None:
    """Returns the dtype for a layer that must not compute in half precision: None where Keras's default is no such."""
    return "float32" if keras.config.dtype_policy().compute_dtype in ("float16", "bfloat16") else None
