"""Which numbers a model wants at its input, as far as its first layers say it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from kresnet.graph.trace import Trace, functional, is_functional, trace
from kresnet.layers.fake_quantize import FakeQuantize
from kresnet.layers.padding import EdgePadding2D, ReflectPadding2D
from kresnet.layers.pixels import CIFAR, IMAGENET, INCEPTION

PIXELS = (0.0, 255.0)
# What images come in: pixels, the two usual scalings, and 16 bits a channel.
_RANGES = (PIXELS, (0.0, 1.0), (-1.0, 1.0), (0.0, 65535.0))
# Their output holds numbers of the range of their input.
_KEEP = (
    *(keras.layers.RandomFlip, keras.layers.RandomCrop, keras.layers.CenterCrop, keras.layers.Cropping2D),
    *(keras.layers.RandomRotation, keras.layers.RandomTranslation, keras.layers.RandomZoom, keras.layers.Resizing),
    *(keras.layers.ZeroPadding2D, EdgePadding2D, ReflectPadding2D, keras.layers.Identity, keras.layers.Dropout),
)
_SCALE = (keras.layers.Rescaling, keras.layers.Normalization)
# How far the numbers behind a standardization may reach, for those of photographs.
_STANDARDIZED = ((-8.0, 0.01), (0.3, 12.0))


def input_range(model: keras.Model) -> tuple[float, float] | None:
    """Returns the lowest and highest number that a model's input is made for, None where its layers do not say it.

    They say it where layers of fixed scale (`Rescaling`, `Normalization`) are the first to compute anything, and take
    just one of the usual ranges, (0, 255), (0, 1), (-1, 1) and (0, 65535), to what networks are trained on: 0 to 1, -1
    to 1, or the standardized numbers of ImageNet, CIFAR, this network's own `mean` and `std`, or an adapted
    `Normalization`. Flips, crops, paddings and resizings may stand between.

    Args:
        model: a functional or built sequential model with one input, which may hold other models.
    """
    if not is_functional(functional(model)) or len(model.inputs) != 1:
        return None
    scaling, limits = _first_scaling(trace(model))
    if limits == PIXELS:
        return PIXELS
    if not scaling:
        return None
    (scale, offset), adapted = _composed(scaling), any(isinstance(one, keras.layers.Normalization) for one in scaling)
    ends = {one: (one[0] * scale + offset, one[1] * scale + offset) for one in _RANGES}
    wanted = _wanted(model)
    exact = [one for one, (low, high) in ends.items() if any(_near(low, high, *want) for want in wanted)]
    if exact or not adapted:
        return exact[0] if len(exact) == 1 else None
    (lowest, low_end), (high_end, highest) = _STANDARDIZED
    likely = [
        one
        for one, (low, high) in ends.items()
        if one[0] == 0 and np.all((lowest <= low) & (low <= low_end) & (high_end <= high) & (high <= highest))
    ]
    return likely[0] if len(likely) == 1 else None


def scales_input(model: keras.Model) -> bool:
    """Tells whether a layer of fixed scale is the first of a model to compute anything."""
    scaling, limits = _first_scaling(trace(model))
    return bool(scaling) or limits is not None


def _first_scaling(graph: Trace) -> tuple[list[Any], tuple[float, float] | None]:
    """Returns the layers of fixed scale that come first, and the limits of the input of a quantized network."""
    found, tensor = [], graph.inputs[0]
    while len(users := graph.users_of(tensor)) == 1 and users[0] is not None:
        layer = users[0].operation
        if isinstance(layer, FakeQuantize) and layer.limits is not None and not found:
            return found, tuple(map(float, layer.limits))
        if isinstance(layer, _SCALE) and not getattr(layer, "invert", False):
            found.append(layer)
        elif not isinstance(layer, (*_KEEP, FakeQuantize)):
            break
        tensor = users[0].outputs[0]
    return found, None


def _composed(scaling: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Returns scale and offset, a number for each channel or one for all, of the layers one after the other."""
    scale, offset = np.ones(1), np.zeros(1)
    for layer in scaling:
        if isinstance(layer, keras.layers.Rescaling):
            factor, shift = (np.asarray(value, "float64").reshape(-1) for value in (layer.scale, layer.offset))
        else:
            mean, variance = (
                keras.ops.convert_to_numpy(value).astype("float64").reshape(-1)
                for value in (layer.mean, layer.variance)
            )
            factor = 1 / np.maximum(np.sqrt(variance), keras.config.epsilon())
            shift = -mean * factor
        scale, offset = scale * factor, offset * factor + shift
    return scale, offset


def _wanted(model: keras.Model) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns the lowest and highest numbers that networks are trained on."""
    found = [(np.zeros(1), np.ones(1)), (-np.ones(1), np.ones(1))]
    spec = getattr(model, "kresnet_config", {}).get("spec", {})
    for stats in (IMAGENET, INCEPTION, CIFAR, *([spec] if "mean" in spec else [])):
        mean, std = (np.asarray(stats[name], "float64") for name in ("mean", "std"))
        found.append((-mean / std, (1 - mean) / std))
        grey = mean.mean(), std.mean()  # as `preprocess` has it for images of other channels
        found.append((np.array([-grey[0] / grey[1]]), np.array([(1 - grey[0]) / grey[1]])))
    return found


def _near(low: np.ndarray, high: np.ndarray, wanted_low: np.ndarray, wanted_high: np.ndarray) -> bool:
    """Tells whether both ends agree within 0.5 % of their distance: 1/256 for 1/255 does, 16 bits over 255 do not."""
    if len({len(ends) for ends in (low, wanted_low)} - {1}) > 1:
        return False
    allowed = 0.005 * np.abs(wanted_high - wanted_low)
    return bool(np.all(np.abs(low - wanted_low) <= allowed) and np.all(np.abs(high - wanted_high) <= allowed))
