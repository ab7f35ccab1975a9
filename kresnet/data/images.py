"""Decodes image files. A file that cannot be decoded raises an error that names it."""

from __future__ import annotations

import concurrent.futures
import io
import math
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")

# Pillow's names, in upper case there.
INTERPOLATIONS = ("bilinear", "bicubic")

# Networks for images below this many pixels see the whole image, as on CIFAR; larger ones see a crop of a photograph.
SMALL = 64

# Decoding takes three bytes per pixel, and a file of a few kilobytes can unpack to gigabytes (a decompression bomb).
PIXEL_LIMIT = 100_000_000

# As TensorFlow weighs red, green and blue in a grey pixel.
_GREY = np.float32([[0.2989], [0.587], [0.114]])

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


class ImageError(ValueError):
    """A file cannot be decoded as an image. The message begins with the file's name."""


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
    from PIL import Image

    if not data:
        raise ImageError(f"{name}: the file is empty")
    try:
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            if width * height > pixel_limit:
                raise ImageError(f"{name}: {width} x {height} pixels are more than the limit of {pixel_limit}")
            # Most JPEGs have no Exif data. It is at the beginning of the file, and searching is faster than parsing.
            may_be_turned = image.format != "JPEG" or b"Exif" in data[:65536]
            orientation = image.getexif().get(0x0112) if may_be_turned else 1
            transposed, upwards, leftwards = _ORIENTATIONS.get(orientation, _ORIENTATIONS[1])
            if transposed:
                height, width = width, height
            top, left, h, w = window(height, width)
            # From here on, the window in the rows and columns of the file.
            top = height - top - h if upwards else top
            left = width - left - w if leftwards else left
            box = (left, top, w, h) if transposed else (top, left, h, w)
            factor = max(1, min(h, w) // target) if target else 1
            jpeg = image.format == "JPEG" and image.mode in ("L", "RGB")
            pixels = _decode_jpeg(data, box, factor) if jpeg else _decode_other(image, box, factor)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:  # Pillow's own limit, which may be lower than ours
        raise ImageError(f"{name}: more pixels than Pillow opens: {error}") from None
    except Exception as error:  # decoders raise almost any exception on broken files
        reason = str(error).split("[Op:")[0].strip()
        raise ImageError(f"{name}: not a complete image: {reason or type(error).__name__}") from None
    if transposed:
        pixels = pixels.transpose(1, 0, 2)
    return np.ascontiguousarray(pixels[:: -1 if upwards else 1, :: -1 if leftwards else 1])


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
    image = over_white(image.crop((left, top, left + width, top + height)))
    return np.asarray(image.reduce(factor) if factor > 1 else image)


def over_white(image):
    """Returns a Pillow image as RGB, with white under what is transparent, as pages show it.

    What lies under transparent pixels is whatever their editor left there, often black.
    """
    from PIL import Image

    if image.mode not in ("RGBA", "LA", "PA") and "transparency" not in image.info:
        return image.convert("RGB")
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


def class_folders(folder: str | os.PathLike) -> dict[str, list[Path]]:
    """Returns the files in each class folder, sorted, images or not. Names that begin with a dot are left out.

    Raises:
        ValueError: if there is no such folder, or it holds no folders.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"There is no such folder. Received: {str(folder)!r}")
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not classes:
        raise ValueError(f"A folder of images must hold one folder for each class. Received: {str(folder)!r}")
    return {entry.name: list(_files(entry)) for entry in classes}


def _files(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _files(entry)
        else:
            yield entry


def expanded(paths: Iterable[str | os.PathLike]) -> list[str]:
    """Returns the paths, with the images in a folder and in the folders within it, sorted, in its place.

    Raises:
        ValueError: if a folder holds no image.
    """
    found = []
    for path in map(Path, paths):
        files = [file for file in _files(path) if is_image(file)] if path.is_dir() else [path]
        if not files:
            raise ValueError(f"There is no image ({', '.join(SUFFIXES)}) in the folder. Received: {str(path)!r}")
        found += map(str, files)
    return found


def check(folder: str | os.PathLike, pixel_limit: int = PIXEL_LIMIT) -> tuple[int, list[str]]:
    """Reads and decodes every file in a folder of images.

    Args:
        folder: holds one subfolder per class, or "train", "validation" and "test" folders of that form.
        pixel_limit: an image of more pixels is not decoded, and counts as a problem.

    Returns:
        The number of files that decode, and a line for each problem: the path, and what is wrong with it.

    Raises:
        ValueError: if there is no such folder, or it holds no class folders.
    """
    from kresnet.progress import track

    splits = split_folders(folder)
    listed = [(path, files) for split in splits.values() for path, files in class_folders(split).items()]
    problems = [f"{name}: no image in this class" for name, files in listed if not any(map(is_image, files))]
    paths = [path for _, files in listed for path in files]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        results = pool.map(lambda path: _problem(path, pixel_limit), paths)
        found = [p for p in track(results, "Reading", total=len(paths)) if p]
    return len(paths) - len(found), problems + found


def is_image(path: Path) -> bool:
    """Tells whether a file has the suffix of an image."""
    return path.suffix.lower() in SUFFIXES


def _problem(path: Path, pixel_limit: int) -> str | None:
    if not path.exists():
        return f"{path}: a broken link" if path.is_symlink() else f"{path}: no longer there"
    if not is_image(path):
        return f"{path}: not the name of an image ({', '.join(SUFFIXES)}); training ignores it"
    try:
        decode(path.read_bytes(), str(path), pixel_limit=pixel_limit)
    except (ImageError, OSError) as error:
        return str(error)
    return None


def split_folders(folder: str | os.PathLike) -> dict[str, Path]:
    """Returns the folders of the splits by name: "train", and "validation" and "test" if they exist.

    Case is ignored, and "val" and "valid" count as "validation". A folder without splits gives {"": folder}.

    Raises:
        ValueError: if there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"There is no such folder. Received: {str(folder)!r}")
    names = {"train": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}
    found = {names[entry.name.lower()]: entry for entry in sorted(folder.iterdir()) if entry.name.lower() in names}
    found = {split: found[split] for split in ("train", "validation", "test") if split in found}
    return found if "train" in found and all(entry.is_dir() for entry in found.values()) else {"": folder}
