"""How a network wants its images: what it says of it, and a picture made so. Needs neither Keras nor TensorFlow."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from kresnet import checks, files
from kresnet.data import resizing
from kresnet.progress import say

NAMES = ("crop_fraction", "interpolation")
DESCRIPTION = "description.json"  # in a folder, and in the archive behind a .tflite


class Wanting(NamedTuple):
    """A network's name, and how its images are to be cropped and resized; None where that is not known."""

    name: str
    crop_fraction: float | None
    interpolation: str | None


def told(description: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a network's description, such as its `kresnet_config`, says of cropping and resizing."""
    return {name: description.get(name) for name in NAMES}


def description_of(path: str | os.PathLike) -> Path:
    """Returns the path of the description that `export` writes with what it writes to `path`."""
    path = Path(path)
    if path.is_dir():
        return path / DESCRIPTION
    return path.with_suffix(".json") if path.suffix == ".tflite" else path.with_name(f"{path.name}.json")


def description_in(path: Path) -> dict[str, Any]:
    """Returns the description that `export` writes with a file; an empty one if there is none.

    Raises:
        ValueError: if the description is damaged.
    """
    if not path.is_file():  # a pipe would be waited for
        return {}
    return parsed(path.read_bytes(), str(path))


def parsed(text: str | bytes, name: str) -> dict[str, Any]:
    """Returns a description from its JSON; an empty one if it is another program's list or number.

    Raises:
        ValueError: if it is no JSON: the error names it.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is not a complete description: {error}. Received: {name!r}") from None
    return found if isinstance(found, dict) else {}


def description_for(path: str | os.PathLike, carried: dict[str, Any] | None) -> dict[str, Any]:
    """Returns the description of what was exported: what it carries, else what lies beside it and is of no other file.

    A kill or a copy may have left a file beside the description of another one, which tells by the hash of its own.

    Args:
        path: of the file or folder.
        carried: what the file itself holds; None for nothing, as in a SavedModel, or a file of another program's.

    Raises:
        ValueError: if the description beside it is damaged.
    """
    if carried is not None:
        return carried
    beside = description_of(path)
    found = description_in(beside)
    if "sha256" in found and found["sha256"] != files.sha256(path):
        say(f"{beside} is passed over: it is of another file than {path}, as its sha256 tells.")
        return {}
    return found


def wanted(
    networks: Sequence[Any], size: int, crop_fraction: float | None = None, interpolation: str | None = None
) -> dict[str, Any]:
    """Returns how the images of these networks are to be cropped and resized.

    Args:
        networks: one, or the members of an ensemble: `Wanting`s, or `Predictor`s, which have the same attributes.
        size: height and width of their input in pixels, or the shorter of these.
        crop_fraction, interpolation: go before what the networks say of themselves.

    Returns:
        "crop_fraction" and "interpolation", as `kresnet.data.load` takes them.

    Raises:
        ValueError: if the networks want different ones, or one that does not exist.
    """
    given = {"crop_fraction": crop_fraction, "interpolation": interpolation}
    defaults = {"crop_fraction": resizing.central_share(size), "interpolation": None}
    for name in [name for name, value in given.items() if value is None]:
        each = [(one.name, getattr(one, name) or defaults[name]) for one in networks]
        checks.require(
            all(value == each[0][1] for _, value in each),
            f"The networks want their images cropped or resized differently: give `{name}`",
            **{name: each},
        )
        given[name] = each[0][1]
    checks.number("crop_fraction", given["crop_fraction"], 0.01, 1.0001, "a fraction in (0, 1]")
    checks.choice("interpolation", given["interpolation"], (None, *resizing.INTERPOLATIONS))
    return given


def prepared(
    pixels: np.ndarray, shape: tuple[int, int, int], crop_fraction: float, interpolation: str | None
) -> np.ndarray:
    """Crops and resizes a picture as `evaluate` does.

    Args:
        pixels: uint8 RGB, (height, width, 3), upright.
        shape: (height, width, channels) of the network's input; 1 channel is grey. Where it is not square, which no
            evaluation is, the central window of that shape is cut out and resized.
        crop_fraction, interpolation: as in `kresnet.data.load`.

    Returns:
        uint8 of that shape.
    """
    height, width, channels = shape
    if interpolation and height == width:
        return resizing.resize(resizing.resize_and_crop(pixels, height, crop_fraction, interpolation), height, channels)
    scale = np.float32(crop_fraction) * np.float32(min(pixels.shape[0] / height, pixels.shape[1] / width))
    h, w = (max(1, round(float(scale * side))) for side in (height, width))
    top, left = (pixels.shape[0] - h) // 2, (pixels.shape[1] - w) // 2
    image = Image.fromarray(pixels[top : top + h, left : left + w])
    if interpolation:
        image = image.resize((width, height), Image.Resampling[interpolation.upper()])
    elif (factor := min(h // height, w // width)) > 1:
        image = image.reduce(factor)
    return resizing.resize(np.asarray(image), (height, width), channels)
