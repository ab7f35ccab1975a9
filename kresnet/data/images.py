"""Decodes image files. A file that cannot be decoded raises an error that names it."""

from __future__ import annotations

import contextlib
import io
import os
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")

# Pillow opens forty more, by the bytes whatever the name, and runs Ghostscript for one of them.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")

# Decoding takes three bytes per pixel, and a file of a few kilobytes can unpack to gigabytes (a decompression bomb).
PIXEL_LIMIT = 100_000_000

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
