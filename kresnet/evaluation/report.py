"""Writes the report of a training run: one HTML file that opens from disk and loads nothing."""

from __future__ import annotations

import datetime
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from kresnet import __version__, checks
from kresnet.data.images import shown as printable
from kresnet.evaluation import cam, drawings
from kresnet.evaluation.intervals import wilson
from kresnet.files import replacing
from kresnet.graph.cost import cost
from kresnet.graph.network import description
from kresnet.inference import predictors
from kresnet.papers import cited, link

PAGES = [Path(__file__).parent / "pages", Path(predictors.__file__).parent / "pages"]  # the second holds style.css
_MATRIX_CLASSES = 40  # with more classes a matrix is unreadable, and the most confused pairs are listed instead
_PAIRS = 30
_UNFOLDED_CLASSES = 20  # the least accurate classes, which are shown without a click


class Proportion(NamedTuple):
    """`count` of `total` images."""

    count: int
    total: int

    @property
    def value(self) -> float:
        """The proportion, in [0, 1]."""
        return self.count / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """Its 95 % confidence interval."""
        return wilson(self.count, self.total)


def write(
    path: str | os.PathLike,
    *,
    model: keras.Model,
    images: np.ndarray | Callable[[np.ndarray], np.ndarray],
    labels: Any,
    class_names: Sequence[str],
    history: Mapping[str, Sequence[float]],
    probabilities: Any = None,
    config: Mapping[str, Any] | None = None,
    evaluation: Mapping[str, Any] | None = None,
    mistakes: int = 12,
    kept_epoch: int | None = None,
    file_paths: Sequence[str] | None = None,
) -> Path:
    """Writes the report: accuracy, curves, the most confident mistakes, classes, confusions, cost and configuration.

    The heading says which published network the model is, and how it differs from it, if the model knows
    (`kresnet_config`). The model's name alone proves nothing.

    Args:
        path: the `.html` file to write, completely or not at all.
        model: the network, a functional classifier with one input.
        images: the validation images, uint8 (n, height, width, 1 or 3), pixels 0 to 255; or, if they do not fit in
            memory, a function that takes an array of indices and returns those images in that order.
        labels: (n,) class indices.
        class_names: the names of the classes in the order of their indices.
        history: lists of one value per epoch by name, as in Keras's `History.history`: loss, accuracy, val_loss,
            val_accuracy, learning_rate and any others. A missing value is NaN or None. Empty: no curves.
        probabilities: (n, classes) in [0, 1], the network's predictions for the images. None: they are computed here.
        config: the options of the run, nested or flat. Its "recipe", if it has one, is named in the heading.
        evaluation: further measurements, such as {"top-1, ten crops": 0.93}.
        mistakes: how many mistakes to show, at least 0.
        kept_epoch: the epoch, from 0, whose weights the model has; the heading counts from 1.
        file_paths: of the images, in their order, to name those that are shown.

    Returns:
        The path.

    Raises:
        ValueError: if the sizes of labels, probabilities, class names or history do not match, a label is not a class
            index, a probability is outside [0, 1] or NaN, or the images are not uint8 of 1 or 3 channels.
    """
    import jinja2

    labels, class_names = np.asarray(labels), [str(name) for name in class_names]
    if probabilities is None:
        checks.require(not callable(images), "Give `probabilities` if `images` is a function", probabilities=None)
        probabilities = model.predict(images, verbose=0)
    probabilities = np.asarray(probabilities)
    _check(labels, probabilities, class_names, history)
    checks.require(
        file_paths is None or len(file_paths) == len(labels),
        "`file_paths` must name each image",
        file_paths=len(file_paths or ()),
        labels=len(labels),
    )
    predicted = probabilities.argmax(1)
    # Of equal probabilities the lower class ranks first, as in argmax and in a stable sort.
    of_label = np.take_along_axis(probabilities, labels[:, None], 1)
    tied_before = (probabilities == of_label) & (np.arange(len(class_names)) < labels[:, None])
    rank = ((probabilities > of_label) | tied_before).sum(1)
    wrong = np.flatnonzero(predicted != labels)
    most_confident = wrong[np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")]
    shown = most_confident[: checks.integer("mistakes", mistakes, minimum=0)]
    pictures = _fetch(images, shown) if len(shown) else np.empty((0, 1, 1, 1), "uint8")
    recipe = (config or {}).get("recipe")
    template = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    ).get_template("report.html")
    page = template.render(
        title=model.name,
        network=_published_network(model),
        recipe=recipe.get("name") if isinstance(recipe, Mapping) else recipe,
        epochs=max(map(len, history.values()), default=0),
        date=datetime.date.today(),
        version=__version__,
        top={k: Proportion(int((rank < k).sum()), len(labels)) for k in (1, 5) if k == 1 or len(class_names) > k},
        evaluation=dict(evaluation or {}),
        curves=drawings.curves(history),
        mistakes=_mistakes(model, pictures, shown, labels, probabilities, class_names, file_paths),
        kept=None if kept_epoch is None else kept_epoch + 1,
        mistaken=len(wrong),
        maps=cam.supports(model),
        classes=_classes(labels, predicted, class_names),
        unfolded=_UNFOLDED_CLASSES,
        **_confusions(labels, predicted, class_names),
        cost=_cost(model, images),
        config=_flat(config or {}),
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return Path(path)


def _published_network(model: keras.Model) -> dict[str, Any] | None:
    """Returns what the model knows of the published network that it is, None if it does not know."""
    known = description(model)
    if not known.get("key"):
        return None
    changes = [f"{field}={value!r}" for field, value in (known.get("changes") or {}).items()]
    paper = known.get("paper")
    return {"key": known["key"], "paper": paper and cited(paper), "link": paper and link(paper), "changes": changes}


def _check(labels: np.ndarray, probabilities: np.ndarray, class_names: list[str], history: Any) -> None:
    size = len(labels) if labels.ndim == 1 else 0
    are_indices = size > 0 and np.issubdtype(labels.dtype, np.integer)
    checks.require(are_indices, "`labels` must be (n,) integers", labels=f"{labels.dtype} of shape {labels.shape}")
    shape = (size, len(class_names))
    checks.require(
        probabilities.shape == shape,
        f"`probabilities` must be (images, classes): {shape} for these `labels` and `class_names`",
        probabilities=f"shape {probabilities.shape}",
    )
    low, high = labels.min(), labels.max()
    in_range = low >= 0 and high < len(class_names)
    checks.require(in_range, f"`labels` must be in [0, {len(class_names)})", lowest=int(low), highest=int(high))
    low, high = float(probabilities.min()), float(probabilities.max())
    # In half precision a softmax may round to slightly more than 1. NaN fails both comparisons.
    checks.require(low >= 0 and high <= 1.01, "`probabilities` must be in [0, 1]", lowest=low, highest=high)
    lengths = {name: len(values) for name, values in history.items()}
    checks.require(len(set(lengths.values())) <= 1, "`history` must have a value per epoch for every name", **lengths)


def _fetch(images: Any, indices: np.ndarray) -> np.ndarray:
    """Returns the images of these indices, after checking them."""
    pictures = np.asarray(images(indices) if callable(images) else images[indices])
    are_pixels = pictures.dtype == np.uint8 and pictures.ndim == 4 and pictures.shape[3] in (1, 3)
    checks.require(
        are_pixels and len(pictures) == len(indices),
        f"`images` must be uint8 (n, height, width, 1 or 3), here n = {len(indices)}",
        images=f"{pictures.dtype} of shape {pictures.shape}",
    )
    return pictures


def _mistakes(
    model: keras.Model,
    pictures: np.ndarray,
    shown: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: list[str],
    file_paths: Sequence[str] | None,
) -> list[dict[str, Any]]:
    """Returns what the page shows of each mistake: picture, maps, its file, and both classes with probabilities."""
    true, predicted = labels[shown], probabilities[shown].argmax(1)
    with_maps = len(shown) > 0 and cam.supports(model)
    classes = np.stack([predicted, true], 1)
    maps = cam.class_activation_maps(model, pictures, classes) if with_maps else [[]] * len(shown)
    return [
        {
            "index": int(index),
            "file": printable(file_paths[index]) if file_paths else None,
            "predicted": class_names[predicted[i]],
            "confidence": float(probabilities[index, predicted[i]]),
            "true": class_names[true[i]],
            "true_confidence": float(probabilities[index, true[i]]),
            "picture": drawings.data_uri(pictures[i]),
            "maps": [drawings.data_uri(pictures[i], heat) for heat in maps[i]],
        }
        for i, index in enumerate(shown)
    ]


def _classes(labels: np.ndarray, predicted: np.ndarray, class_names: list[str]) -> list[dict[str, Any]]:
    """Returns the accuracy of each class, the least accurate first, and classes without images last."""
    images = np.bincount(labels, minlength=len(class_names))
    correct = np.bincount(labels[predicted == labels], minlength=len(class_names))
    rows = [
        {"name": name, "accuracy": Proportion(int(right), int(total)) if total else None}
        for name, right, total in zip(class_names, correct, images, strict=True)
    ]
    return sorted(rows, key=lambda row: row["accuracy"].value if row["accuracy"] else math.inf)


def _confusions(labels: np.ndarray, predicted: np.ndarray, class_names: list[str]) -> dict[str, Any]:
    """Returns the confusion matrix (rows true, columns predicted), or for many classes the most frequent pairs."""
    count = len(class_names)
    if count <= _MATRIX_CLASSES:
        matrix = np.bincount(labels * count + predicted, minlength=count * count).reshape(count, count)
        return {
            "matrix": [
                (name, row.tolist(), max(int(row.sum()), 1)) for name, row in zip(class_names, matrix, strict=True)
            ]
        }
    wrong, totals = predicted != labels, np.bincount(labels, minlength=count)
    pairs, counts = np.unique(labels[wrong] * count + predicted[wrong], return_counts=True)
    most_frequent = np.argsort(-counts, kind="stable")[:_PAIRS]
    rows = [(*divmod(int(pairs[i]), count), int(counts[i])) for i in most_frequent]
    return {"pairs": [(class_names[a], class_names[b], times, int(totals[a])) for a, b, times in rows]}


def _cost(model: keras.Model, images: Any) -> Any:
    """Returns the model's cost, or a text that says why it cannot be computed."""
    open_size = None in getattr(model, "input_shape", (None,))[1:]
    try:
        return cost(model, _fetch(images, np.array([0])).shape[1:] if open_size else None)
    except ValueError as error:  # the model is not functional
        return str(error)


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens nested mappings: {"a": {"b": 1}} becomes {"a.b": 1}."""
    flat = {}
    for key, value in config.items():
        nested = isinstance(value, Mapping) and value
        flat |= _flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat
