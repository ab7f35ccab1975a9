"""Draws networks side by side: a page that opens from disk, loads nothing and runs nothing, and the same as a PNG."""

from __future__ import annotations

import dataclasses
import datetime
import math
import platform
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kresnet import __version__
from kresnet.files import replacing
from kresnet.inference import predictors
from kresnet.search import latency

PAGES = [Path(__file__).parent / "pages", Path(predictors.__file__).parent / "pages"]  # the second holds style.css
# Okabe and Ito's, which the colour-blind tell apart, but for yellow, which nobody sees on white. Further families have
# them again, with dashed outlines.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a8a8a")
RADIUS = 36  # pixels, of the network of most parameters
# Width and height in pixels of a picture, and the scale of its circles: on a screen, and on a phone.
WIDE, NARROW = (800, 510, 1.0), (290, 420, 0.6)
_LETTER, _LINE, _GAP = 6.3, 13, 3  # pixels: a letter's width and height in a label, and from there to the circle
_POINTS = 72 / 96  # matplotlib's, in a pixel
_ROOM = 0.09  # of each axis, beside its outermost circles
Box = tuple[float, float, float, float]  # left, top, right and bottom in pixels


class Tick(NamedTuple):
    """A number on an axis, at a fraction of its length."""

    place: float
    text: str


class Point(NamedTuple):
    """A network's circle.

    Attributes:
        row, number: the network, and its place among the rows, from 0.
        name: its label.
        x, y: its centre, as fractions of the axes.
        radius: in pixels.
        family: its number among the families.
        wide, narrow: the side of the circle that the label stands on, on a screen and on a phone: "right", "left",
            "above", "below" or "inside"; None where there is no room for it.
    """

    row: Any
    number: int
    name: str
    x: float
    y: float
    radius: float
    family: int
    wide: str | None = None
    narrow: str | None = None


@dataclasses.dataclass(frozen=True)
class Panel:
    """Accuracy against one cost: its name in the page, what it is, its unit, the axes' ticks, and the circles."""

    name: str
    title: str
    unit: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    points: list[Point]


def write(path: Path, rows: Sequence[Any], left_out: Mapping[str, Sequence[str]]) -> None:
    """Writes the page, and the PNG beside it.

    Args:
        path: the `.html` file to write. Both are written completely or not at all.
        rows: what `compare` returns; at least one.
        left_out: networks that are not drawn, by the reason.
    """
    import jinja2

    families = Counter(row.family for row in sorted(rows, key=lambda row: row.family))
    drawn = panels(rows, [*families])
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("compare.html").render(
        panels=drawn,
        names=_names(rows),
        rows=rows,
        families=families,
        numbered={family: i for i, family in enumerate(families)},
        colours=COLOURS,
        sizes=_sizes(rows),
        left_out=left_out,
        timed=rows[0].latency_ms is not None,
        clock=latency,
        machine=f"{platform.machine()}, {platform.system()}",
        version=__version__,
        date=datetime.date.today(),
    )
    with replacing(path) as text, replacing(path.with_suffix(".png")) as image:
        text.write_text(page, encoding="utf-8")
        _png(image, drawn, [*families])


def panels(rows: Sequence[Any], families: Sequence[str]) -> list[Panel]:
    """Returns the panel of multiply-adds and, where it was measured, that of latency."""
    found = [_panel("macs", "multiply-adds", "GMACs", rows, [row.macs / 1e9 for row in rows], families)]
    if rows[0].latency_ms is not None:
        found.append(_panel("latency", "latency", "ms", rows, [row.latency_ms for row in rows], families))
    return found


def _panel(
    name: str, title: str, unit: str, rows: Sequence[Any], costs: Sequence[float], families: Sequence[str]
) -> Panel:
    x, x_ticks = _logarithmic(costs)
    y, y_ticks = _linear([row.top1 for row in rows])
    largest = max(row.parameters for row in rows)
    radii = [RADIUS * math.sqrt(row.parameters / largest) for row in rows]
    points = [
        Point(row, i, label, x(cost), y(row.top1), radius, families.index(row.family))
        for i, (row, label, cost, radius) in enumerate(zip(rows, _names(rows), costs, radii, strict=True))
    ]
    sides = zip(points, labelled(points, *WIDE), labelled(points, *NARROW), strict=True)
    points = [point._replace(wide=wide, narrow=narrow) for point, wide, narrow in sides]
    # Small circles are drawn over large ones.
    return Panel(name, title, unit, x_ticks, y_ticks, sorted(points, key=lambda point: -point.radius))


def _names(rows: Sequence[Any]) -> list[str]:
    """Returns what the rows are called: their keys, and the weights' tags where a network has several."""
    times = Counter(row.key for row in rows)
    return [row.key if times[row.key] == 1 else f"{row.key}.{row.weights}" for row in rows]


def _logarithmic(values: Sequence[float]) -> tuple[Callable[[float], float], list[Tick]]:
    """Returns an axis for positive numbers: where one is, and ticks of 1, 2 and 5."""
    low, high = math.log10(min(values)), math.log10(max(values))
    wider = max(_ROOM * (high - low), (0.8 - (high - low)) / 2)  # of 0.8 two ticks are in it at least
    low, high = low - wider, high + wider

    def place(value: float) -> float:
        return (math.log10(value) - low) / (high - low)

    return place, [Tick(place(value), f"{value:g}") for value in _steps(low, high)]


