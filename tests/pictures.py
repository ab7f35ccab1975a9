"""Image files for tests. Any crop shows the class of a picture, and the whole picture shows which way is up."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"blue": (20, 40, 200), "green": (30, 180, 40), "red": (210, 30, 30)}


def picture(colour, height=48, width=64, seed=0):
    """Returns a noisy colour. Its upper half is darker and its left quarter brighter, so that all turns differ."""
    noise = np.random.default_rng(seed).integers(-20, 20, (height, width, 1))
    pixels = np.array(COLOURS[colour]) + noise
    pixels[: height // 2] -= 40
    pixels[:, : width // 4] += 60
    return np.clip(pixels, 0, 255).astype("uint8")


def encoded(pixels, kind="jpeg", **options):
    """Returns the bytes of an image file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def write_folder(folder: Path, count=6, kinds=("jpeg", "png", "webp", "bmp", "gif")):
    """Writes `count` pictures per colour, of several formats and sizes, into one subfolder per colour."""
    for name in COLOURS:
        (folder / name).mkdir(parents=True)
        for i in range(count):
            kind = kinds[i % len(kinds)]
            options = {"quality": 95} if kind == "jpeg" else {"lossless": True} if kind == "webp" else {}
            suffix = "jpg" if kind == "jpeg" else kind
            (folder / name / f"{i}.{suffix}").write_bytes(encoded(picture(name, 48 + i, 64 + i, i), kind, **options))
    return folder
