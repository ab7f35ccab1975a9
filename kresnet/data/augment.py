"""Augmentation: named policies, each a window of the image and functions of its pixels.

Every draw depends only on a key, made of the seed, the epoch and the image's index: it is the same in whatever order
parallel threads work, differs from epoch to epoch, and repeats when a run resumes.
"""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from kresnet import checks
from kresnet.data import rand_augment
from kresnet.data.draws import Seeds, fold, keyed
from kresnet.data.resizing import INTERPOLATIONS, SMALL, central_share, resize_and_crop
from kresnet.graph.seeds import draw_from
from kresnet.layers.pixels import CIFAR, IMAGENET

POLICIES = ("flip-crop", "cifar", "inception", "randaugment", "augmix", "cutout", "gridmask")

# Of ImageNet's RGB values in [0, 1]: Krizhevsky et al. 2012, section 4.1; numbers from facebookarchive/fb.resnet.torch.
PCA_VALUES = (0.2175, 0.0188, 0.0045)
PCA_VECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))

# Keras's AugMix chooses its chain of operations in Python, once for each traced function. This many chains are traced,
# and one of them is drawn for each image.
AUGMIX_CHAINS = 8


@dataclasses.dataclass(frozen=True)
class Policy:
    """What happens to an image of any size on its way to (size, size).

    Attributes:
        window: function of (height, width, key) that returns the part to resize, (top, left, height, width) in pixels.
        pixels: functions of (image, key), applied in turn after the resizing, from float32 pixels, 0 to 255, to the
            same.
        whole: where it is set, it takes the place of the window and the resizing: a function from a whole image, uint8
            (height, width, channels), to (size, size, channels), both NumPy arrays.
    """

    window: Callable[[Any, Any, Any], Any]
    pixels: tuple[Callable[[Any, Any], Any], ...] = ()
    whole: Callable[[np.ndarray], np.ndarray] | None = None


def policy(
    name: str | None,
    size: int,
    crop_fraction: float | None = None,
    flip: bool = True,
    interpolation: str | None = None,
) -> Policy:
    """Returns a policy by its name.

    Args:
        name: one of `POLICIES`, or None for the central crop of evaluation. "randaugment" takes its numbers as timm
            writes them: "randaugment-n2-m7-mstd0.5-p0.5" is 2 operations of magnitude 7 out of 10, with a standard
            deviation of 0.5, each applied with probability 0.5.
        size: height and width of the result in pixels.
        crop_fraction: for evaluation: the central crop's side as a share of the image's shorter side, in (0, 1].
            Default: 0.875, which is 224 pixels of 256, and 1 for sizes below 64.
        flip: whether the policy may mirror images; it should not mirror characters.
        interpolation: for evaluation: None resizes the crop bilinearly, as training does; "bilinear" and "bicubic"
            resize the image and crop it then, as `resize_and_crop` does.

    Raises:
        ValueError: if there is no such policy or interpolation, or a policy that augments is given an interpolation.
    """
    small = size < SMALL
    checks.choice("interpolation", interpolation, (None, *INTERPOLATIONS))
    checks.require(
        name is None or interpolation is None,
        "`interpolation` is for images that are not augmented",
        interpolation=interpolation,
        augment=name,
    )
    if name is None:
        fraction = crop_fraction or central_share(size)
        settings = {"size": size, "crop_fraction": fraction, "interpolation": interpolation}
        whole = functools.partial(resize_and_crop, **settings) if interpolation else None
        return Policy(lambda height, width, key: _centre(height, width, fraction), whole=whole)
    base, numbers = name.split("-", 1) if str(name).startswith("randaugment-") else (name, "")
    checks.choice("augment", base, (*POLICIES, None))
    flips = (_flip,) if flip else ()
    basic = (_pad_crop, *flips) if small else flips
    window = _whole if small else _distorted
    if base == "cifar":
        return Policy(_whole, (_pad_crop, *flips))
    if base == "flip-crop":
        return Policy(lambda height, width, key: _scale_jitter(height, width, size, key), (*flips, _pca_colour))
    if base == "inception":
        return Policy(_distorted, (*flips, _colour))
    if base == "randaugment":
        return Policy(window, (*basic, rand_augment.drawn(numbers, name)))
    last = {"augmix": _aug_mix, "cutout": lambda: _cutout, "gridmask": _grid_mask}[base]()
    return Policy(window, (*basic, last))


