"""Trains a trained network a little further as its int8 `.tflite` will compute, on the images that it knows."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from kresnet import checks
from kresnet.data.loading import load
from kresnet.deploy.quantize import quantize_aware
from kresnet.graph.network import Network
from kresnet.inference import preprocessing
from kresnet.inference.predictors import BEST, predictor, run_config
from kresnet.training import recipes, run, transfer
from kresnet.training.recipe import Recipe
from kresnet.training.train import train

EPOCHS = 2
# Of the rate that the network was trained at first: without norms, a larger one undoes what it has learned.
RATE = 0.1
CALIBRATION_BATCHES = 8  # of 32 images


def tune(
    model: str | os.PathLike,
    data: str | os.PathLike,
    *,
    out: str | os.PathLike,
    epochs: float = EPOCHS,
    verbose: bool = True,
) -> keras.Model:
    """Makes a trained network quantization-aware and trains it, as `train` does, into a run of its own.

    A run goes on by its recipe, with its augmentation and its split of the images, at a tenth of its learning rate,
    which falls along a cosine; without warm-up and without averaged weights. Any other network does so by "fine-tune"
    without augmentation. All layers train, frozen ones too.

    Args:
        model: the folder of a run, or a `.keras` file.
        data: a source of `kresnet.data.load`, of the classes that the network was trained on.
        out: the folder of the new run; its `best.keras` is quantization-aware, and can be exported again.
        epochs: how long to train, above 0.
        verbose: as for `train`.

    Returns:
        The best network of the new run, which knows how its images are cropped and resized as the given one does.

    Raises:
        ValueError: as `train` and `quantize_aware`; or if `out` holds a run already.

    Source: Jacob et al. 2018, arXiv:1712.05877, section 3.
    """
    out = Path(out)
    checks.require(
        not run.is_run(out),
        f"{out} holds a network that was made quantization-aware already: export that, or remove it",
        out=str(out),
    )
    found, config = predictor(model), run_config(model)
    checks.require(found.model is not None, "Only a run or a .keras is made quantization-aware", model=str(model))
    size = found.image_shape[0]
    checks.require(size is not None, "The network must have a fixed input size", input_shape=found.image_shape)
    known = {"crop_fraction": found.crop_fraction, "interpolation": found.interpolation}
    splitting = {"split_seed": config.get("split_seed", 0), "on_error": config.get("on_error", "raise")}
    transfer.freeze(found.model, False)
    wanted = preprocessing.wanted([found], size) | {"grey": found.image_shape[2] == 1}
    seen = load(data, "train", size, drop_remainder=False, **splitting, **wanted)
    aware = quantize_aware(found.model, itertools.islice(seen, CALIBRATION_BATCHES))
    recipe = further(config.get("recipe"), epochs, found.crop_fraction)
    train(aware, str(data), recipe, out=out, seed=config.get("seed", 0), verbose=verbose, **splitting)
    best = predictor(out / BEST).model
    if isinstance(best, Network):
        best.describe(**known)
    return best


def further(fields: Mapping[str, Any] | None, epochs: float, crop_fraction: float | None) -> Recipe:
    """Returns the recipe by which a network goes on training.

    Args:
        fields: of the recipe that it was trained by, as its run's `config.json` has them; None where it is not known.
        epochs: how long.
        crop_fraction: of its evaluation, where its recipe is not known.
    """
    if fields is None:
        base = recipes.FINE_TUNE.replace(augment=None, crop_fraction=crop_fraction)
    else:
        base = run.recipe_of({"recipe": fields})
    return base.replace(
        epochs=epochs,
        learning_rate=RATE * base.learning_rate,
        schedule="cosine",
        milestones=(),
        warmup_epochs=0.0,
        warmup_steps=0,
        ema=None,
    )
