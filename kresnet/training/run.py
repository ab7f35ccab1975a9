"""The folder of a run: its configuration before training, and its report afterwards."""

from __future__ import annotations

import csv
import dataclasses
import importlib.metadata
import json
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import keras
import numpy as np

from kresnet import __version__, checks, files
from kresnet.data.samples import class_indices
from kresnet.evaluation import report as report_page
from kresnet.evaluation.evaluate import evaluate
from kresnet.inference.predictors import BEST, CONFIG, LAST, run_config
from kresnet.training.callbacks import HistoryFile
from kresnet.training.recipe import Recipe

HISTORY, REPORT = "history.csv", "report.html"
# What resuming needs: the states, and the network without its weights.
STATE, NETWORK = "state", "network.json"
LOCK = ".training"


def is_run(folder: str | os.PathLike) -> bool:
    """Tells whether a folder holds a run of which an epoch is done; what one left that failed earlier is no loss."""
    return (Path(folder) / CONFIG).exists() and any((Path(folder) / name).exists() for name in (BEST, LAST))


def is_unfinished(folder: str | os.PathLike) -> bool:
    """Tells whether a folder holds a run that has not come to its end."""
    return (Path(folder) / CONFIG).exists() and (Path(folder) / STATE).exists()


def hold(folder: Path) -> IO[str] | None:
    """Keeps other processes from training in a folder, until what is returned is closed or this process ends.

    Returns:
        An open file; None where the system cannot lock any.

    Raises:
        ValueError: if another process trains there.
    """
    try:
        import fcntl
    except ImportError:  # on Windows
        return None
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / LOCK).open("a")
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        lock.close()
        raise ValueError(f"Another process is training in {folder}. Received: out={str(folder)!r}") from None
    except OSError:  # a file system without locks
        lock.close()
        return None
    return lock


def begin(folder: Path, config: dict[str, Any], model: keras.Model | None) -> None:
    """Writes `config.json`: the options of the run, and the versions of the packages that it runs on.

    What an earlier run left in the folder is removed.

    Args:
        folder: of the run.
        config: its options.
        model: the network, if it was built by its key: resuming then needs neither its weights nor who published them.
    """
    (folder / CONFIG).unlink(missing_ok=True)  # first: without it the rest is no run
    for name in (STATE, "tensorboard"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in (HISTORY, REPORT, BEST, LAST):
        (folder / name).unlink(missing_ok=True)
    (folder / STATE).mkdir(parents=True)
    if model is not None:
        (folder / STATE / NETWORK).write_text(model.to_json())
    with files.replacing(folder / CONFIG) as temporary:
        temporary.write_text(json.dumps({**config, "versions": _versions()}, indent=2))


def finish(folder: Path) -> None:
    """Removes what resuming would need: the run has come to its end."""
    shutil.rmtree(folder / STATE)
    (folder / LOCK).unlink(missing_ok=True)


def network(folder: Path, precision: str | None) -> keras.Model:
    """Returns the network of an unfinished run as it was built, but for its weights.

    Raises:
        ValueError: if it is damaged, or the run was begun with a model that is not built by a key.
    """
    file = folder / STATE / NETWORK
    checks.require(file.exists(), f"{folder} is the run of a model: give it as `model` again", out=str(folder))
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision or policy)
    try:
        return keras.models.model_from_json(file.read_text(encoding="utf-8"))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        said = " ".join(str(error).split())
        raise ValueError(f"{file} is damaged: {said}. Received: out={str(folder)!r}") from None
    finally:
        keras.config.set_dtype_policy(policy)


# Options of `train` that `config.json` has as they were given.
_AS_GIVEN = (
    *("model", "data", "weights", "model_fields", "freeze", "freeze_epochs", "layer_decay", "class_weight"),
    *("precision", "jit_compile", "seed", "split_seed", "deterministic", "on_error", "data_dir", "patience"),
    *("batch_size", "checkpoint_every", "devices", "sync_batch_norm", "remat"),
)


def arguments(folder: str | os.PathLike) -> dict[str, Any]:
    """Returns the arguments of `train` that a run of a network's key and a source's name was begun with.

    Raises:
        ValueError: if there is no such run.
    """
    config = run_config(folder)
    ok = bool(config.get("model") and config.get("data"))
    ok = ok and all(isinstance(config.get(name), dict) for name in ("recipe", "model_fields"))
    ok = ok and (not is_unfinished(folder) or (Path(folder) / STATE / NETWORK).exists())
    text = "No run of a network's key on a source's name is there to go on with: give `model` and `data`"
    checks.require(ok, text, out=str(folder))
    found, recipe = {name: _tuples(config[name]) for name in _AS_GIVEN if name in config}, recipe_of(config)
    if isinstance(found.get("class_weight"), dict):
        found["class_weight"] = {int(index): weight for index, weight in found["class_weight"].items()}
    follow = recipe.model_fields()
    found["model_fields"] = {name: value for name, value in found["model_fields"].items() if name not in follow}
    return found | {"recipe": recipe}


def recipe_of(config: Mapping[str, Any]) -> Recipe:
    """Returns the recipe of a run from its options."""
    names = {field.name for field in dataclasses.fields(Recipe)}
    return Recipe(**{name: _tuples(value) for name, value in config["recipe"].items() if name in names})


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def require_the_same(folder: Path, config: Mapping[str, Any]) -> None:
    """Checks that a run goes on with the options that it was begun with.

    Raises:
        ValueError: if not; it names those that differ.
    """
    there, here = (_options(one) for one in (run_config(folder), json.loads(json.dumps(config))))
    differing = {name: value for name, value in here.items() if there.get(name) != value}
    begun = ", ".join(f"{name}={there.get(name)!r}" for name in differing)
    checks.require(
        not differing,
        f"{folder} was begun with {begun}; go on with the same, or begin anew with `overwrite=True` (--overwrite)",
        **differing,
    )


def _options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what makes a run another one: how often it is saved, on what and in how much memory it trains do not, and
    `epochs` follow."""
    no_option = ("versions", "command", "checkpoint_every", "devices", "remat", "epochs", "recipe")
    found = {name: value for name, value in config.items() if name not in no_option}
    return found | {name: value for name, value in (config.get("recipe") or {}).items() if name != "name"}


def history(folder: Path) -> keras.callbacks.History:
    """Returns the history of a run that has ended.

    Raises:
        ValueError: if its file is not there, or damaged.
    """
    found, result = HistoryFile(folder / HISTORY), keras.callbacks.History()
    try:
        found.read()
        result.epoch, result.history = found.epochs(), found.values()
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or "it is damaged"
        raise ValueError(f"{folder / HISTORY}: {reason}. Received: out={str(folder)!r}") from None
    return result


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
            y = class_indices(y, two=result.probabilities.shape[1] == 2)
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
        folder / REPORT,
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
