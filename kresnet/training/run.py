"""A run's folder: what is written to it around training, and how it is read."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kresnet import __version__, checks, files
from kresnet.data.samples import class_indices
from kresnet.evaluation import report as report_page
from kresnet.evaluation.evaluate import evaluate
from kresnet.inference.predictors import BEST, CONFIG


def is_run(folder: str | os.PathLike) -> bool:
    """Whether a folder holds a run."""
    return (Path(folder) / CONFIG).exists()


def begin(folder: Path, config: dict[str, Any]) -> None:
    """Writes a run's `config.json`: these options, and the versions that they are given to."""
    with files.replacing(folder / CONFIG) as temporary:
        temporary.write_text(json.dumps({**config, "versions": _versions()}, indent=2))


def _versions() -> dict[str, str]:
    found = {"kresnet": __version__, "python": platform.python_version(), "backend": keras.backend.backend()}
    for package in ("keras", "tensorflow", "jax", "torch", "keras-cv", "numpy"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def report(folder: Path, validation_data: Any, history: dict, config: dict, verbose: bool) -> None:
    """Evaluates the best checkpoint and writes the report."""
    model = keras.saving.load_model(folder / BEST, compile=False)
    result = evaluate(model, validation_data, verbose=verbose)
    if verbose:
        print(result.summary())

    def pictures(indices: np.ndarray) -> np.ndarray:
        """The images of these indices; they must come in the order in which they were evaluated."""
        found, start = {}, 0
        for x, y in validation_data:
            y = class_indices(y)
            for i in np.flatnonzero(np.isin(np.arange(start, start + len(y)), indices)):
                found[start + i] = np.asarray(x[i])
                same = y[i] == result.labels[start + i]
                checks.require(same, "`validation_data` must come in the same order each time", index=int(start + i))
            start += len(y)
            if len(found) == len(indices):
                break
        return np.clip(np.round(np.stack([found[i] for i in indices])), 0, 255).astype("uint8")

    report_page.write(
        folder / "report.html",
        model=model,
        images=pictures,
        labels=result.labels,
        class_names=result.class_names or [str(i) for i in range(result.probabilities.shape[1])],
        history=history,
        probabilities=np.clip(result.probabilities, 0, 1),
        config=config,
    )
