"""Resizes and crops decoded images, as `tf.image` does in training or as published networks were evaluated."""

from __future__ import annotations

import math

import numpy as np

from kresnet.data.images import PIXEL_LIMIT

# Pillow's names, in upper case there.
INTERPOLATIONS = ("bilinear", "bicubic")

# Networks for images below this many pixels see the whole image, as on CIFAR; larger ones see a crop of a photograph.
SMALL = 64

# As TensorFlow weighs red, green and blue in a grey pixel.
_GREY = np.float32([[0.2989], [0.587], [0.114]])


def central_share(size: int) -> float:
    """Returns the side of evaluation's central crop as a fraction of the image's shorter side, in (0, 1].

    Args:
        size: height and width of the network's input in pixels.
    """
    return 1.0 if size < SMALL else 0.875


def resize(pixels: np.ndarray, size: int | tuple[int, int], channels: int = 3) -> np.ndarray:
    """Resizes an image bilinearly, as `tf.image.resize` does in training.

    Args:
        pixels: (height, width, 1 or 3), 0 to 255.
        size: height and width of the result in pixels: one number for both, or each.
        channels: 1 converts RGB to grey.

    Returns:
        uint8 (height, width, channels).
    """
    height, width = (size, size) if isinstance(size, int) else size
    resized = _interpolated(_interpolated(pixels.astype("float32"), width, 1), height, 0)
    if channels == 1 and pixels.shape[2] == 3:
        resized = resized @ _GREY
    return np.rint(resized).astype("uint8")


def grey(pixels: np.ndarray) -> np.ndarray:
    """Returns an image's luminances, uint8 (height, width, 1), from uint8 (height, width, 1 or 3)."""
    return resize(pixels, pixels.shape[:2], 1)


def _interpolated(pixels: np.ndarray, size: int, axis: int) -> np.ndarray:
    """Resizes an axis: each new pixel lies between the centres of the two nearest old ones."""
    old = pixels.shape[axis]
    if old == size:
        return pixels
    places = (np.arange(size, dtype="float32") + np.float32(0.5)) * np.float32(old / size) - np.float32(0.5)
    below = np.floor(places)
    share = (places - below).reshape([-1 if i == axis else 1 for i in range(3)])
    first, second = (pixels.take(np.clip(below.astype(int) + i, 0, old - 1), axis) for i in (0, 1))
    return first + (second - first) * share


def resize_and_crop(pixels: np.ndarray, size: int, crop_fraction: float, interpolation: str) -> np.ndarray:
    """Resizes an image's shorter side to floor(size / crop_fraction) pixels, antialiased, and crops the centre.

    Published accuracies of timm's and torchvision's checkpoints were measured so; to a grey level it is what their
    transforms give.

    Args:
        pixels: uint8 (height, width, channels).
        size: height and width of the result in pixels.
        crop_fraction: in (0, 1].
        interpolation: one of `INTERPOLATIONS`, as Pillow computes it.

    Returns:
        uint8 (size, size, channels).

    Source: the rounding is that of `transforms_imagenet_eval` in github.com/huggingface/pytorch-image-models 1.0.31,
    and of `Resize` and `CenterCrop` in github.com/pytorch/vision.
    """
    from PIL import Image

    height, width = pixels.shape[:2]
    shorter = math.floor(size / crop_fraction + 1e-6)  # 224 / (224 / 232) is a little below 232
    rows, columns = (shorter * side // min(height, width) for side in (height, width))
    top, left = (round((side - size) / 2) for side in (rows, columns))
    corners, resample = (left, top, left + size, top + size), Image.Resampling[interpolation.upper()]

    def resized(band: np.ndarray) -> np.ndarray:
        image = Image.fromarray(band)
        if rows * columns > PIXEL_LIMIT:  # a strip that would grow to gigabytes
            scales = (width / columns, height / rows) * 2
            box = tuple(corner * scale for corner, scale in zip(corners, scales, strict=True))
            return np.asarray(image.resize((size, size), resample, box))
        # For photographs not by `box`, though it is faster: Pillow may then resize rows before columns where it would
        # resize columns first, and clips in between, which changes a few pixels by up to 5 grey levels.
        return np.asarray(image.resize((columns, rows), resample).crop(corners))

    if pixels.shape[2] == 3:
        return resized(pixels)
    # Pillow knows no other numbers of channels but four, of which it takes the last for opacity.
    return np.dstack([resized(np.ascontiguousarray(band)) for band in np.moveaxis(pixels, 2, 0)])
