"""Networks side by side: published accuracy against multiply-adds, parameters, and this machine's latency."""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import keras

from kresnet import checks
from kresnet.files import replacing_csv
from kresnet.graph.cost import cost, without_weights
from kresnet.models import architectures, catalogue, registry
from kresnet.progress import say, track
from kresnet.search import latency as clock
from kresnet.search import picture
from kresnet.weights import imagenet, pretrained
from kresnet.weights.pretrained import PublishedWeights

# Fields that weights may change without a change of MACs: both paddings give maps of the same sizes.
_AS_COUNTED = {"padding", "epsilon"}


@dataclasses.dataclass(frozen=True)
class Row:
    """A network with published weights.

    Attributes:
        key: the network.
        family: the name of its family, such as "residual".
        weights: the weights' tag.
        top1: their published top-1 accuracy on ImageNet's validation images, in percent.
        pixels: height and width of the images that it was measured on.
        macs: multiply-adds for one such image; FLOPs are twice that.
        parameters: trainable ones.
        licence: of the weights.
        place: where they are: a repository of Hugging Face's hub, an address, or a package.
        latency_ms: median milliseconds of the float32 `.tflite` for one such image; None where it was not measured.
    """

    key: str
    family: str
    weights: str
    top1: float
    pixels: int
    macs: int
    parameters: int
    licence: str
    place: str
    latency_ms: float | None = None


def compare(
    patterns: str | Sequence[str],
    out: str | os.PathLike | None = "compare.html",
    *,
    weights: str = "imagenet",
    latency: bool = False,
) -> list[Row]:
    """Compares networks by what was published of them and what they cost, as a page and a picture.

    Each network counts at the image size at which its accuracy was published. It is built, without weights, only where
    the catalogue does not have its numbers at that size. Networks without a published accuracy are not drawn: the page
    lists them, and a line on the standard error says so.

    Args:
        patterns: keys of `list_models()` or of timm's architectures, or patterns of them with the wildcards * and ?.
        out: the `.html` file to write, completely or not at all, and with it the same picture as a `.png` beside it.
            None: neither.
        weights: "imagenet": of each network the recommended weights, or, where these have no published accuracy, the
            first that have one and may be used commercially. Or a pattern of tags, such as "IMAGENET1K_V1": all that
            match, of each network.
        latency: whether to export the networks, with random weights, and time them here: up to a minute each.

    Returns:
        A row for each network and tag, the most accurate first.

    Raises:
        ValueError: if a pattern matches no network or no weights, or there is no published accuracy for any of them.

    Source: Canziani et al. 2016, arXiv:1605.07678, figure 2.
    """
    patterns = [patterns] if isinstance(patterns, str) else [*patterns]
    checks.require(
        len(patterns) > 0 and all(isinstance(pattern, str) for pattern in patterns),
        "`patterns` must be keys of networks, or patterns of them",
        patterns=patterns,
    )
    checks.require(isinstance(weights, str), "`weights` must be text", weights=weights)
    checks.boolean("latency", latency)
    out = None if out is None else Path(out)
    checks.require(out is None or out.suffix == ".html", "`out` must end in .html", out=str(out))
    keys = dict.fromkeys(key for pattern in patterns for key in _matching(pattern))
    pairs, left_out = _chosen([*keys], weights)
    rows = _counted(pairs)
    if latency:
        times = clock.milliseconds([functools.partial(_build, row) for _, row in pairs])
        rows = [dataclasses.replace(row, latency_ms=time) for row, time in zip(rows, times, strict=True)]
    for reason, names in left_out.items():
        say(f"not drawn, {reason}: {', '.join(names)}")
    if out is not None:
        picture.write(out, rows, left_out)
    return rows


def write_csv(path: str | os.PathLike, rows: Iterable[Row]) -> None:
    """Writes the rows to a CSV file, a column for each field."""
    with replacing_csv(path) as writer:
        writer.writerow(field.name for field in dataclasses.fields(Row))
        writer.writerows(dataclasses.astuple(row) for row in rows)


def _matching(pattern: str) -> list[str]:
    """Returns the keys that a pattern means: of our networks and of those with weights; or timm's name in full."""
    every = {*registry.list_models(), *registry.list_models(pretrained=True)}
    found = [key for key in sorted(every, key=catalogue.natural) if fnmatch.fnmatchcase(key, pattern)]
    known = architectures.known()
    if not found and pattern not in known:
        hint = checks.closest(pattern, [*sorted(every), *known])
        raise ValueError(f"No network matches.{hint} Received: pattern={pattern!r}")
    return found or [pattern]


def _chosen(keys: Sequence[str], weights: str) -> tuple[list[tuple[str, PublishedWeights]], dict[str, list[str]]]:
    """Returns networks with the weights that are drawn, the most accurate first, and those left out, by the reason."""
    pairs, left_out, tags = [], {}, []
    for key in keys:
        published = pretrained.of_network(key)  # the recommended ones come first
        measured = [row for row in published if row.top1 is not None and row.classes == imagenet.CLASSES]
        if weights == "imagenet":
            found = [row for row in measured if not row.checkpoint().noncommercial][:1]
        else:
            found = [row for row in measured if fnmatch.fnmatchcase(row.tag, weights)]
        if not found:
            reason = "without such weights" if measured else "without a published accuracy"
            left_out.setdefault(reason if published else "without published weights", []).append(key)
        pairs += [(key, row) for row in found]
        tags += [row.tag for row in measured]
    if not pairs:
        raise ValueError(
            f"None of these networks has such weights with a published accuracy.{checks.closest(weights, tags)} "
            f"Received: weights={weights!r}, networks={', '.join(keys[:5])}{', ...' if len(keys) > 5 else ''}"
        )
    pairs.sort(key=lambda pair: (-pair[1].top1, catalogue.natural(pair[0]), pair[1].tag))
    return pairs, left_out


def _counted(pairs: Sequence[tuple[str, PublishedWeights]]) -> list[Row]:
    """Returns the rows of networks and their weights, in their order."""
    counts = {
        (row["key"], int(row["pixels"]), "{}"): (int(row["macs"]), int(row["parameters"])) for row in catalogue.rows()
    }
    rows = []
    for key, row in track(pairs, "Counting"):
        changes = {name: value for name, value in row.changes.items() if name not in _AS_COUNTED}
        at = row.key, row.top1_size, repr(changes)
        if at not in counts:
            with without_weights():
                found = cost(_build(row))
            counts[at] = found.macs, found.trainable_params
        macs, parameters = counts[at]
        facts = {"family": registry.get_builder(row.key).family.name, "licence": row.licence, "place": row.place}
        facts |= {"weights": row.tag, "top1": row.top1, "pixels": row.top1_size}
        rows.append(Row(key=key, macs=macs, parameters=parameters, **facts))
    return rows


def _build(row: PublishedWeights) -> keras.Model:
    """Builds the network that published weights are of, for images of the size of their accuracy."""
    return registry.get_builder(row.key)(input_shape=(row.top1_size, row.top1_size, 3), **row.changes)