def _steps(low: float, high: float) -> list[float]:
    """Returns 1, 2 and 5 times the powers of ten between two logarithms."""
    every = [digit * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for digit in (1, 2, 5)]
    return [value for value in every if low <= math.log10(value) <= high]


def _linear(values: Sequence[float]) -> tuple[Callable[[float], float], list[Tick]]:
    """Returns an axis for numbers: where one is, and ticks, eight at most."""
    low, high = min(values), max(values)
    wider = max(_ROOM * (high - low), (2 - (high - low)) / 2)
    low, high = low - wider, high + wider
    step = next(step for step in (0.5, 1, 2, 5, 10, 20) if (high - low) / step <= 8)

    def place(value: float) -> float:
        return (value - low) / (high - low)

    values = [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return place, [Tick(place(value), f"{value:g}") for value in values]


def _sizes(rows: Sequence[Any]) -> list[tuple[float, str]]:
    """Returns the circles of the legend, three at most: their radii in pixels, and the parameters they stand for."""
    largest = max(row.parameters for row in rows)
    steps = _steps(math.log10(largest) - 2, math.log10(largest))[::-2][:3]
    return [(RADIUS * math.sqrt(step / largest), f"{step / 1e6:g} M") for step in reversed(steps)]


def labelled(points: Sequence[Point], width: int, height: int, scale: float) -> list[str | None]:
    """Returns the side of each circle on which its label covers neither another label nor another circle.

    Args:
        points: the circles. Where there is room for some labels only, the first ones have it.
        width, height: of the picture in pixels.
        scale: of the circles' radii.

    Returns:
        Sides as in `Point`; None where there is no room.
    """
    circles = [(width * p.x, height * (1 - p.y), scale * p.radius) for p in points]
    taken: list[Box] = []
    sides: list[str | None] = []
    for i, point in enumerate(points):
        others = circles[:i] + circles[i + 1 :]

        def free(box: Box, others: list[tuple[float, float, float]] = others) -> bool:
            within = box[0] >= 0 and box[2] <= width
            apart = all(_distance(box, (x, y)) >= r for x, y, r in others)
            return within and apart and not any(_overlap(box, label) for label in taken)

        boxes = _boxes(point.name, *circles[i])
        sides.append(next((side for side, box in boxes.items() if free(box)), None))
        if sides[-1]:
            taken.append(boxes[sides[-1]])
    return sides


def _boxes(name: str, x: float, y: float, r: float) -> dict[str, Box]:
    """Returns where a circle's label may stand, by its side; inside only where it fits."""
    w, h = _LETTER * len(name), _LINE
    corners = {
        **({"inside": (x - w / 2, y - h / 2)} if w < 2 * r else {}),
        "right": (x + r + _GAP, y - h / 2),
        "left": (x - r - _GAP - w, y - h / 2),
        "above": (x - w / 2, y - r - h),
        "below": (x - w / 2, y + r),
    }
    return {side: (left, top, left + w, top + h) for side, (left, top) in corners.items()}


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _distance(box: Box, point: tuple[float, float]) -> float:
    """Returns how far a point is from a box; 0 inside."""
    x, y = point
    return math.hypot(max(box[0] - x, 0, x - box[2]), max(box[1] - y, 0, y - box[3]))


def _png(path: Path, drawn: Sequence[Panel], families: Sequence[str]) -> None:
    from matplotlib.figure import Figure

    width, height, _ = WIDE
    size = (width + 100) / 96, len(drawn) * (height + 90) / 96
    figure = Figure(figsize=size, dpi=192, layout="constrained")
    for axes, panel in zip(figure.subplots(len(drawn), squeeze=False)[:, 0], drawn, strict=True):
        axes.set(xlim=(0, 1), ylim=(0, 1), ylabel="published ImageNet top-1 (%), of various recipes")
        axes.set_xlabel(f"{panel.title} of an image ({panel.unit}); areas: parameters")
        axes.set_xticks(*zip(*panel.x_ticks, strict=True))
        axes.set_yticks(*zip(*panel.y_ticks, strict=True))
        axes.grid(alpha=0.2)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
        for point in panel.points:
            side = 2 * _POINTS * point.radius
            axes.scatter(point.x, point.y, side**2, zorder=2, clip_on=False, **_style(point.family))
            if point.wide:
                _label(axes, point)
        handles = [axes.scatter([], [], 60, **_style(i)) for i in range(len(families))]
        axes.legend(handles, families, frameon=False, loc="lower right", fontsize=8)
    figure.savefig(path, format="png", metadata={"Software": None})


def _style(family: int) -> dict[str, Any]:
    colour = COLOURS[family % len(COLOURS)]
    return {"facecolor": f"{colour}73", "edgecolor": colour, "linestyle": "-" if family < len(COLOURS) else "--"}


def _label(axes: Any, point: Point) -> None:
    """Writes a name beside its circle. A dollar sign in it is no formula."""
    far = _POINTS * (point.radius + _GAP)
    offset, horizontal, vertical = {
        "inside": ((0, 0), "center", "center"),
        "right": ((far, 0), "left", "center"),
        "left": ((-far, 0), "right", "center"),
        "above": ((0, far), "center", "bottom"),
        "below": ((0, -far), "center", "top"),
    }[point.wide]
    aligned = {"ha": horizontal, "va": vertical, "textcoords": "offset points"}
    axes.annotate(point.name, (point.x, point.y), offset, fontsize=8, zorder=3, parse_math=False, **aligned)
