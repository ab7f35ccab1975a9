"""Decodes image files. A file that cannot be decoded raises an error that names it."""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")

# Pillow opens forty more, by the bytes whatever the name, and runs Ghostscript for one of them.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")

# Pillow's names, in upper case there.
INTERPOLATIONS = ("bilinear", "bicubic")

# Networks for images below this many pixels see the whole image, as on CIFAR; larger ones see a crop of a photograph.
SMALL = 64

# Decoding takes three bytes per pixel, and a file of a few kilobytes can unpack to gigabytes (a decompression bomb).
PIXEL_LIMIT = 100_000_000

# As TensorFlow weighs red, green and blue in a grey pixel.
_GREY = np.float32([[0.2989], [0.587], [0.114]])

# Bytes of a JPEG in which its Exif data begin, if there are any.
HEAD = 65536

# What a JPEG has in it that is not one picture, stored as it is to be shown, as regular expressions of RE2: the mark of
# the multi-picture format, or an entry of Exif data (tag, type, count, value, in either order of bytes) that may turn
# it. Other data look like that by chance, in few files. One expression of alternatives would take ten times as long.
MARKS = (
    "MPF",
    r"\x01\x12\x00(?:[\x01\x02\x04-\x0d]|\x03\x00\x00\x00(?:[^\x01]|\x01\x00[\x02-\x08]))",
    r"\x12\x01(?:[\x01\x02\x04-\x0d]\x00|\x03\x00(?:[^\x01]|\x01\x00\x00\x00[\x02-\x08]\x00))",
)

Box = tuple[int, int, int, int]  # top, left, height, width in pixels
Window = Callable[[int, int], Box]  # the box to cut out of an image of this height and width

# By Exif orientation: whether rows and columns are swapped, and whether rows then run upwards and columns leftwards.
_ORIENTATIONS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


# What all threads together decode at a time, in pixels: Pillow holds 4 bytes of each, and a copy is made.
_BUDGET, _left, _changed = PIXEL_LIMIT, PIXEL_LIMIT, threading.Condition()


class ImageError(ValueError):
    """A file cannot be decoded as an image. The message begins with the file's name."""


def shown(path: str | os.PathLike) -> str:
    """Returns a path to print: bytes of its name that are not UTF-8 become \\xNN."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def entire_image(height: int, width: int) -> Box:
    """Returns the window that covers the entire image."""
    return 0, 0, height, width


def central_share(size: int) -> float:
    """Returns the side of evaluation's central crop as a fraction of the image's shorter side, in (0, 1].

    Args:
        size: height and width of the network's input in pixels.
    """
    return 1.0 if size < SMALL else 0.875


def decode(
    data: bytes, name: str, window: Window = entire_image, target: int | None = None, pixel_limit: int = PIXEL_LIMIT
) -> np.ndarray:
    """Decodes a window of an image file, with its Exif orientation applied.

    Of a JPEG only the window is decoded, at a reduced resolution if `target` allows: a photograph of 12 million pixels
    costs little more than one of 1 million.

    Args:
        data: the file's bytes: JPEG, PNG, GIF (the first frame), BMP or WebP.
        name: the file's name, for errors.
        window: returns the part to decode, in the coordinates of the upright image, from its height and width in
            pixels.
        target: the window may be shrunk by an integer factor as long as its shorter side keeps this many pixels.
            Default: it is not shrunk.
        pixel_limit: an image of more pixels is refused before it is decoded.

    Returns:
        uint8 RGB of shape (height, width, 3), with white under transparent pixels.

    Raises:
        ImageError: if the file is not an image, is incomplete, or has too many pixels.
    """
    with _opened(data, name, pixel_limit) as image:
        width, height = image.size
        # Most JPEGs have no Exif data. It is at the beginning of the file, and searching is faster than parsing.
        may_be_turned = not _is_jpeg(image) or b"Exif" in data[:HEAD]
        transposed, upwards, leftwards = _orientation(image) if may_be_turned else _ORIENTATIONS[1]
        if transposed:
            height, width = width, height
        top, left, h, w = window(height, width)
        # From here on, the window in the rows and columns of the file.
        top = height - top - h if upwards else top
        left = width - left - w if leftwards else left
        box = (left, top, w, h) if transposed else (top, left, h, w)
        factor = max(1, min(h, w) // target) if target else 1
        if _is_plain_jpeg(image):
            with _within_budget(h * w):
                pixels = _decode_jpeg(data, box, factor)
        else:
            with _within_budget(width * height):
                pixels = _decode_other(image, box, factor)
    if transposed:
        pixels = pixels.transpose(1, 0, 2)
    return np.ascontiguousarray(pixels[:: -1 if upwards else 1, :: -1 if leftwards else 1])


def verify(data: bytes, name: str, pixel_limit: int = PIXEL_LIMIT) -> None:
    """Decodes an image file as `decode` does, but keeps nothing of it: a JPEG takes 1/64 of the memory.

    Args:
        data, name, pixel_limit: as for `decode`.

    Raises:
        ImageError: as `decode`.
    """
    with _opened(data, name, pixel_limit) as image:
        width, height = image.size
        if _is_plain_jpeg(image):
            with _within_budget(width * height // 64):
                _decode_jpeg(data, (0, 0, height, width), 8)
        else:
            with _within_budget(width * height):
                image.load()


@contextlib.contextmanager
def _opened(data: bytes, name: str, pixel_limit: int) -> Iterator[Any]:
    """Yields a file as a Pillow image, of which only the header is read; what goes wrong names the file."""
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise ImageError(f"{name}: the file is empty")
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            width, height = image.size
            if width * height > pixel_limit:
                raise ImageError(f"{name}: {width} x {height} pixels are more than the limit of {pixel_limit}")
            if _is_jpeg(image) and width * height > most_pixels(len(data)):
                raise ImageError(f"{name}: its header lies: {len(data)} bytes cannot hold {width} x {height} pixels")
            yield image
    except ImageError:
        raise
    except Image.DecompressionBombError as error:  # Pillow's own limit, which may be lower than ours
        raise ImageError(f"{name}: more pixels than Pillow opens: {error}") from None
    except UnidentifiedImageError:
        other = "; it is a HEIC or AVIF file under another name" if data[4:8] == b"ftyp" else ""
        raise ImageError(f"{name}: not a complete image: not JPEG, PNG, GIF, BMP or WebP{other}") from None
    except Exception as error:  # decoders raise almost any exception on broken files
        raise ImageError(f"{name}: not a complete image: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """Returns what a decoder says, without the names of TensorFlow's functions and the addresses of objects."""
    reason = str(error).split("[Op:")[0]
    reason = re.sub(r"\{\{.*?\}\}|<[^<>]* at 0x[0-9a-f]+>", "", reason)
    if "Uncompress failed" in reason:
        return "its data end early or are damaged"
    return " ".join(reason.split()) or type(error).__name__


