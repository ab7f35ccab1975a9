"""Decoding image files: upright pixels, or an error that names the file."""

import concurrent.futures
import io
import re
import struct
import threading
import time
import tracemalloc

import numpy as np
import pytest
from pictures import encoded, picture
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_image

from kresnet.data import images, resizing


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(kind, orientation):
    """Whole images and windows in all orientations, against Pillow's `exif_transpose`."""
    stored = picture("red", 40, 56)
    data = encoded(stored, kind, exif=exif(orientation))
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))).astype(int)
    np.testing.assert_allclose(images.decode(data, "x"), upright, atol=2)
    part = images.decode(data, "x", lambda height, width: (3, 5, 17, 11))
    assert part.shape == (17, 11, 3)
    np.testing.assert_allclose(part, upright[3:20, 5:16], atol=4)  # colours are interpolated across the edge


def test_large_images_shrink_while_decoding():
    pixels = picture("green", 640, 960)
    for kind in ("jpeg", "png"):
        shrunk = images.decode(encoded(pixels, kind), "x", target=100)
        assert 100 <= min(shrunk.shape[:2]) <= 200
        whole = images.decode(encoded(pixels, kind), "x")
        np.testing.assert_allclose(shrunk.mean((0, 1)), whole.mean((0, 1)), atol=1)
    grey = pixels[..., 1]
    part = images.decode(encoded(grey, "png"), "x", lambda height, width: (7, 3, 301, 404), target=100)
    expected = Image.fromarray(grey).crop((3, 7, 407, 308)).reduce(3)
    np.testing.assert_array_equal(part, np.asarray(expected.convert("RGB")))


def photograph(kind):
    """Returns scikit-learn's photograph of a temple, 427 x 640 pixels, and what the kind makes of it."""
    pixels = load_sample_image("china.jpg")
    portrait, tiny = pixels.transpose(1, 0, 2), pixels[100:163, 50:140]
    return np.ascontiguousarray({"landscape": pixels, "portrait": portrait, "tiny": tiny}[kind])


@pytest.mark.parametrize("interpolation", resizing.INTERPOLATIONS)
@pytest.mark.parametrize(
    ("kind", "fraction", "resized", "corner"),  # by hand: width and height, left and top
    [
        ("landscape", 0.875, (383, 256), (80, 16)),
        ("landscape", 0.95, (352, 235), (64, 6)),
        ("landscape", 1.0, (335, 224), (56, 0)),
        ("landscape", 224 / 232, (347, 232), (62, 4)),  # halves are rounded to even
        ("portrait", 0.95, (235, 352), (6, 64)),
        ("tiny", 0.875, (365, 256), (70, 16)),
    ],
)
def test_resize_and_crop(kind, fraction, resized, corner, interpolation):
    """Against Pillow, called as torchvision's Resize and CenterCrop call it."""
    pixels = photograph(kind)
    (left, top), resample = corner, {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}[interpolation]
    expected = Image.fromarray(pixels).resize(resized, resample).crop((left, top, left + 224, top + 224))
    cropped = resizing.resize_and_crop(pixels, 224, fraction, interpolation)
    np.testing.assert_array_equal(cropped, expected)
    grey = resizing.resize_and_crop(pixels[:, :, 1:2], 224, fraction, interpolation)
    np.testing.assert_array_equal(grey, cropped[:, :, 1:2])
    four = resizing.resize_and_crop(np.dstack([pixels, pixels[:, :, :1]]), 224, fraction, interpolation)
    np.testing.assert_array_equal(four, np.dstack([cropped, cropped[:, :, :1]]))  # the fourth is not opacity


def test_resize_and_crop_of_extreme_images():
    """A strip never grows to its shorter side's size: 256 x 76800 000 pixels here."""
    strip = np.repeat(np.arange(300_000) // 1200, 3).reshape(1, -1, 3).astype("uint8")
    cropped = resizing.resize_and_crop(strip, 224, 0.875, "bicubic")
    assert cropped.shape == (224, 224, 3)
    assert (cropped[:, :100] == 124).all()  # the middle lies between two pixels
    assert (cropped[:, 124:] == 125).all()
    one = resizing.resize_and_crop(np.full((1, 1, 3), 9, "uint8"), 224, 0.875, "bicubic")
    np.testing.assert_array_equal(one, 9 * np.ones((224, 224, 3)))


def test_modes():
    grey = np.arange(64, dtype="uint8").reshape(8, 8)
    assert (images.decode(encoded(grey, "png"), "x") == grey[..., None]).all()
    deep = (grey.astype("uint16") * 256) + 7
    assert (images.decode(encoded(deep, "png"), "x") == grey[..., None]).all()
    cmyk = Image.fromarray(picture("red", 16, 16)).convert("CMYK")
    file = io.BytesIO()
    cmyk.save(file, "jpeg", quality=95)
    assert np.abs(images.decode(file.getvalue(), "x").astype(int) - picture("red", 16, 16)).mean() < 12


def transparent(mode):
    """Returns the bytes of a PNG whose left half is opaque and whose right one is transparent, over black."""
    grey = np.full((8, 8), 90, "uint8")
    grey[:, 4:] = 0
    alpha = np.where(grey == 90, 255, 0).astype("uint8")
    options = {}
    if mode == "RGBA":
        image = Image.fromarray(np.dstack([grey, grey, grey, alpha]))
    elif mode == "LA":
        image = Image.fromarray(np.dstack([grey, alpha]), "LA")
    elif mode == "I;16":
        image, options = Image.fromarray(grey.astype("uint16") * 256), {"transparency": 0}
    else:
        image, options = Image.fromarray(grey).convert(mode), {"transparency": (0, 0, 0) if mode == "RGB" else 0}
        if mode == "P":
            image.info["transparency"] = options["transparency"] = image.getpixel((7, 0))
    file = io.BytesIO()
    image.save(file, "png", **options)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "L", "I;16"])
