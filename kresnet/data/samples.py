"""Sample images for calibration and comparison: drawn from any kind of dataset, or synthetic."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from kresnet import checks

BATCH = 32


def batches(data: Any, shape: tuple[int, ...], name: str) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Iterates over any kind of dataset in batches.

    Args:
        data: an array of images, (n, height, width, channels); a tuple (images, labels) of arrays; or an iterable, such
            as a `tf.data.Dataset` or `keras.utils.PyDataset`, of batches or single images, with or without labels.
            Labels are class indices or one-hot.
        shape: (height, width, channels) that the images must have; None stands for any size.
        name: the argument's name, for errors.

    Yields:
        Images unchanged, (n, height, width, channels), and class indices, (n,), or None.

    Raises:
        ValueError: if the data are endless or empty, or the images have another shape.
    """
    empty = True
    for images, labels in _pairs(data, name):
        images = np.asarray(images)
        images = images[None] if images.ndim == 3 else images
        checks.require(
            images.ndim == 4 and all(want in (None, have) for want, have in zip(shape, images.shape[1:], strict=True)),
            f"`{name}` must hold images of shape {shape}, the model's input shape",
            shape=images.shape,
        )
        if labels is not None:
            labels = class_indices(labels)
            checks.require(
                len(labels) == len(images),
                f"`{name}` must have one label for each image",
                images=len(images),
                labels=len(labels),
            )
        empty = empty and len(images) == 0
        yield images, labels
    if empty:
        raise ValueError(f"`{name}` holds no images. Received: {name}={type(data).__name__}")


def class_indices(labels: Any, two: bool = False) -> np.ndarray:
    """Returns class indices.

    Args:
        labels: indices, (n,) or (n, 1), or one-hot or soft labels, (n, classes).
        two: whether there are two classes, so that a number in 0 to 1 may be the share of class 1.

    Returns:
        (n,), int64; of soft labels the largest class.

    Raises:
        ValueError: if a label is neither, or is not finite; it names the first.
    """
    labels = np.asarray(labels)
    checks.require(labels.dtype.kind in "buif", "Labels must be numbers", dtype=str(labels.dtype))
    if labels.ndim == 2 and labels.shape[1] > 1:
        bad = ~np.isfinite(labels).all(1)
        checks.require(not bad.any(), "Labels must be finite numbers", label=labels[bad][:1].tolist())
        return labels.argmax(-1)
    labels = labels.reshape(-1).astype("float64")
    shares = (labels > 0) & (labels < 1) if two else np.zeros(labels.shape, bool)
    bad = labels[~(np.isfinite(labels) & ((labels == np.floor(labels)) | shares))]
    checks.require(len(bad) == 0, "Labels must be whole numbers", label=float(bad[0]) if len(bad) else None)
    return np.where(shares, labels > 0.5, labels).astype("int64")


def _pairs(data: Any, name: str) -> Iterator[tuple[Any, Any]]:
    if isinstance(data, np.ndarray):
        data = (data, None)
    if isinstance(data, tuple) and len(data) == 2 and hasattr(data[0], "shape"):
        images, labels = data
        checks.require(
            len(images.shape) == 4, f"`{name}` must hold images (n, height, width, channels)", shape=tuple(images.shape)
        )
        for start in range(0, len(images), BATCH):
            yield images[start : start + BATCH], None if labels is None else labels[start : start + BATCH]
        return
    if hasattr(data, "cardinality") and int(data.cardinality()) == -1:
        raise ValueError(f"`{name}` never ends; limit it with `take`. Received: {name}={data!r}")
    # A PyDataset has a length and items, but iterating over it never ends.
    items = (data[i] for i in range(len(data))) if hasattr(data, "__getitem__") else data
    for item in items:
        yield (item[0], item[1]) if isinstance(item, tuple | list) and len(item) > 1 else (item, None)


def draw(data: Any, count: int, shape: tuple[int, ...], name: str, seed: int = 0) -> np.ndarray:
    """Draws images at random, without replacement, from the first 20 * `count`; a seed always gives the same ones.

    Args:
        data, shape, name: as for `batches`.
        count: number of images to draw.
        seed: seed of the draw.

    Returns:
        Up to `count` images, (n, height, width, channels).

    Raises:
        ValueError: as `batches`.
    """
    rng, drawn, seen = np.random.default_rng(seed), [], 0
    for images, _ in batches(data, shape, name):
        for image in images:
            if seen < count:
                drawn.append(image)
            elif (place := rng.integers(0, seen + 1)) < count:
                drawn[place] = image
            seen += 1
        if seen >= 20 * count:
            break
    return np.stack(drawn)


def full_range(images: np.ndarray) -> np.ndarray:
    """Stretches one of the images to the full range of pixels, 0 to 255, and returns all of them as float32.

    Calibrated with these, an int8 file's input is the app's bytes shifted by 128. Calibrated with dark images alone,
    its range might end at 130, say. The image with the most contrast is stretched: single pixels of 0 and 255 in a dark
    image would be edges that no photograph has, and would widen the ranges of the layers that follow.

    Args:
        images: (n, height, width, channels), 0 to 255.
    """
    images = images.astype("float32")
    low, high = images.min(axis=(1, 2, 3)), images.max(axis=(1, 2, 3))
    best = int((high - low).argmax())
    if high[best] > low[best]:
        images[best] = 255 * (images[best] - low[best]) / (high[best] - low[best])
    else:  # flat images only
        images[best].flat[:2] = 0, 255
    return images


def natural_images(count: int, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Makes synthetic images with the statistics of photographs: a 1/f spectrum, and correlated channels.

    Args:
        count: number of images.
        shape: (height, width, channels) in pixels.
        seed: seed of the random phases.

    Returns:
        (count, height, width, channels), uint8.

    Source: the 1/f spectrum is Field 1987, J. Opt. Soc. Am. A 4(12), "Relations between the statistics of natural
    images and the response properties of cortical cells".
    """
    height, width, channels = shape
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    amplitude = 1 / np.maximum(frequency, 1 / max(height, width))
    amplitude[0, 0] = 0
    # One pattern is shared by all channels, and each channel adds a fainter one of its own.
    phases = np.exp(2j * np.pi * rng.random((count, channels + 1, height, width)))
    layers = np.fft.ifft2(amplitude * phases).real
    layers /= layers.std(axis=(2, 3), keepdims=True) + 1e-9
    pictures = layers[:, :1] + 0.3 * layers[:, 1:]
    level, contrast = rng.uniform(90, 150, (2, count, 1, 1, 1)) * np.array([1, 0.45])[:, None, None, None, None]
    return np.clip(level + contrast * pictures, 0, 255).transpose(0, 2, 3, 1).astype("uint8", order="C")
