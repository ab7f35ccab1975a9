"""An export of a network of Keras's JAX or PyTorch backend: in a process on TensorFlow, to which its weights go."""

from __future__ import annotations

import builtins
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kresnet import checks
from kresnet.data import samples

_MODEL, _SETTINGS, _FAILED = "model.keras", "settings.json", "failed.json"
_IMAGES = ("calibration", "verify")


def export(model: keras.Model, path: Path, settings: Mapping[str, Any], drawn: int) -> None:
    """Exports a network as `kresnet.export` does, which is called in a process of its own.

    Args:
        model: the network, of any backend.
        path: where to write.
        settings: the other arguments of `kresnet.export`.
        drawn: how many images are drawn for calibration; no more of them travel.

    Raises:
        ValueError, ImportError, OSError: what the process raised.
        RuntimeError: if it ended otherwise.
    """
    checks.require(isinstance(model, keras.Model), "`model` must be a Keras model", model=type(model).__name__)
    with tempfile.TemporaryDirectory(prefix="kresnet-export-") as name:
        folder = Path(name)
        model.save(folder / _MODEL)
        shape = tuple(model.input_shape[1:])
        plain = {key: value for key, value in settings.items() if key not in _IMAGES}
        plain["path"] = os.path.abspath(path)
        for key in _IMAGES:
            data = settings[key]
            if data is not None and key == "calibration":
                data = samples.draw(data, drawn, shape, key)
            if data is not None:
                _write(folder / key, data, shape, key)
        (folder / _SETTINGS).write_text(json.dumps(plain))
        environment = os.environ | {"KERAS_BACKEND": "tensorflow", "PYTHONPATH": os.pathsep.join(sys.path)}
        code = "import sys; from kresnet.deploy import elsewhere, export; elsewhere.run(sys.argv[1], export.export)"
        status = subprocess.run([sys.executable, "-c", code, name], env=environment, check=False).returncode
        if (folder / _FAILED).exists():
            kind, said = json.loads((folder / _FAILED).read_text())
            raise getattr(builtins, kind)(said)
        if status:
            raise RuntimeError(f"The process that exports {path} on TensorFlow ended with {status}")


def run(folder: str, export: Callable[..., Any]) -> None:
    """Exports what another process has put into a folder, and leaves there what is wrong with it."""
    place = Path(folder)
    settings = json.loads((place / _SETTINGS).read_text())
    for key in _IMAGES:
        if (place / key).exists():
            settings[key] = _Batches(place / key)
    try:
        export(keras.saving.load_model(place / _MODEL, compile=False), **settings)
    except (ValueError, ImportError, OSError) as error:
        kind = next(kind for kind in (ValueError, ImportError, OSError) if isinstance(error, kind))
        (place / _FAILED).write_text(json.dumps([kind.__name__, str(error)]))


class _Batches:
    """Batches that another process has written, read one by one, as often as they are asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __iter__(self) -> Iterator[Any]:
        for number in itertools.count():
            path = self.folder / f"{number}.npz"
            if not path.exists():
                return
            with np.load(path) as batch:
                found = tuple(batch[name] for name in batch.files)
            yield found if len(found) > 1 else found[0]


def _write(folder: Path, data: Any, shape: tuple[int, ...], name: str) -> None:
    folder.mkdir()
    for number, (images, labels) in enumerate(samples.batches(data, shape, name)):
        np.savez(folder / f"{number}.npz", *([images] if labels is None else [images, labels]))
