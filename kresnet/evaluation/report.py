"""What came of a training run, as one page: an HTML file that opens from disk and needs no network."""

from __future__ import annotations

import base64
import datetime
import io
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from kresnet import __version__, checks
from kresnet.evaluation import cam
from kresnet.evaluation.intervals import wilson
from kresnet.files import replacing
from kresnet.graph.cost import cost
from kresnet.inference import predictors

PAGES = [Path(__file__).parent / "pages", Path(predictors.__file__).parent / "pages"]  # the second has the style
_MATRIX_CLASSES = 40  # beyond, a matrix cannot be read, and the most confused pairs stand in its place
_PAIRS = 30
_WORST = 20  # classes that are shown unfolded
_PICTURE = 256  # pixels: larger pictures are shrunk to it
# Matplotlib writes colours; the page's own, light or dark, take their place.
_COLOURS = {"#010101": "currentColor", "#020202": "var(--first)", "#030303": "var(--second)"}


class Share(NamedTuple):
    """So many of so many, and the share's 95 % confidence interval."""

    count: int
    total: int

    @property
    def value(self) -> float:
        return self.count / self.total

    @property
    def interval(self) -> tuple[float, float]:
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
) -> Path:
    """Writes the report: accuracy, curves, the most confident mistakes, classes, confusions, costs and configuration.

    Args:
        path: the `.html` to write, whole or not at all.
        model: the network, a functional classifier of one input.
        images: the validation images, uint8 (n, height, width, 1 or 3), pixels 0 to 255; or, where they do not fit in
            memory, a function that takes an array of indices and returns those images in that order.
        labels: (n,) class indices.
        class_names: the classes' names in the order of their indices.
        history: by name, a value for each epoch, as in Keras's `History.history`: loss, accuracy, val_loss,
            val_accuracy, learning_rate and any other. NaN or None where an epoch has none. Empty: no curves.
        probabilities: (n, classes) in [0, 1], what the network says of the images; None: they are predicted here.
        config: what the run was made with, nested or not; its "recipe", where it has one, stands in the heading.
        evaluation: further measurements, such as {"top-1, ten crops": 0.93}.
        mistakes: how many to show, at least 0.

    Returns:
        The path.

    Raises:
        ValueError: if the sizes of labels, probabilities, class names or history do not fit, a label is no class, a
            probability is outside [0, 1] or NaN, or the images are not uint8 of 1 or 3 channels.
    """
    import jinja2

    labels, class_names = np.asarray(labels), [str(name) for name in class_names]
    if probabilities is None:
        checks.require(not callable(images), "Give `probabilities` where `images` is a function", probabilities=None)
        probabilities = model.predict(images, verbose=0)
    probabilities = np.asarray(probabilities)
    _check(labels, probabilities, class_names, history)
    predicted = probabilities.argmax(1)
    # As in a stable sort: of equal probabilities the lower class comes first, as it does in argmax.
    own = np.take_along_axis(probabilities, labels[:, None], 1)
    before = (probabilities == own) & (np.arange(len(class_names)) < labels[:, None])
    rank = ((probabilities > own) | before).sum(1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")]
    chosen = worst[: checks.integer("mistakes", mistakes, 0)]
    pictures = _fetch(images, chosen) if len(chosen) else np.empty((0, 1, 1, 1), "uint8")
    recipe = (config or {}).get("recipe")
    template = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    ).get_template("report.html")
    page = template.render(
        title=model.name,
        recipe=recipe.get("name") if isinstance(recipe, Mapping) else recipe,
        epochs=max(map(len, history.values()), default=0),
        date=datetime.date.today(),
        version=__version__,
        top={k: Share(int((rank < k).sum()), len(labels)) for k in (1, 5) if k == 1 or len(class_names) > k},
        evaluation=dict(evaluation or {}),
        curves=_curves(history),
        mistakes=_mistakes(model, pictures, chosen, labels, probabilities, class_names),
        mistaken=len(wrong),
        maps=cam.supports(model),
        classes=_classes(labels, predicted, class_names),
        worst=_WORST,
        **_confusions(labels, predicted, class_names),
        cost=_cost(model, images),
        config=_flat(config or {}),
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return Path(path)


def _check(labels: np.ndarray, probabilities: np.ndarray, class_names: list[str], history: Any) -> None:
    size = len(labels) if labels.ndim == 1 else 0
    whole = size > 0 and np.issubdtype(labels.dtype, np.integer)
    checks.require(whole, "`labels` must be (n,) integers", labels=f"{labels.dtype} of shape {labels.shape}")
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
    # Half precision may round a sum of exponentials to a little more than 1. NaN fails any comparison.
    checks.require(low >= 0 and high <= 1.01, "`probabilities` must be in [0, 1]", lowest=low, highest=high)
    lengths = {name: len(values) for name, values in history.items()}
    checks.require(len(set(lengths.values())) <= 1, "`history` must have a value for every epoch", **lengths)


def _fetch(images: Any, indices: np.ndarray) -> np.ndarray:
    """Returns those images, checked."""
    pictures = np.asarray(images(indices) if callable(images) else images[indices])
    fine = pictures.dtype == np.uint8 and pictures.ndim == 4 and pictures.shape[3] in (1, 3)
    checks.require(
        fine and len(pictures) == len(indices),
        f"`images` must be uint8 (n, height, width, 1 or 3), here n = {len(indices)}",
        images=f"{pictures.dtype} of shape {pictures.shape}",
    )
    return pictures


def _curves(history: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """Draws a quantity a figure, training and validation together."""
    import matplotlib
    from markupsafe import Markup
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    first = ["loss", "accuracy", "learning_rate"]
    names = dict.fromkeys(name.removeprefix("val_") for name in history)
    text, *series = _COLOURS
    style = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), text)
    style |= {"grid.color": text, "grid.alpha": 0.15, "axes.spines.top": False, "axes.spines.right": False}
    style |= {"svg.fonttype": "none", "font.size": 10}
    figures = []
    for name in sorted(names, key=lambda name: first.index(name) if name in first else len(first)):
        title = name.replace("_", " ")
        lines = {}
        for label, key in (("training", name), ("validation", f"val_{name}")):
            if key in history:
                lines[label] = np.array([math.nan if value is None else value for value in history[key]], "float64")
        if f"val_{name}" not in history:
            lines = {title: lines["training"]}
        with matplotlib.rc_context(style | {"svg.hashsalt": name}):
            figure = Figure(figsize=(4.4, 2.9), layout="constrained")
            axes = figure.add_subplot(xlabel="epoch")
            for (label, values), colour in zip(lines.items(), series, strict=False):
                epochs = np.arange(1, len(values) + 1)
                seen = np.isfinite(values)
                axes.plot(epochs[seen], values[seen], color=colour, marker="." if seen.sum() < 30 else "", label=label)
            values = np.concatenate([values[np.isfinite(values)] for values in lines.values()])
            if "loss" in name or name == "learning_rate":
                spread = len(values) and values.min() > 0 and values.max() >= 50 * values.min()
                axes.set_yscale("log" if spread else "linear")
            if "accuracy" in name or name.startswith("top"):
                axes.yaxis.set_major_formatter(PercentFormatter(1))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(visible=True)
            if len(lines) > 1:
                axes.legend(frameon=False)
            file = io.StringIO()
            figure.savefig(
                file, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
            )
        svg = file.getvalue()
        for colour, own in _COLOURS.items():
            svg = svg.replace(colour, own)
        last = {label: f"{values[-1]:.4g}" for label, values in lines.items() if len(values)}
        figures.append({"title": title, "last": last, "svg": Markup(svg[svg.index("<svg") :])})
    return figures