def mixer(mixup: float, cutmix: float) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    """Returns a function that mixes the images of a batch, and their labels, by MixUp or CutMix.

    Args:
        mixup, cutmix: alpha of the Beta distribution of the shares; 0 switches a method off. With both on, each batch
            gets one or the other with equal probability.

    Returns:
        A function of uint8 images (batch, height, width, channels), one-hot labels (batch, classes) and the batch's
        key. It returns such images, and labels as float32 shares.

    Source: Zhang et al. 2018, arXiv:1710.09412; Yun et al. 2019, arXiv:1905.04899; both by Keras.
    """
    import tensorflow as tf

    layers = [keras.layers.MixUp(mixup, dtype="float32")] if mixup else []
    layers += [keras.layers.CutMix((cutmix, cutmix), dtype="float32")] if cutmix else []

    def by(layer: keras.layers.Layer, images: Any, labels: Any, key: Any) -> Any:
        draw_from(layer, Seeds(key))
        return layer({"images": images, "labels": labels})

    def mix(images: Any, labels: Any, key: Any) -> tuple[Any, Any]:
        images = tf.cast(images, tf.float32)
        methods = [functools.partial(by, layer, images, labels, key) for layer in layers]
        if len(methods) == 1:
            mixed = methods[0]()
        else:
            mixed = tf.cond(tf.random.stateless_uniform([], fold(key, 99)) < 0.5, *methods)
        return to_uint8(tf.ensure_shape(mixed["images"], images.shape)), tf.ensure_shape(mixed["labels"], labels.shape)

    return mix


def to_uint8(images: Any) -> Any:
    """Rounds pixels to what an image file can hold."""
    import tensorflow as tf

    return tf.cast(tf.clip_by_value(tf.round(images), 0, 255), tf.uint8)


# Windows


def _whole(height: Any, width: Any, key: Any) -> Any:
    return 0, 0, height, width


def _centre(height: Any, width: Any, fraction: float) -> Any:
    import tensorflow as tf

    side = tf.cast(tf.round(fraction * tf.cast(tf.minimum(height, width), tf.float32)), tf.int32)
    return (height - side) // 2, (width - side) // 2, side, side


def _scale_jitter(height: Any, width: Any, size: int, key: Any) -> Any:
    """The shorter side is resized to 256 to 480 pixels, and a crop of 224 is taken anywhere (He et al. 2015,
    arXiv:1512.03385, section 3.4); other sizes are in proportion."""
    import tensorflow as tf

    shorter = tf.random.stateless_uniform([], fold(key, 1), 256, 481, tf.int32)
    side = tf.cast(
        tf.round(tf.cast(tf.minimum(height, width) * 224, tf.float32) / tf.cast(shorter, tf.float32)), "int32"
    )
    side = tf.maximum(side, 1)
    top = tf.random.stateless_uniform([], fold(key, 2), 0, height - side + 1, tf.int32)
    left = tf.random.stateless_uniform([], fold(key, 3), 0, width - side + 1, tf.int32)
    return top, left, side, side


def _distorted(height: Any, width: Any, key: Any) -> Any:
    """8 to 100 % of the area, sides at a ratio of 3/4 to 4/3 (Szegedy et al. 2015, arXiv:1409.4842, section 6)."""
    import tensorflow as tf

    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.stack([height, width, 3]),
        tf.constant([0.0, 0.0, 1.0, 1.0], shape=[1, 1, 4]),
        seed=key,
        min_object_covered=0.0,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(0.08, 1.0),
        max_attempts=10,
    )
    return begin[0], begin[1], extent[0], extent[1]


# Pixels


def _flip(image: Any, key: Any) -> Any:
    import tensorflow as tf

    return tf.image.stateless_random_flip_left_right(image, fold(key, 4))


def _pad_crop(image: Any, key: Any) -> Any:
    """Pads an eighth on every side (4 pixels of 32) and crops anywhere (He et al. 2015, section 4.2).

    The paper pads after subtracting the mean, that is, with the mean colour. Images without 3 channels get black.
    """
    import tensorflow as tf

    size, channels = image.shape[0], image.shape[2]
    fill = [round(255 * m) for m in CIFAR["mean"]] if channels == 3 else [0] * channels
    border = round(size / 8)
    padded = tf.pad(image - fill, [[border, border], [border, border], [0, 0]]) + fill
    return tf.image.stateless_random_crop(padded, image.shape, fold(key, 5))


