"""Decodes healthy JPEGs inside tf.data's graph, where no thread waits for Python; other files it leaves to Python."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from kresnet.data import images
from kresnet.data.augment import Policy

# Files that are no JPEGs have this header of one pixel instead: looking at one must not fail.
_NONE = bytes.fromhex("ffd8 ffdb004300" + "01" * 64 + "ffc0000b080001000101011100 ffda0008010100003f00 ffd9")


def decoder(policy: Policy, size: int, pixel_limit: int, in_python: Callable[[Any, Any], Any]) -> Any:
    """Returns a function to be traced, which decodes files to the same pixels as `images.decode`.

    It decodes grey and RGB JPEGs that are upright, unless they are so large that they would be decoded at a reduced
    resolution, or that a thread should wait for others: of such Python's share is small. What fails in the graph names
    no file.

    TensorFlow prepares each operation anew for every epoch, at 0.2 to 2 ms, and a branch at 6: hence a single one.

    Args:
        policy: its window is decoded; all of an image, if the policy takes it whole.
        size: height and width in pixels of what a window is resized to.
        pixel_limit: images of more pixels are left to `in_python`, which refuses them.
        in_python: takes and returns what the function does, for all other files.

    Returns:
        A function of a file's bytes and the image's key. It returns uint8 RGB, (height, width, 3).
    """
    import tensorflow as tf

    # Of each thread, if all decode as large images at a time.
    limit = min(pixel_limit, images.PIXEL_LIMIT // (os.cpu_count() or 1))

    def decode(data: Any, key: Any) -> Any:
        is_jpeg = tf.strings.substr(data, 0, 3) == b"\xff\xd8\xff"
        shape = tf.io.extract_jpeg_shape(tf.where(is_jpeg, data, _NONE))
        height, width, channels = tf.unstack(shape)
        box = tf.stack(images.entire_image(height, width) if policy.whole else policy.window(height, width, key))
        unmarked, length = data, tf.strings.length(data)
        for mark in images.MARKS:
            unmarked = tf.strings.regex_replace(unmarked, mark, "", replace_global=False)
        plain = is_jpeg & (channels != 4) & (tf.strings.length(unmarked) == length)
        most = tf.minimum(images.most_pixels(tf.cast(length, tf.int64)), limit)
        plain &= tf.reduce_prod(tf.cast(shape[:2], tf.int64)) <= most
        if not policy.whole:
            plain &= tf.reduce_min(box[2:]) < 2 * size

        def in_graph() -> Any:
            pixels = tf.io.decode_and_crop_jpeg(data, box, channels=3, dct_method="INTEGER_ACCURATE")
            return tf.numpy_function(policy.whole, [pixels], tf.uint8, stateful=False) if policy.whole else pixels

        return tf.cond(plain, in_graph, lambda: in_python(data, key))

    return decode
