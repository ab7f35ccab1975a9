"""Published weights: the table of them, and what one is."""

from __future__ import annotations

import csv
import dataclasses
import functools
import importlib.util
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kresnet import checks
from kresnet.weights import downloads, entries, hub, imagenet

# From timm's, torchvision's and PyPI's own descriptions; `tools/pretrained_table.py` writes it.
FILE = Path(__file__).with_name("pretrained.csv")
# The repositories of Hugging Face's hub.
HUB = "hf://"
_NONCOMMERCIAL = re.compile(r"-nc-|non-?commercial", re.IGNORECASE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint and what is known of it.

    Attributes:
        source: what messages call it.
        file: gives the path of the file, downloaded if need be.
        architecture: timm's name for the network that it is of; None if that is not known.
        spec: all fields of the network's spec, where a file of ours says them; else None.
        fields: fields of the network's spec that it was trained with, such as `mean` and `padding`.
        size: height and width in pixels of the images that it was trained for; None if that is not known.
        classes: of its classifier; None if that is not known.
        facts: what the network is to tell of itself: "crop_fraction", "interpolation", "licence".
        labels: the names of its classes, in their order; () if they are not known.
        head: what becomes of its classifier, as in `loading.load`.
    """

    source: str
    file: Callable[[], Path]
    architecture: str | None = None
    spec: Mapping[str, Any] | None = None
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    size: int | None = None
    classes: int | None = None
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    labels: Sequence[str] = ()
    head: str = "kept"

    @classmethod
    def of_file(cls, path: str | os.PathLike, **known: Any) -> Checkpoint:
        """Returns the checkpoint in a file, with what is known of it."""
        return cls(source=str(path), file=lambda: Path(path), **known)

    @property
    def noncommercial(self) -> bool:
        """Whether the licence excludes commercial use."""
        return bool(_NONCOMMERCIAL.search(self.facts.get("licence", "")))

    def told(self, classes: int | None) -> dict[str, Any]:
        """Returns what a network of that many classes tells of itself with these weights."""
        labels = self.labels or (imagenet.labels() if self.classes == imagenet.CLASSES else ())
        return {**self.facts, "labels": list(labels) if len(labels) == classes else None}


@dataclasses.dataclass(frozen=True)
class PublishedWeights:
    """A row of the table: weights that somebody has published for one of our networks.

    Attributes:
        key, tag: the network, or timm's architecture that has no builder here, and what its weights are asked for by:
            `create_model(key, weights=tag)`.
        source, place: "timm" and a repository of Hugging Face's hub or an address, "torchvision" and an address, or
            "PyPI" and a package.
        architecture: its name there.
        changes: fields of the network's spec that the weights need.
        mean, std: of the images' channels, in [0, 1].
        size: height and width in pixels.
        crop_fraction, interpolation: how evaluation cuts and resizes images.
        classes: of the classifier.
        top1, top1_size: published accuracy in percent, None where there is none, and at which size in pixels.
        licence: of the weights.
        recommended: whether `weights="imagenet"` means these.
    """

    key: str
    tag: str
    source: str
    place: str
    architecture: str
    changes: dict[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int
    crop_fraction: float
    interpolation: str
    classes: int
    top1: float | None
    top1_size: int | None
    licence: str
    recommended: bool

    @property
    def name(self) -> str:
        """What the place calls them: of the repository, without its owner, or of the file."""
        return self.place.rpartition("/")[2]

    def checkpoint(self) -> Checkpoint:
        """Returns these weights as a checkpoint, which downloads itself when it is read."""
        return Checkpoint(
            source=f"{self.place} ({self.key}, {self.tag})" if self.source == "PyPI" else self.place,
            file=functools.partial(_FILES[self.source], self.place),
            architecture=self.architecture,
            fields={"mean": self.mean, "std": self.std, **self.changes},
            size=self.size,
            classes=self.classes,
            facts=facts(self.crop_fraction, self.interpolation, self.licence),
            head="fitting",
        )


def published(key: str | None = None) -> list[PublishedWeights]:
    """Returns the rows of a network, the recommended ones first; None: of all."""
    return [row for row in _rows() if key in (None, row.key)]


def of_network(key: str) -> list[PublishedWeights]:
    """Returns the rows of a network, or of timm's architecture that is another network's with other settings."""
    return published(key) or [row for row in published() if row.architecture == key]


@functools.cache
def _rows() -> tuple[PublishedWeights, ...]:
    with FILE.open(newline="") as file:
        return tuple(_row(row) for row in csv.DictReader(file))


def _row(cells: Mapping[str, str]) -> PublishedWeights:
    return PublishedWeights(
        **{name: cells[name] for name in ("key", "tag", "source", "place", "architecture")},
        **{name: cells[name] for name in ("interpolation", "licence")},
        changes=json.loads(cells["changes"]),
        mean=tuple(json.loads(cells["mean"])),
        std=tuple(json.loads(cells["std"])),
        size=int(cells["size"]),
        crop_fraction=float(cells["crop_fraction"]),
        classes=int(cells["classes"]),
        top1=float(cells["top1"]) if cells["top1"] else None,
        top1_size=int(cells["top1_size"]) if cells["top1_size"] else None,
        recommended=bool(cells["recommended"]),
    )


def is_name(weights: Any) -> bool:
    """Tells whether `weights` names published weights, and no file."""
    named = isinstance(weights, str) and (weights.startswith(HUB) or not entries.is_file_name(weights))
    return named and not Path(weights).is_file()


def by_name(key: str, name: str) -> Checkpoint:
    """Returns the published weights of a network by their name.

    Args:
        key: of the network.
        name: "imagenet", for the recommended ones, or the only ones; a tag of theirs; or "hf://" and a
            repository of Hugging Face's hub that holds timm's `config.json`, "@" and a revision behind it if need be.

    Raises:
        ValueError: if there are none of that name; it names those that there are.
    """
    if name.startswith(HUB):
        return on_hub(name)
    rows = of_network(key)
    if name == "imagenet":
        chosen = [row for row in rows if row.recommended] or [*rows]
        found = [row for row in chosen if len(chosen) == 1 and not row.checkpoint().noncommercial]
    else:
        found = [row for row in rows if name in (row.tag, row.name, row.name.removeprefix(f"{key}."))]
    if found:
        return found[0].checkpoint()
    tags = [row.tag for row in rows]
    listed = f"there are {', '.join(tags)}" if rows else "those of repositories on the hub are named hf://timm/..."
    if name == "imagenet" and rows:
        problem = f"No published weights of {key} are recommended before others"
    else:
        problem = f"There are no published weights of {key} by that name, nor such a file"
        listed += ", and 'imagenet' for the first of these" if rows and rows[0].recommended else ""
    hint = checks.closest(name, [*tags, "imagenet"] if name != "imagenet" and tags else tags)
    raise ValueError(f"{problem}; {listed}.{hint} Received: weights={name!r}")


def on_hub(name: str) -> Checkpoint:
    """Returns the weights of a repository of Hugging Face's hub, with what its `config.json` says of them."""
    repository, _, revision = name.removeprefix(HUB).partition("@")
    file = functools.partial(hub.weights_file, repository, revision or None)
    make = functools.partial(Checkpoint, source=name, file=file, head="fitting")
    return described(hub.config(repository, revision or None), make)


def described(config: Mapping[str, Any], make: Callable[..., Checkpoint]) -> Checkpoint:
    """Returns a checkpoint, made by `make`, as timm's `config.json` describes it."""
    settings = config.get("pretrained_cfg", config)
    known = {name: tuple(settings[name]) for name in ("mean", "std") if settings.get(name)}
    size = settings.get("input_size")
    crop, interpolation = settings.get("crop_pct"), settings.get("interpolation")
    if settings.get("crop_mode", "center") != "center" or interpolation not in ("bilinear", "bicubic"):
        crop = interpolation = None  # of kinds that evaluation here has not
    classes = config.get("num_classes", settings.get("num_classes"))
    return make(
        architecture=config["architecture"],
        fields=known,
        size=int(size[-1]) if size else None,
        classes=int(classes) if classes else None,
        facts=facts(crop, interpolation, settings.get("license")),
    )


def facts(crop_fraction: float | None, interpolation: str | None, licence: str | None) -> dict[str, Any]:
    """Returns a checkpoint's `facts`, of which those that are None are not known."""
    told = {"crop_fraction": crop_fraction, "interpolation": interpolation, "licence": licence}
    return {name: value for name, value in told.items() if value is not None}


def _wheel(package: str) -> Path:
    module = package.replace("-", "_")
    found = importlib.util.find_spec(module)
    files = [] if found is None else sorted((Path(found.submodule_search_locations[0]) / "models").glob("*.pth"))
    checks.require(
        len(files) > 0,
        f"These weights are in the package {package}: pip install 'kresnet[lite]'",
        weights=package,
    )
    return files[0]


def _of_timm(place: str) -> Path:
    return downloads.download(place) if "://" in place else hub.weights_file(place)


# The names of files that are had by their addresses end in their hashes.
_FILES: dict[str, Callable[[str], Path]] = {
    "timm": _of_timm,
    "torchvision": downloads.download,
    "PyPI": _wheel,
}