def test_white_lies_under_what_is_transparent(mode):
    pixels = images.decode(transparent(mode), "x")
    assert (pixels[:, :4] == 90).all()
    assert (pixels[:, 4:] == 255).all()
    part = images.decode(transparent(mode), "x", lambda height, width: (0, 2, 8, 6), target=3)
    np.testing.assert_array_equal(part[0, :, 0], [90, 255, 255])


def test_what_is_half_transparent_is_mixed_with_white():
    half = np.dstack([picture("blue", 8, 8), np.full((8, 8), 128, "uint8")])
    expected = 255 + (half[..., :3].astype(float) - 255) * 128 / 255
    np.testing.assert_allclose(images.decode(encoded(half, "png"), "x"), expected, atol=1)


WHOLE = encoded(picture("red"))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (WHOLE[: len(WHOLE) // 2], "not a complete image"),
        (encoded(picture("red"), "png")[:-40], "not a complete image"),
        (b"hello, this is a text", "not a complete image"),
        (encoded(np.zeros((300, 300), "uint8"), "png"), "300 x 300 pixels are more than the limit of 50000"),
    ],
)
def test_broken_files_are_named(data, reason):
    with pytest.raises(images.ImageError, match=f"^cat/1.jpg: .*{reason}"):
        images.decode(data, "cat/1.jpg", pixel_limit=50_000)


def test_the_pixel_limit_comes_before_decoding():
    """A small file of 100 million pixels never takes 300 MB of memory."""
    bomb = encoded(np.zeros((10_000, 10_000), "uint8"), "png")
    tracemalloc.start()
    with pytest.raises(images.ImageError, match="more than the limit"):
        images.decode(bomb, "bomb.png", pixel_limit=10**7)
    assert tracemalloc.get_traced_memory()[1] < 10**7
    tracemalloc.stop()


def test_messages_hold_no_addresses_and_no_functions_of_tensorflow_s():
    cut = bytes(encoded(picture("red"))[:-200])
    for data in (b"no image", cut, encoded(picture("red"), "webp")[:-60], encoded(picture("red"), "gif")[:-60]):
        for read in (images.decode, images.verify):
            with pytest.raises(images.ImageError, match=r"^a\.jpg: not a complete image: \w") as caught:
                read(data, "a.jpg")
            assert not re.search(r"0x|function_node|\{\{|\n", str(caught.value))
    with pytest.raises(images.ImageError, match="HEIC or AVIF"):
        images.decode(b"\0\0\0\x18ftypheic" + bytes(40), "a.jpg")


def test_other_formats_are_refused_whatever_their_names():
    """Pillow knows them, and runs Ghostscript for PostScript."""
    for kind in ("tiff", "ppm", "eps"):
        with pytest.raises(images.ImageError, match=r"^a\.jpg: not a complete image: not JPEG, PNG, GIF, BMP or WebP"):
            images.decode(encoded(picture("red"), kind), "a.jpg")
    several = io.BytesIO()  # as some cameras write JPEGs, with a preview behind
    preview = Image.fromarray(picture("red", 24, 32))
    Image.fromarray(picture("red")).save(several, "mpo", save_all=True, append_images=[preview], quality=95)
    assert np.abs(images.decode(several.getvalue(), "a.jpg").astype(int) - picture("red")).mean() < 8


def test_a_jpeg_whose_header_lies_is_refused():
    data = bytearray(WHOLE)
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", 9990, 9990)
    for read in (images.decode, images.verify):
        with pytest.raises(images.ImageError, match=r"^a: its header lies: \d+ bytes cannot hold 9990 x 9990 pixels"):
            read(bytes(data), "a")
    blank = encoded(np.zeros((4096, 4096), "uint8"), "jpeg", quality=1, optimize=True)  # as small as an honest one gets
    images.verify(blank, "a")


def test_threads_share_a_budget_of_pixels(monkeypatch):
    monkeypatch.setattr(images, "_BUDGET", 10_000)
    monkeypatch.setattr(images, "_left", 10_000)
    held, most, lock = 0, 0, threading.Lock()

    def decode(number):
        nonlocal held, most
        with images._within_budget(4000 if number else 1_000_000):  # the first alone is more than all
            with lock:
                held += 1 if number else 2
                most = max(most, held)
            time.sleep(0.002)
            with lock:
                held -= 1 if number else 2

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(decode, range(40)))
    assert most == 2
    assert images._left == 10_000


def test_verify_keeps_little_of_a_jpeg():
    photo = encoded(np.zeros((3000, 4000, 3), "uint8"), "jpeg")
    images.verify(photo, "warm")
    tracemalloc.start()
    images.verify(photo, "a")
    assert tracemalloc.get_traced_memory()[1] < 3e6
    tracemalloc.stop()


@pytest.mark.parametrize("shape", [(31, 45), (100, 64), (7, 7), (224, 224)])
def test_resizing_is_tensorflow_s_bit_for_bit(shape):
    import tensorflow as tf

    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), "uint8")
    for size in (32, 224, (65, 20)):
        expected = tf.image.resize(pixels, (size, size) if isinstance(size, int) else size)
        for channels, theirs in ((3, expected), (1, tf.image.rgb_to_grayscale(expected))):
            found, theirs = resizing.resize(pixels, size, channels), tf.cast(tf.round(theirs), tf.uint8).numpy()
            difference = np.abs(found.astype(int) - theirs)
            # Whether a weighted sum of three is rounded once or twice is the processor's: a tie may go either way.
            assert difference.max() <= (channels == 1)
            assert difference.mean() < 1e-4