def _pca_shift(key: Any) -> Any:
    """Draws a random mixture of the principal components of ImageNet's colours, in units of pixels, (3,)."""
    import tensorflow as tf

    alpha = 0.1 * tf.random.stateless_normal([3], fold(key, 6)) * tf.constant(PCA_VALUES)
    return 255 * tf.linalg.matvec(tf.constant(PCA_VECTORS), alpha)


def _pca_colour(image: Any, key: Any) -> Any:
    """Krizhevsky et al. 2012, section 4.1; for RGB images only."""
    import tensorflow as tf

    height, width, channels = image.shape
    if channels != 3:
        return image
    row = tf.tile(_pca_shift(key), [width])  # along rows three times as fast as along the three channels
    return tf.reshape(tf.reshape(image, (height, width * channels)) + row, image.shape)


def _colour(image: Any, key: Any) -> Any:
    """Scales brightness, contrast and saturation by 0.6 to 1.4 and shifts colours as `_pca_colour` does.

    This is facebookarchive's fb.resnet.torch, with which ResNeXt was trained. Its random order of the three does not
    matter, since without clipping they commute.
    """
    import tensorflow as tf

    height, width, channels = image.shape
    grey = tf.constant([0.299, 0.587, 0.114] if channels == 3 else [1 / channels] * channels)
    brightness, contrast, saturation = tf.unstack(tf.random.stateless_uniform([3], fold(key, 7), 0.6, 1.4))
    rows = tf.reshape(image, (height, width * channels))  # ten times as fast as reducing the image along its long side
    mean = tf.tensordot(tf.reduce_mean(tf.reshape(tf.reduce_mean(rows, 0), (width, channels)), 0), grey, 1)
    to_grey = tf.ones_like(grey)[:, None] * grey
    matrix = brightness * contrast * (saturation * tf.eye(channels) + (1 - saturation) * to_grey)
    shift = brightness * (1 - contrast) * mean + (_pca_shift(key) if channels == 3 else tf.zeros(channels))
    mixed = tf.nn.conv2d(image[None], tf.transpose(matrix)[None, None], 1, "SAME")
    return tf.nn.bias_add(mixed, shift)[0]


def _cutout(image: Any, key: Any) -> Any:
    """A grey square of half the image's side, whose centre is any pixel: the border may cut it (DeVries and Taylor
    2017, arXiv:1708.04552, section 3, which found that to matter; Keras's RandomErasing stays inside)."""
    import tensorflow as tf

    height, width = image.shape[:2]
    side, grey = min(height, width) // 2, 255 * sum(IMAGENET["mean"]) / 3

    def inside(number: int, length: int) -> Any:
        first = tf.random.stateless_uniform([], fold(key, number), 0, length, tf.int32) - side // 2
        places = tf.range(length)
        return (places >= first) & (places < first + side)

    square = inside(8, height)[:, None, None] & inside(9, width)[None, :, None]
    return tf.where(square, grey, image)


def _grid_mask() -> Callable[[Any, Any], Any]:
    """A grid of black squares, turned by up to 54 degrees (Chen et al. 2020, arXiv:2001.04086), by keras-cv."""
    try:
        import keras_cv
    except ImportError as error:
        raise ImportError("`augment='gridmask'` is keras-cv's: pip install 'kresnet[augment]'") from error

    def augment(image: Any, key: Any) -> Any:
        with keyed(key):
            return keras_cv.layers.GridMask()(image)

    return augment


def _aug_mix() -> Callable[[Any, Any], Any]:
    """Hendrycks et al. 2020, arXiv:1912.02781, without its consistency loss; by Keras."""
    import tensorflow as tf

    layer = keras.layers.AugMix((0, 255), dtype="float32")

    def augment(image: Any, key: Any) -> Any:
        checks.require(image.shape[2] == 3, "AugMix is for images of 3 channels", channels=image.shape[2])
        draw_from(layer, Seeds(key))
        drawn = tf.random.stateless_uniform([], fold(key, 11), 0, AUGMIX_CHAINS, tf.int32)
        chains = [functools.partial(chain, image, number) for number in range(AUGMIX_CHAINS)]
        return tf.ensure_shape(tf.switch_case(drawn, chains), image.shape)

    def chain(image: Any, number: int) -> Any:
        state = random.getstate()
        random.seed(number)
        try:
            return layer(image)
        finally:
            random.setstate(state)

    return augment
