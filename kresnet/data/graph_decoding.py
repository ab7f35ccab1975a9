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

    It decodes grey and RGB JPEGs that are upright, and not so large that a thread should wait for others. What fails
    in the graph names no file.

    Args:
        policy: its window is decoded; all of an image, if the policy takes it whole.
        size: height and width in pixels of what a window is resized to.
        pixel_limit: images of more pixels are left to `in_python`, which refuses them.
        in_python: takes and returns what the function does, for all other files.

    Returns:
        A function of a file's bytes and the image's key. It returns uint8 RGB, (height, width, 3).
    """
    import tensorflow as tf

    steps = 0 if policy.whole else 3  # how often the JPEG decoder may halve, which costs it almost nothing
    share = images.PIXEL_LIMIT // (os.cpu_count() or 1)  # of each thread, if all decode as large images at a time
    how = {"channels": 3, "dct_method": "INTEGER_ACCURATE"}

    def at_full_size(data: Any, box: Any) -> Any:
        pixels = tf.io.decode_and_crop_jpeg(data, box, **how)
        return tf.numpy_function(policy.whole, [pixels], tf.uint8, stateful=False) if policy.whole else pixels

    def decode(data: Any, key: Any) -> Any:
        is_jpeg = tf.strings.substr(data, 0, 3) == b"\xff\xd8\xff"
        height, width, channels = tf.unstack(tf.io.extract_jpeg_shape(tf.where(is_jpeg, data, _NONE)))
        box = tf.stack(images.entire_image(height, width) if policy.whole else policy.window(height, width, key))
        pixels, length = tf.cast(height, tf.int64) * tf.cast(width, tf.int64), tf.strings.length(data)
        most = tf.minimum(images.most_pixels(tf.cast(length, tf.int64)), pixel_limit)
        plain = is_jpeg & (channels != 4) & (pixels <= most)
        head = tf.strings.substr(data, 0, images.HEAD)
        # What may be turned, or have several pictures (Exif data, multi-picture format), is looked at.
        upright = tf.strings.regex_replace(head, "Exif|MPF", "", replace_global=False) == head
        # Most images go one way, and operations on ways not taken cost time too, unless they are in a function.
        at_once = plain & upright & (pixels <= share)
        if steps:
            at_once &= tf.reduce_min(box[2:]) < 2 * size
        arguments = data, key, box, plain, upright, pixels
        return tf.cond(at_once, lambda: at_full_size(data, box), lambda: otherwise(*arguments))

    @tf.function(experimental_attributes={"_noinline": True}, autograph=False)
    def otherwise(data: Any, key: Any, box: Any, plain: Any, upright: Any, pixels: Any) -> Any:
        def looked() -> Any:
            head = tf.strings.substr(data, 0, images.HEAD)
            return tf.ensure_shape(tf.numpy_function(images.is_upright, [head], tf.bool, stateful=False), [])

        def halved(step: int) -> Callable[[], Any]:
            return lambda: tf.slice(tf.io.decode_jpeg(data, ratio=2**step, **how), *cut)

        upright = tf.cond(plain & ~upright, looked, lambda: upright)
        least = tf.constant([size << step for step in range(1, steps + 1)], tf.int32)
        corner, extent = tf.split(box, 2)
        level = tf.math.count_nonzero(tf.reduce_min(extent) >= least, dtype=tf.int32)
        first, behind = (tf.bitwise.right_shift(place, level) for place in (corner, corner + extent))
        cut = tf.concat([first, [0]], 0), tf.concat([behind - first, [3]], 0)
        fits = tf.bitwise.right_shift(pixels, tf.cast(2 * level, tf.int64)) <= share
        ways = [lambda: at_full_size(data, box), *(halved(step) for step in range(1, steps + 1))]
        return tf.switch_case(tf.where(plain & upright & fits, level, len(ways)), [*ways, lambda: in_python(data, key)])

    return decode
