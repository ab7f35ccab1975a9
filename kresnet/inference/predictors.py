"""Networks in any form in which they are stored, as functions from images to probabilities."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kresnet import checks
from kresnet.archives import refuse_keras_bombs
from kresnet.data import augment, folders, images, resizing
from kresnet.files import replacing_csv
from kresnet.graph import devices
from kresnet.graph.inputs import input_range
from kresnet.graph.network import description
from kresnet.graph.outputs import output_kind, say_of_two
from kresnet.graph.ranges import RangeCheck
from kresnet.inference import exported, preprocessing
from kresnet.progress import say

# Files in the folder of a run: its options, and the checkpoints of the best and of the last epoch.
CONFIG, BEST, LAST = "config.json", "best.keras", "last.keras"


@dataclasses.dataclass(frozen=True)
class Predictor:
    """Anything that classifies images.

    Attributes:
        run: turns images, (n, height, width, channels) pixels, into probabilities, (n, classes), both NumPy arrays.
        image_shape: (height, width, channels); height and width are None if they are not fixed.
        class_names: the names of the classes in order; None if they are unknown.
        name: what error messages call it.
        model: the Keras model; None if it is stored in another form.
        crop_fraction, interpolation: how its images are to be cropped and resized, as in `kresnet.data.load`; None
            where that is not known.
        input_range: lowest and highest number of its images; None where that is not known.
    """

    run: Callable[[np.ndarray], np.ndarray]
    image_shape: tuple[int | None, ...]
    class_names: tuple[str, ...] | None
    name: str
    model: keras.Model | None = None
    crop_fraction: float | None = None
    interpolation: str | None = None
    input_range: tuple[float, float] | None = None


def predictor(model: keras.Model | Predictor | str | os.PathLike) -> Predictor:
    """Makes a predictor from a network, in whatever form it is stored.

    Args:
        model: a Keras model, or the path of a `.keras`, `.tflite` or `.onnx` file, or of the folder of a run or of a
            SavedModel; or a predictor, which is returned as it is.

    Returns:
        A predictor whose class names come from the run's options if they are there, else from the description that the
        Keras model carries (`kresnet_config`), from the `.tflite`, or from the description that `export` writes into a
        file. How to crop and resize comes from these descriptions. Of a file that carries none, the description beside
        it is taken, unless the hash in it is another file's.

    Raises:
        ValueError: if there is no such file, or it is none of these or damaged.
        ImportError: if the packages of `kresnet[onnx]` are missing, for an `.onnx`.
    """
    if isinstance(model, Predictor):
        return model
    if isinstance(model, keras.Model):
        told = description(model)
        names = told.get("labels")
        return Predictor(
            _probabilities(devices.forward(model), output_kind(model)),
            tuple(model.input_shape[1:]),
            tuple(names) if names else None,
            model.name,
            model,
            **preprocessing.told(told),
            input_range=input_range(model),
        )
    checks.require(
        isinstance(model, str | os.PathLike), "`model` must be a Keras model or a path", model=type(model).__name__
    )
    path = Path(model)
    checks.require(path.exists(), "There is no such file", model=str(model))
    if (path / CONFIG).exists():
        names = tuple(run_config(path).get("class_names") or ())
        checks.require(
            (path / BEST).is_file(), f"This run has no {BEST}: it ended before its first epoch did", model=str(path)
        )
        best = predictor(path / BEST)
        checks.require(
            not names or best.model.output_shape[-1] in (len(names), 1),
            f"{path / CONFIG} names {len(names)} classes, and the network has {best.model.output_shape[-1]}",
            model=str(path),
        )
        return dataclasses.replace(best, class_names=names) if names else best
    kind = path.suffix if path.is_file() else "SavedModel" if (path / "saved_model.pb").exists() else None
    if kind in _EXPORTED:
        return _exported(path, kind)
    checks.require(
        kind == ".keras",
        "Not one of what holds a network: a .keras, .tflite or .onnx file, or the folder of a run or of a SavedModel",
        model=str(model),
    )
    try:
        refuse_keras_bombs(path)
        loaded = keras.saving.load_model(path, compile=False)
    except Exception as error:  # zipfile's, h5py's, JSON's and Keras's own
        said = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} is not a complete Keras model: {said} Received: model={str(model)!r}") from None
    bad = [weight.path for weight in loaded.weights if not bool(keras.ops.all(keras.ops.isfinite(weight)))]
    checks.require(not bad, f"{len(bad)} weights are infinite or NaN, first {bad[:1]}", model=str(model))
    return dataclasses.replace(predictor(loaded), name=str(path))


def run_config(path: str | os.PathLike) -> dict[str, Any]:
    """Returns the options of a run by its folder, {} for anything else.

    Raises:
        ValueError: if they are damaged.
    """
    file = Path(path) / CONFIG
    if not file.exists():
        return {}
    try:
        config = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None  # a pipe would be waited for
    except (ValueError, RecursionError):
        config = None
    if ok := isinstance(config, dict):
        names, seed = config.get("class_names"), config.get("split_seed")
        ok = names is None or (isinstance(names, list) and all(isinstance(name, str) for name in names))
        ok = ok and (seed is None or (type(seed) is int and seed >= 0))
    checks.require(ok, f"{file} is not a run's: train anew, or give {BEST} beside it", model=str(path))
    return config


def held_out_by(model: Any) -> int | None:
    """Returns the split seed of the run that a path is of, its folder or a checkpoint in it; None for anything else."""
    if not isinstance(model, str | os.PathLike):
        return None
    path = Path(model)
    return run_config(path.parent if path.name in (BEST, LAST) else path).get("split_seed")


def _exported(path: Path, kind: str) -> Predictor:
    """Returns what `export` wrote, or another program: with its description, if there is one."""
    network, labels = _EXPORTED[kind](path)
    written = _written(preprocessing.description_for(path, network.description))
    gives, known = written.pop("gives"), written.pop("labels")
    labels = labels or known
    run = _probabilities(network.run, gives)
    return Predictor(run, network.image_shape, tuple(labels) if labels else None, str(path), **written)


def _open_tflite(path: Path) -> tuple[exported.Opened, list[str] | None]:
    from kresnet.inference.tflite_file import TFLiteFile

    lite = TFLiteFile(path, threads=os.cpu_count() or 1)
    return exported.Opened(lite, lite.image_shape, lite.description), lite.labels


# Each returns what was opened, and the classes' names where the file has them beside its description.
_EXPORTED = {
    ".tflite": _open_tflite,
    ".onnx": lambda path: (exported.open_onnx(path), None),
    "SavedModel": lambda path: (exported.open_saved_model(path), None),
}


def _probabilities(run: Callable[[np.ndarray], Any], gives: str) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from images to probabilities of each class, (n, classes), float32.

    Args:
        run: from images to what the network gives.
        gives: "softmax", "sigmoid" or "logits". Logits of several classes are taken to be those of a softmax, and a
            single number to be that of class 1 of 0 and 1.
    """

    def probabilities(x: np.ndarray) -> np.ndarray:
        outputs = np.asarray(run(x), "float32")
        if outputs.ndim != 2:
            return outputs
        if outputs.shape[1] == 1:
            say_of_two()
        if gives == "logits":
            # Of one number, the other class's logit is 0.
            outputs = np.concatenate([0 * outputs, outputs], 1) if outputs.shape[1] == 1 else outputs
            powers = np.exp(outputs - outputs.max(1, keepdims=True))
            return powers / powers.sum(1, keepdims=True)
        return np.concatenate([1 - outputs, outputs], 1) if outputs.shape[1] == 1 else outputs

    probabilities.keep = run
    return probabilities


