"""Networks in whatever form they are kept, as functions from images to probabilities, and from files to classes."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import keras
import numpy as np

from kresnet import checks
from kresnet.data import augment, images

# In a run's folder: its options, and the best checkpoint.
CONFIG, BEST = "config.json", "best.keras"


@dataclasses.dataclass(frozen=True)
class Predictor:
    """Anything that classifies images.

    Attributes:
        run: (n, height, width, channels) pixels to (n, classes) probabilities, both NumPy.
        image_shape: (height, width, channels); height and width are None where they are open.
        class_names: where it knows them.
        name: what errors call it.
        model: the Keras model, where it is one.
    """

    run: Callable[[np.ndarray], np.ndarray]
    image_shape: tuple[int | None, ...]
    class_names: tuple[str, ...] | None
    name: str
    model: keras.Model | None = None


def predictor(model: keras.Model | str | os.PathLike) -> Predictor:
    """Makes a predictor of a Keras model, a `.keras` file, a run's folder, a `.tflite` file or a SavedModel's folder.

    Raises:
        ValueError: if there is no such file, or it is none of these.
    """
    if isinstance(model, keras.Model):
        run = model.predict_on_batch
        return Predictor(lambda x: np.asarray(run(x), "float32"), tuple(model.input_shape[1:]), None, model.name, model)
    path = Path(model)
    checks.require(path.exists(), "There is no such file", model=str(model))
    if path.suffix == ".tflite":
        from kresnet.inference.tflite_file import TFLiteModel

        lite = TFLiteModel(path, threads=os.cpu_count() or 1)
        return Predictor(lite, lite.image_shape, tuple(lite.labels) if lite.labels else None, str(path))
    if (path / CONFIG).exists():
        config = json.loads((path / CONFIG).read_text())
        names = config.get("class_names")
        return dataclasses.replace(predictor(path / BEST), class_names=tuple(names) if names else None)
    if (path / "saved_model.pb").exists():
        return _saved_model(path)
    checks.require(path.suffix == ".keras", "Not a .keras, a .tflite, a SavedModel or a run", model=str(model))
    try:
        loaded = keras.saving.load_model(path, compile=False)
    except Exception as error:  # zipfile's, h5py's, JSON's and Keras's own
        raise ValueError(f"{path} is no whole Keras model: {error} Received: model={str(model)!r}") from None
    return dataclasses.replace(predictor(loaded), name=str(path))


def _saved_model(path: Path) -> Predictor:
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    serve = loaded.signatures["serving_default"]
    (name, spec), *others = serve.structured_input_signature[1].items()
    checks.require(
        not others and len(serve.structured_outputs) == 1,
        "A SavedModel must have one input and one output",
        model=str(path),
    )

    def run(x: np.ndarray) -> np.ndarray:
        return next(iter(serve(**{name: tf.cast(x, spec.dtype)}).values())).numpy()

    run.keep = loaded  # its variables live as long as it does
    return Predictor(run, tuple(spec.shape[1:]), None, str(path))


def predict(
    model: keras.Model | str | os.PathLike,
    files: Sequence[str | os.PathLike],
    top: int = 5,
    image_size: int | None = None,
) -> Iterator[tuple[str, list[tuple[str, float]]]]:
    """Classifies image files, seen as in evaluation: the central crop.

    Args:
        model: whatever `kresnet.evaluate` takes, of one network.
        files: paths.
        top: classes to give, at least 1.
        image_size: of a network of open size, in pixels.

    Yields:
        For each file its path, and its likeliest classes with their probabilities, likeliest first. Classes without a
        name are numbers.

    Raises:
        ValueError: if a file is no whole image, or the model's size is open and none is given.
    """
    checks.integer("top", top)
    network = predictor(model)
    height, width, channels = network.image_shape
    size = height or image_size
    checks.require(size is not None and width in (None, size), "Give the square `image_size`", image_size=image_size)
    policy = augment.policy(None, size)
    for file in files:
        image = images.decode(
            Path(file).read_bytes(), str(file), lambda h, w: tuple(map(int, policy.window(h, w, None))), size
        )
        probabilities = network.run(images.resize(image, size, channels)[None])[0]
        names = network.class_names or [str(i) for i in range(len(probabilities))]
        likeliest = np.argsort(-probabilities, kind="stable")[:top]
        yield str(file), [(names[i], float(probabilities[i])) for i in likeliest]
