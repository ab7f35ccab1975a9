"""What the report draws: curves as SVG, and pictures under class activation maps."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_PICTURE = 256  # pixels; larger pictures are shrunk to this side
# Placeholders that matplotlib writes, and the page's own colours, light or dark, that replace them.
_COLOURS = {"#010101": "currentColor", "#020202": "var(--first)", "#030303": "var(--second)"}


def curves(history: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """Draws one figure per quantity, training and validation together.

    Args:
        history: lists of one value per epoch by name; a missing value is NaN or None.

    Returns:
        For each quantity its title, its last values by label, and the figure as SVG markup.
    """
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
                finite = np.isfinite(values)
                marker = "." if finite.sum() < 30 else ""
                axes.plot(epochs[finite], values[finite], color=colour, marker=marker, label=label)
            values = np.concatenate([values[np.isfinite(values)] for values in lines.values()])
            if "loss" in name or name == "learning_rate":
                wide = len(values) and values.min() > 0 and values.max() >= 50 * values.min()
                axes.set_yscale("log" if wide else "linear")
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
        for placeholder, colour in _COLOURS.items():
            svg = svg.replace(placeholder, colour)
        last = {label: f"{values[-1]:.4g}" for label, values in lines.items() if len(values)}
        figures.append({"title": title, "last": last, "svg": Markup(svg[svg.index("<svg") :])})
    return figures


def data_uri(picture: np.ndarray, heat: np.ndarray | None = None) -> str:
    """Returns a picture as the source of an `img` element.

    Args:
        picture: uint8 (height, width, 1 or 3).
        heat: a map in [0, 1] of any size, (rows, columns), to lay over the picture.
    """
    from PIL import Image

    image = Image.fromarray(np.repeat(picture, 3, 2) if picture.shape[2] == 1 else picture)
    if heat is not None:
        image = overlay(np.asarray(image.convert("L").convert("RGB")), heat, 0.7)
    image.thumbnail((_PICTURE, _PICTURE))
    form = "PNG" if max(image.size) <= 64 else "JPEG"  # small pictures are enlarged, where JPEG shows
    file = io.BytesIO()
    image.save(file, form, quality=88)
    return f"data:image/{form.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def overlay(picture: np.ndarray, heat: np.ndarray, alpha: float) -> Any:
    """Lays a map over a picture, the more opaque the hotter.

    Args:
        picture: uint8 (height, width, 3).
        heat: a map in [0, 1] of any size, float32 (rows, columns).
        alpha: opacity where the map is 1, in [0, 1].

    Returns:
        A `PIL.Image` of the picture's size.
    """
    from matplotlib import colormaps
    from PIL import Image

    height, width = picture.shape[:2]
    sized = Image.fromarray(heat).resize((width, height), Image.Resampling.BICUBIC)
    heat = np.asarray(sized).clip(0, 1)  # a bicubic curve overshoots
    share = alpha * heat[..., None]
    colours = colormaps["inferno"](heat, bytes=True)[..., :3]
    return Image.fromarray(np.uint8(np.rint(picture * (1 - share) + colours * share)))
