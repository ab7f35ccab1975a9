"""RandAugment: for each image a few of fourteen operations, all of about the same magnitude."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from kresnet import checks
from kresnet.data.draws import fold

# What the border shows where an image was moved: the authors' grey.
GREY = 128

Operation = Callable[[Image.Image, float], Image.Image]


def _grey(image: Image.Image) -> int | tuple[int, ...]:
    return GREY if image.mode == "L" else (GREY,) * 3


def _moved(matrix: Callable[[float, Image.Image], tuple[float, ...]]) -> Operation:
    """Returns an operation that moves pixels by an affine matrix, as Pillow has it: from new places to old ones."""

    def move(image: Image.Image, strength: float) -> Image.Image:
        transform, moved = Image.Transform.AFFINE, matrix(strength, image)
        return image.transform(image.size, transform, moved, Image.Resampling.BILINEAR, fillcolor=_grey(image))

    return move


def _rotated(image: Image.Image, strength: float) -> Image.Image:
    return image.rotate(30 * strength, Image.Resampling.BILINEAR, fillcolor=_grey(image))


def _enhanced(enhancer: type) -> Operation:
    return lambda image, strength: enhancer(image).enhance(1 + 0.9 * strength)


# The paper's list (section 3), with the ranges of AutoAugment's (Cubuk et al. 2019, arXiv:1805.09501, table 6). The
# strength is in [-1, 1]: the magnitude as a share of the largest, with a random sign. All grow with the magnitude, so
# that 0 changes nothing, as timm's "inc1" has it, with which the `rsb` recipes were found.
OPERATIONS: dict[str, Operation] = {
    "identity": lambda image, strength: image,
    "autocontrast": lambda image, strength: ImageOps.autocontrast(image),
    "equalize": lambda image, strength: ImageOps.equalize(image),
    "rotate": _rotated,  # up to 30 degrees
    "solarize": lambda image, strength: ImageOps.solarize(image, round(256 * (1 - abs(strength)))),
    "color": _enhanced(ImageEnhance.Color),
    "posterize": lambda image, strength: ImageOps.posterize(image, 8 - round(4 * abs(strength))),
    "contrast": _enhanced(ImageEnhance.Contrast),
    "brightness": _enhanced(ImageEnhance.Brightness),
    "sharpness": _enhanced(ImageEnhance.Sharpness),
    "shear-x": _moved(lambda strength, image: (1, 0.3 * strength, 0, 0, 1, 0)),
    "shear-y": _moved(lambda strength, image: (1, 0, 0, 0.3 * strength, 1, 0)),
    "translate-x": _moved(lambda strength, image: (1, 0, 0.45 * strength * image.width, 0, 1, 0)),
    "translate-y": _moved(lambda strength, image: (1, 0, 0, 0, 1, 0.45 * strength * image.height)),
}


def drawn(numbers: str, name: str) -> Callable[[Any, Any], Any]:
    """Returns RandAugment as a function of (image, key), for a `Policy`.

    Args:
        numbers: as timm writes them, such as "n2-m9-mstd0.5-p0.5": operations to an image, their magnitude out of 10,
            its standard deviation, and the probability of each. Default, as for the paper's ResNet-50: "n2-m9".
        name: what the user gave, for errors.

    Returns:
        A function of an image, float32 (height, width, 1 or 3), pixels 0 to 255, and its key, that returns the like.

    Raises:
        ValueError: if the numbers are not understood.

    Source: Cubuk et al. 2020, arXiv:1909.13719; each operation by Pillow, as the authors defined them.
    """
    fields = {"n": 2.0, "m": 9.0, "mstd": 0.0, "p": 1.0}
    for part in filter(None, numbers.split("-")):
        match = re.fullmatch(r"([a-z]+)(\d+(?:\.\d+)?)", part)
        checks.require(
            match and match[1] in fields, "RandAugment is written as 'randaugment-n2-m9-mstd0.5-p0.5'", augment=name
        )
        fields[match[1]] = float(match[2])
    checks.require(fields["m"] <= 10 and fields["p"] <= 1, "RandAugment's m is at most 10, p at most 1", augment=name)
    count = int(fields["n"])
    checks.require(count == fields["n"], "RandAugment's n is a whole number", augment=name)

    def augment(image: Any, key: Any) -> Any:
        import tensorflow as tf

        checks.require(
            image.shape[2] in (1, 3), "RandAugment is for images of 1 or 3 channels", channels=image.shape[2]
        )
        chosen = tf.random.stateless_uniform([count], fold(key, 20), 0, len(OPERATIONS), tf.int32)
        applied, signs = tf.unstack(tf.random.stateless_uniform([2, count], fold(key, 21)))
        magnitudes = fields["m"] + fields["mstd"] * tf.random.stateless_normal([count], fold(key, 22))
        strengths = tf.clip_by_value(magnitudes / 10, 0, 1) * tf.where(signs < 0.5, -1.0, 1.0)
        chosen = tf.where(applied < fields["p"], chosen, 0)  # the first is the identity
        pixels = tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8)
        pixels = tf.numpy_function(_apply, [pixels, chosen, strengths], tf.uint8, stateful=False)
        return tf.cast(tf.ensure_shape(pixels, image.shape), tf.float32)

    return augment


def _apply(pixels: np.ndarray, chosen: np.ndarray, strengths: np.ndarray) -> np.ndarray:
    """Applies operations in turn; each is given by its place in `OPERATIONS`."""
    operations = list(OPERATIONS.values())
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    for number, strength in zip(chosen.tolist(), strengths.tolist(), strict=True):
        image = operations[number](image, strength)
    return np.asarray(image).reshape(pixels.shape)