def _mistakes(
    model: keras.Model,
    pictures: np.ndarray,
    chosen: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: list[str],
) -> list[dict[str, Any]]:
    true, said = labels[chosen], probabilities[chosen].argmax(1)
    drawn = len(chosen) > 0 and cam.supports(model)
    maps = cam.class_activation_maps(model, pictures, np.stack([said, true], 1)) if drawn else [[]] * len(chosen)
    return [
        {
            "index": int(index),
            "said": class_names[said[i]],
            "confidence": float(probabilities[index, said[i]]),
            "true": class_names[true[i]],
            "true_confidence": float(probabilities[index, true[i]]),
            "picture": _data_uri(pictures[i]),
            "maps": [_data_uri(pictures[i], heat) for heat in maps[i]],
        }
        for i, index in enumerate(chosen)
    ]


def _data_uri(picture: np.ndarray, heat: np.ndarray | None = None) -> str:
    """Returns a picture, (height, width, 1 or 3), under a map in [0, 1] where one is given, for an `img`."""
    from PIL import Image

    image = Image.fromarray(np.repeat(picture, 3, 2) if picture.shape[2] == 1 else picture)
    if heat is not None:
        from matplotlib import colormaps

        heat = np.asarray(Image.fromarray(heat).resize(image.size, Image.Resampling.BICUBIC)).clip(0, 1)[..., None]
        grey = np.asarray(image.convert("L").convert("RGB"))
        colours = colormaps["inferno"](heat[..., 0], bytes=True)[..., :3]
        image = Image.fromarray(np.uint8(np.rint(grey * (1 - 0.7 * heat) + colours * 0.7 * heat)))
    image.thumbnail((_PICTURE, _PICTURE))
    form = "PNG" if max(image.size) <= 64 else "JPEG"  # small ones are shown enlarged, and must keep their pixels
    file = io.BytesIO()
    image.save(file, form, quality=88)
    return f"data:image/{form.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def _classes(labels: np.ndarray, predicted: np.ndarray, class_names: list[str]) -> list[dict[str, Any]]:
    """Returns each class's images and correct ones, the least accurate first and those without images last."""
    images = np.bincount(labels, minlength=len(class_names))
    correct = np.bincount(labels[predicted == labels], minlength=len(class_names))
    rows = [
        {"name": name, "share": Share(int(right), int(total)) if total else None}
        for name, right, total in zip(class_names, correct, images, strict=True)
    ]
    return sorted(rows, key=lambda row: row["share"].value if row["share"] else math.inf)


def _confusions(labels: np.ndarray, predicted: np.ndarray, class_names: list[str]) -> dict[str, Any]:
    """Returns the matrix, rows true and columns predicted, or, of many classes, the most frequent confusions."""
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
    most = np.argsort(-counts, kind="stable")[:_PAIRS]
    rows = [(*divmod(int(pairs[i]), count), int(counts[i])) for i in most]
    return {"pairs": [(class_names[a], class_names[b], times, int(totals[a])) for a, b, times in rows]}


def _cost(model: keras.Model, images: Any) -> Any:
    """Returns the model's cost, or why there is none."""
    open_size = None in getattr(model, "input_shape", (None,))[1:]
    try:
        return cost(model, _fetch(images, np.array([0])).shape[1:] if open_size else None)
    except ValueError as error:  # the model is not functional
        return str(error)


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested mappings as one, {"a": {"b": 1}} as {"a.b": 1}."""
    flat = {}
    for key, value in config.items():
        nested = isinstance(value, Mapping) and value
        flat |= _flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat
