"""A record of a source to an image of the network's size: in tf.data's graph, or in Python."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from kresnet.data import graph_decoding, images, sources
from kresnet.data.augment import Policy


class Reader:
    """Reads images of a source, as far as their pixels depend on the window that is drawn.

    Args:
        source: where the records are from: pixels, paths of files, or the files' bytes.
        policy: the window to decode, or what becomes of a whole image.
        size: height and width of the result in pixels.
        pixel_limit: images of more pixels are refused.
        grey: whether RGB becomes one channel of luminances.
    """

    def __init__(self, source: sources.Source, policy: Policy, size: int, pixel_limit: int, grey: bool) -> None:
        self._source, self._policy, self._size, self._pixel_limit = source, policy, size, pixel_limit
        self._grey = grey
        self._decode = graph_decoding.decoder(policy, size, pixel_limit, self._in_python)
        self._window = self._compiled_window()

    def __call__(self, record: Any, key: Any) -> Any:
        """Returns float32 pixels (size, size, channels), 0 to 255, of a record and the key of its draws.

        To be traced. What fails names the file only where Python decodes it.
        """
        import tensorflow as tf

        if self._source.pixels is not None:
            return self._from_pixels(record, key)
        data = record if self._source.holds_bytes else tf.io.read_file(record)
        return self._resized(self._decode(data, key), 3)

    def problem(self, i: int, key: np.ndarray) -> str | None:
        """Returns what is wrong with the i-th image's file, after its name; None if it can be decoded."""
        name = os.fsdecode(self._source.paths[i])
        try:
            self._decoded(self._source.read(i), name, key)
        except images.ImageError as error:
            return str(error)
        except OSError as error:
            return f"{images.shown(name)}: {error.strerror}"
        return None

    def _from_pixels(self, pixels: Any, key: Any) -> Any:
        import tensorflow as tf

        if self._policy.whole:
            image = tf.numpy_function(self._policy.whole, [pixels], tf.uint8, stateful=False)
            return self._resized(image, pixels.shape[2])
        top, left, height, width = self._policy.window(pixels.shape[0], pixels.shape[1], key)
        return self._resized(pixels[top : top + height, left : left + width], pixels.shape[2])

    def _resized(self, image: Any, channels: int) -> Any:
        import tensorflow as tf

        image.set_shape([None, None, channels])
        image = image[None]
        # `tf.image.resize` calls the same, among other operations.
        image = tf.raw_ops.ResizeBilinear(images=image, size=[self._size] * 2, half_pixel_centers=True)[0]
        return tf.image.rgb_to_grayscale(image) if self._grey and channels == 3 else image

    def _in_python(self, data: Any, key: Any) -> Any:
        import tensorflow as tf

        def decoded(data: bytes, key: np.ndarray) -> np.ndarray:
            return self._decoded(data, self._source.name, key)  # who names the failed file reads it again

        return tf.numpy_function(decoded, [data, key], tf.uint8, stateful=False)

    def _decoded(self, data: bytes, name: str, key: np.ndarray) -> np.ndarray:
        name = images.shown(name)
        if self._policy.whole:  # of a whole JPEG at full resolution: fidelity before speed
            return self._policy.whole(images.decode(data, name, pixel_limit=self._pixel_limit))

        def window(height: int, width: int) -> images.Box:
            return tuple(self._window(np.array([height, width, *key])).numpy().tolist())

        return images.decode(data, name, window, self._size, self._pixel_limit)

    def _compiled_window(self) -> Any:
        """Compiled, with a single argument: run one by one, its dozen operations would take as long as the decoding."""
        import tensorflow as tf

        @tf.function(input_signature=[tf.TensorSpec([4], tf.int64)])
        def window(size_and_key: Any) -> Any:
            height, width = tf.cast(size_and_key[0], tf.int32), tf.cast(size_and_key[1], tf.int32)
            return tf.stack(self._policy.window(height, width, size_and_key[2:]))

        with tf.device("CPU"):
            return window.get_concrete_function()
