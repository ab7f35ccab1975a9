"""The folder of a run: its configuration before training, and its report afterwards."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kresnet import __version__, checks, files
from kresnet.data.samples import class_indices
from kresnet.evaluation import report as report_page
from kresnet.evaluation.evaluate import evaluate
from kresnet.inference.predictors import BEST, CONFIG, LAST


def is_run(folder: str | os.PathLike) -> bool:
    """Tells whether a folder holds a run of which an epoch is done; what one left that failed earlier is no loss."""
    return (Path(folder) / CONFIG).exists() and any((Path(folder) / name).exists() for name in (BEST, LAST))


def begin(folder: Path, config: dict[str, Any]) -> None:
    """Writes `config.json`: the options of the run, and the versions of the packages that it runs on.

    What a run left in the folder that ended before its first epoch did is removed.
    """
    if (folder / CONFIG).exists():
        shutil.rmtree(folder / "tensorboard", ignore_errors=True)
        (folder / "history.csv").unlink(missing_ok=True)
    with files.replacing(folder / CONFIG) as temporary:
        temporary.write_text(json.dumps({**config, "versions": _versions()}, indent=2))


def _versions() -> dict[str, str]:
    versions = {"kresnet": __version__, "python": platform.python_version(), "backend": keras.backend.backend()}
    for package in ("keras", "tensorflow", "jax", "torch", "keras-cv", "numpy"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def write_report(
    folder: Path,
    validation_data: Any,
    history: Mapping[str, list[float]],
    config: Mapping[str, Any],
    verbose: bool,
    kept_epoch: int | None = None,
    file_paths: Sequence[str] | None = None,
) -> None:
    """Evaluates the best checkpoint and writes `report.html`.

    Args:
        folder: the folder of the run.
        validation_data: a dataset of batches of (images, labels), in the same order each time it is read.
        history: lists of one value per epoch by name.
        config: the options of the run.
        verbose: whether to show progress and the result.
        kept_epoch: the epoch of the best checkpoint, from 0.
        file_paths: of the validation images in their order, those too that are skipped; None where they are no files.

    Raises:
        ValueError: if the order of the validation images changes.
    """
    model = keras.saving.load_model(folder / BEST, compile=False)
    result = evaluate(model, validation_data, verbose=verbose)
    if verbose:
        print(result.summary())

    def pictures(indices: np.ndarray) -> np.ndarray:
        """Returns the images of these indices. Reads the data again, since all images may not fit in memory."""
        found, start = {}, 0
        for x, y, *_ in validation_data:
            y = class_indices(y)
            for i in np.flatnonzero(np.isin(np.arange(start, start + len(y)), indices)):
                found[start + i] = np.asarray(x[i])
                same = y[i] == result.labels[start + i]
                checks.require(same, "`validation_data` must have the same order each time", index=int(start + i))
            start += len(y)
            if len(found) == len(indices):
                break
        return np.clip(np.round(np.stack([found[i] for i in indices])), 0, 255).astype("uint8")

    if file_paths is not None:
        skipped = set(getattr(validation_data, "skipped", ()))
        file_paths = [path for path in file_paths if path not in skipped]
    report_page.write(
        folder / "report.html",
        model=model,
        images=pictures,
        labels=result.labels,
        class_names=result.class_names or [str(i) for i in range(result.probabilities.shape[1])],
        history=history,
        probabilities=np.clip(result.probabilities, 0, 1),
        config=config,
        kept_epoch=kept_epoch,
        file_paths=file_paths,
    )
