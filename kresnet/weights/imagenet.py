"""ImageNet's thousand classes, and what Keras's applications offer around them."""

from __future__ import annotations

import csv
import functools
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from kresnet import checks

# The classes of ILSVRC 2012 in the order of their labels: WordNet's identifiers, and the first of its names for each.
# Two pairs have the same first name: "crane" is said to be a bird or a machine, and one maillot goes by "tank suit".
FILE = Path(__file__).with_name("imagenet.csv")
CLASSES = 1000


@functools.cache
def _rows() -> tuple[tuple[str, str], ...]:
    with FILE.open(newline="", encoding="utf-8") as file:
        return tuple((row["synset"], row["name"]) for row in csv.DictReader(file))


def labels() -> tuple[str, ...]:
    """Returns the names of the classes, each another, in the order of their labels."""
    return tuple(name for _, name in _rows())


def decode_predictions(predictions: Any, top: int = 5) -> list[list[tuple[str, str, float]]]:
    """Names the likeliest of ImageNet's classes, as the functions of that name in Keras's applications do.

    Args:
        predictions: (images, 1000), probabilities or logits.
        top: how many classes, 1 to 1000.

    Returns:
        For each image the likeliest classes, in that order: WordNet's identifier, the name, and the prediction.

    Raises:
        ValueError: if the predictions have another shape, or are not finite.

    Source: Russakovsky et al. 2015, arXiv:1409.0575, for the classes.
    """
    predictions = np.asarray(predictions)
    checks.require(
        predictions.ndim == 2 and predictions.shape[1] == CLASSES,
        "`predictions` must be (images, 1000); of another network, `model.kresnet_config['labels']` are the names",
        shape=predictions.shape,
    )
    checks.require(bool(np.isfinite(predictions).all()), "`predictions` must be finite", predictions=predictions)
    checks.integer("top", top)
    checks.require(top <= CLASSES, "`top` must be at most 1000", top=top)
    order = np.argsort(-predictions, axis=1, kind="stable")[:, :top]
    rows = _rows()
    return [
        [(*rows[i], float(scores[i])) for i in likeliest] for likeliest, scores in zip(order, predictions, strict=True)
    ]


@functools.cache
def _say_once() -> None:
    warnings.warn(
        "kresnet's networks take pixels, 0 to 255, and normalize them themselves: `preprocess_input` changes nothing.",
        stacklevel=3,
    )


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """Returns its argument: for code that was written for Keras's applications.

    kresnet's networks take RGB pixels, 0 to 255, and normalize them themselves (`include_preprocessing=True`), as
    their weights need it. A warning says so once a process.

    Args:
        x: images.
        data_format: None or "channels_last".

    Raises:
        ValueError: if the images' channels are to come first.
    """
    checks.choice("data_format", data_format, (None, "channels_last"))
    _say_once()
    return x