def most_pixels(length: int) -> int:
    """Returns how many pixels a JPEG of so many bytes can hold: 8 x 8 take a bit at least, and more in most files."""
    return 8 * 64 * length


def _orientation(image: Any) -> tuple[bool, bool, bool]:
    return _ORIENTATIONS.get(image.getexif().get(0x0112), _ORIENTATIONS[1])


def _is_jpeg(image: Any) -> bool:
    return image.format == "JPEG"  # "MPO" has other pictures behind the first, such as a preview


def _is_plain_jpeg(image: Any) -> bool:
    return _is_jpeg(image) and image.mode in ("L", "RGB")


@contextlib.contextmanager
def _within_budget(pixels: int) -> Iterator[None]:
    """Waits until all threads together decode no more than `_BUDGET` pixels; one image may be larger by itself."""
    global _left
    pixels = min(pixels, _BUDGET)
    with _changed:
        _changed.wait_for(lambda: _left >= pixels)
        _left -= pixels
    try:
        yield
    finally:
        with _changed:
            _left += pixels
            _changed.notify_all()


def _decode_jpeg(data: bytes, box: Box, factor: int) -> np.ndarray:
    import tensorflow as tf

    ratio = max(r for r in (1, 2, 4, 8) if r <= factor)  # the JPEG decoder shrinks by these at almost no cost
    top, left, height, width = box
    if ratio > 1:
        pixels = tf.io.decode_jpeg(data, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE").numpy()
        return pixels[top // ratio : (top + height) // ratio, left // ratio : (left + width) // ratio]
    return tf.io.decode_and_crop_jpeg(data, box, channels=3, dct_method="INTEGER_ACCURATE").numpy()


def _decode_other(image, box: Box, factor: int) -> np.ndarray:
    from PIL import Image

    top, left, height, width = box
    if image.mode.startswith("I"):  # 16 bits per pixel: Pillow would clip values above 255
        values = np.asarray(image.convert("I"))
        if "transparency" in image.info:
            values = np.where(values == image.info["transparency"], 65535, values)
        image = Image.fromarray(np.clip(values // 256, 0, 255).astype("uint8"))
    corners = (left, top, left + width, top + height)
    if factor > 1 and image.mode in ("L", "RGB") and "transparency" not in image.info:
        return np.asarray(over_white(image.reduce(factor, corners)))  # whole copies of large images fill memory
    image = over_white(image if corners == (0, 0, *image.size) else image.crop(corners))
    return np.asarray(image.reduce(factor) if factor > 1 else image)


def over_white(image):
    """Returns a Pillow image as RGB, with white under what is transparent, as pages show it.

    What lies under transparent pixels is whatever their editor left there, often black.
    """
    from PIL import Image

    if image.mode not in ("RGBA", "LA", "PA") and "transparency" not in image.info:
        return image if image.mode == "RGB" else image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


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