def _written(found: dict[str, Any]) -> dict[str, Any]:
    """Returns what a description that `export` wrote says of a file's images, and as "gives" and "labels", of its
    outputs."""
    image, output = (found[name] if isinstance(found.get(name), dict) else {} for name in ("input", "output"))
    ends, labels = image.get("range"), found.get("labels")
    gives = "logits" if output.get("name") == "logits" else "softmax"
    # Another program's may hold something else by these names.
    ends = ends if isinstance(ends, list) and [isinstance(end, int | float) for end in ends] == [True, True] else None
    labels = labels if isinstance(labels, list) and all(isinstance(label, str) for label in labels) else None
    about = {"gives": gives, "labels": labels, "input_range": tuple(ends) if ends else None}
    return preprocessing.told(found) | about


def predict(
    model: keras.Model | str | os.PathLike,
    files: Sequence[str | os.PathLike],
    top: int = 5,
    image_size: int | None = None,
    *,
    crop_fraction: float | None = None,
    interpolation: str | None = None,
    on_error: str = "raise",
) -> Iterator[tuple[str, list[tuple[str, float]]]]:
    """Classifies the central crop of image files, as in evaluation.

    Args:
        model: one network, in any form that `predictor` takes.
        files: paths of images, and of folders, whose images are taken with those of the folders within them.
        top: number of classes to return, at least 1.
        image_size: height and width in pixels, for a network without a fixed input size.
        crop_fraction, interpolation: as in `kresnet.data.load`. Default: what the network says of itself, such as what
            the authors of its weights evaluated it with; else that function's defaults.
        on_error: "raise" an error at a file that cannot be decoded, or "skip" it and say so on the standard error.

    Yields:
        For each file its path, and its most likely classes with their probabilities, in that order. A class without a
        name is called by its number.

    Raises:
        ValueError: if a file cannot be read or is not a complete image, which it names; if a folder holds no image; or
            if the model has no fixed input size and none is given.
    """
    checks.integer("top", top)
    checks.require(not isinstance(files, str | os.PathLike), "`files` must be a sequence of paths", files=files)
    checks.choice("on_error", on_error, ("raise", "skip"))
    files = folders.expanded(files)
    network = predictor(model)
    height, width, channels = network.image_shape
    size = height or image_size
    checks.require(size is not None and width in (None, size), "Give the square `image_size`", image_size=image_size)
    policy = augment.policy(None, size, **preprocessing.wanted([network], size, crop_fraction, interpolation))

    def window(height: int, width: int) -> images.Box:
        return tuple(map(int, policy.window(height, width, None)))

    def decode(data: bytes, name: str) -> np.ndarray:
        return policy.whole(images.decode(data, name)) if policy.whole else images.decode(data, name, window, size)

    in_range = RangeCheck(network.input_range, "files")
    for file in files:
        try:
            image = decode(_read(file), images.shown(file))
        except ValueError as error:
            if on_error == "raise":
                raise
            say(f"Skipped {error}")
            continue
        image = resizing.resize(image, size, channels)
        in_range(image)
        probabilities = network.run(image[None])[0]
        names = network.class_names or [str(i) for i in range(len(probabilities))]
        checks.require(
            len(names) == len(probabilities),
            f"{network.name} must have a name for each of its {len(probabilities)} classes",
            names=len(names),
        )
        likeliest = np.argsort(-probabilities, kind="stable")[:top]
        yield file, [(names[i], float(probabilities[i])) for i in likeliest]


def _read(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise ValueError(f"{images.shown(file)} cannot be read: {error.strerror}. Received: {file!r}") from None


def write_csv(path: str | os.PathLike, found: Iterable[tuple[str, list[tuple[str, float]]]]) -> int:
    """Writes what `predict` yields, a row for each image: its file, the likeliest class and its probability.

    The columns have the names of those that `Evaluation.to_csv` writes.

    Returns:
        The number of images.
    """
    count = 0
    with replacing_csv(path) as writer:
        writer.writerow(("image", "predicted", "probability"))
        for count, (image, classes) in enumerate(found, 1):  # noqa: B007
            name, probability = classes[0]
            writer.writerow((image, name, f"{probability:.6g}"))
    return count
