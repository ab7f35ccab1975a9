"""A network, images and a recipe into `model.fit`, and a folder that holds all that came of it."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kresnet import checks
from kresnet.data import images
from kresnet.data.loading import broken_image, load, without_tuning
from kresnet.models import registry
from kresnet.training import callbacks as own
from kresnet.training import losses, recipes, run
from kresnet.training.recipe import Recipe

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


def train(
    model: keras.Model | str,
    data: Any,
    recipe: Recipe | str = recipes.QUICK,
    *,
    out: str | os.PathLike,
    validation_data: Any = None,
    weights: str | os.PathLike | None = None,
    precision: str | None = None,
    jit_compile: bool | str = "auto",
    seed: int = 0,
    split_seed: int = 0,
    deterministic: bool = False,
    on_error: str = "raise",
    data_dir: str | os.PathLike | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: bool = True,
    with_report: bool = True,
    **overrides: Any,
) -> keras.callbacks.History:
    """Trains a network by a recipe with `model.fit`.

    The folder `out` then holds `config.json` (all that repeats the run), `history.csv`, `tensorboard/`, `best.keras`,
    `last.keras` and `report.html`.

    Args:
        model: a network's registry key, built here for the images, with what the recipe sets of it; or a model of one
            input and one output, (batch, classes) probabilities, taken as it is.
        data: a source of `kresnet.data.load`, such as "digits", a folder, "tfds:cifar10"; its "train" and "validation"
            are loaded as the recipe says. Or a `tf.data.Dataset` of (images, labels) batches, taken as it is; it must
            know its length.
        recipe: a `kresnet.recipe.Recipe`, or its name, such as "bag-of-tricks".
        out: the run's folder; it must not hold a run.
        validation_data: with a dataset, another for validation. Default: the source's own "validation".
        weights: with a key, a checkpoint of the network to start from; its classifier is left out where it has
            another number of classes.
        precision: with a key, "float32", "mixed_bfloat16" or "mixed_float16" (the classifier stays float32). Default:
            Keras's own policy.
        jit_compile: as in `model.compile`; "auto" compiles with XLA on a GPU, and always on JAX.
        seed: of the initial weights, the order and the augmentation, at least 0.
        split_seed: of what is held out, where the source does not say; `evaluate` must have the same.
        deterministic: whether TensorFlow takes operations whose results do not vary, even where they are slower: the
            same seed then gives the same weights, bit for bit. It holds for the rest of the process.
        on_error: of an image that cannot be decoded, "raise" or "skip"; see `kresnet.data.load`.
        data_dir: where tensorflow-datasets keeps its sets.
        callbacks: more Keras callbacks.
        verbose: whether to show bars and results.
        with_report: whether to write `report.html`.
        **overrides: any field of the recipe, such as `epochs=90` or `batch_size=64`. With another batch size the
            learning rate scales with it, from the recipe's own pair.

    Returns:
        Keras's `History`.

    Raises:
        ValueError: if an argument makes no sense, the classes do not match, or an image (named) is broken.
        RuntimeError: if the loss is no longer a number; the checkpoints of the epochs before stay.
    """
    base = recipes.get(recipe)
    source = data if isinstance(data, str | os.PathLike) else None
    if source is None:
        labels = _first_labels(data)
        wanted = overrides.setdefault("batch_size", len(labels))
        checks.require(wanted == len(labels), f"The dataset's batches are of {len(labels)} images", batch_size=wanted)
    batch_size = checks.integer("batch_size", overrides.get("batch_size", base.batch_size))
    recipe = base.replace(**{name: value for name, value in overrides.items() if name != "batch_size"})
    if "learning_rate" in overrides:  # given for the batches that it is given with
        recipe = recipe.replace(batch_size=batch_size)
    checks.integer("seed", seed, 0)
    keras.utils.set_random_seed(seed)
    if deterministic:
        _determinism()
    folder = Path(out)
    checks.require(not run.is_run(folder), f"{folder} holds a run already", out=str(out))

    size = _image_size(model, recipe)
    if source is not None:
        loading = {"seed": seed, "split_seed": split_seed, "on_error": on_error, "data_dir": data_dir}
        data, validation_data = _load(source, recipe, size, batch_size, validation_data, loading)
    shape, names = _described(data, size)
    built = _built(model, recipe, shape, names, weights, precision)
    classes = built.output_shape[-1]
    if source is None:
        _check_labels(labels, classes)

    steps = int(data.cardinality())
    if steps < 0:  # where images may be skipped, nobody knows before
        examples = getattr(data, "examples", None)
        checks.require(examples, "`data` must know its length: tf.data.experimental.assert_cardinality", data=data)
        steps = max(1, examples // batch_size)
    built.compile(
        recipe.optimizer_for(steps, batch_size), recipe.loss(), metrics=losses.metrics(classes), jit_compile=jit_compile
    )
    epochs = max(1, -(-recipe.total_steps(steps, batch_size) // steps))
    config = {
        "model": model if isinstance(model, str) else built.name,
        "model_fields": _fields_of(registry.get_builder(model), recipe) if isinstance(model, str) else {},
        "weights": str(weights) if weights else None,
        "data": str(source) if source is not None else None,
        "class_names": list(names) if names else None,
        "input_shape": list(shape),
        "batch_size": batch_size,
        "epochs": epochs,
        "steps_per_epoch": steps,
        "recipe": {"name": recipes.name(base), **dataclasses.asdict(recipe)},
        "precision": precision or keras.config.dtype_policy().name,
        "jit_compile": jit_compile,
        "seed": seed,
        "split_seed": split_seed,
        "deterministic": deterministic,
        "on_error": on_error,
        "parameters": built.count_params(),
        "command": sys.argv,
    }
    run.begin(folder, config)
    steps_of_fit = [
        *recipe.callbacks(),  # first: behind the average's swap everything sees the averaged weights
        *([own.Passes(data)] if hasattr(data, "epochs") else []),
        keras.callbacks.TerminateOnNaN(raise_error=True),
        own.Meter(batch_size),
        *([own.Progress(batch_size)] if verbose else []),
        own.Checkpoint(folder),
        keras.callbacks.CSVLogger(folder / "history.csv"),
        keras.callbacks.TensorBoard(folder / "tensorboard", write_graph=False),
        *callbacks,
    ]
    history = _fit(built, data, validation_data, epochs, steps_of_fit)
    if with_report and validation_data is not None:
        run.report(folder, validation_data, history.history, config, verbose)
    return history


def _fit(model: keras.Model, data: Any, validation_data: Any, epochs: int, steps: list) -> keras.callbacks.History:
    """Calls fit; an image that cannot be decoded is an error of one line."""
    try:
        return model.fit(
            without_tuning(data),
            validation_data=without_tuning(validation_data),
            epochs=epochs,
            callbacks=steps,
            verbose=0,
            shuffle=False,
        )
    except Exception as error:
        broken = broken_image(error)
        if broken is None:
            raise
        raise ValueError(broken) from None


def _load(
    source: Any, recipe: Recipe, size: int, batch_size: int, validation_data: Any, loading: dict[str, Any]
) -> tuple[Any, Any]:
    augment = recipe.augment
    if augment == "auto":
        augment = "cifar" if size < images.SMALL else "inception"
    training = load(
        source,
        "train",
        size,
        batch_size,
        augment=augment,
        flip=recipe.flip,
        mixup=recipe.mixup,
        cutmix=recipe.cutmix,
        repeats=recipe.repeats,
        **loading,
    )
    if validation_data is None:
        validation_data = load(source, "validation", size, batch_size, crop_fraction=recipe.crop_fraction, **loading)
        checks.require(
            validation_data.class_names == training.class_names,
            "Training and validation images must be of the same classes",
            validation=sorted(set(validation_data.class_names) ^ set(training.class_names)),
        )
    return training, validation_data


def _image_size(model: keras.Model | str, recipe: Recipe) -> int:
    if isinstance(model, str):
        return recipe.image_size or registry.get_builder(model).input_size
    checks.require(
        isinstance(model, keras.Model) and len(model.inputs) == len(model.outputs) == 1,
        "`model` must be a registry key or a model of one input and one output",
        model=model,
    )
    height, width = model.input_shape[1:3]
    size = recipe.image_size or height
    known = height in (None, size) and width in (None, size)
    checks.require(
        size is not None and known,
        "The model's images must be square, of `image_size` pixels",
        input_shape=model.input_shape,
        image_size=size,
    )
    return size


def _described(dataset: Any, size: int) -> tuple[tuple[int, int, int], tuple[str, ...] | None]:
    """Returns the images' shape and the classes' names, None where the dataset does not tell."""
    names = getattr(dataset, "class_names", None)
    return (size, size, int(dataset.element_spec[0].shape[-1])), tuple(names) if names else None


def _built(model, recipe, shape, names, weight_file, precision) -> keras.Model:
    checks.choice("precision", precision, (*PRECISIONS, None))
    if not isinstance(model, str):
        checks.require(
            precision is None and weight_file is None,
            "`precision` and `weights` are for networks that are built here, by their key",
            precision=precision,
            weights=weight_file,
        )
        if names:
            checks.require(
                model.output_shape[-1] == len(names),
                "The network must have the images' classes",
                network=model.output_shape[-1],
                images=len(names),
            )
        return model
    checks.require(
        names, "A network is built for `data` that knows its `class_names`: give a source's name", model=model
    )
    builder = registry.get_builder(model)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision or policy)
    try:
        fields = _fields_of(builder, recipe)
        built = builder(input_shape=shape, classes=len(names), **fields)
        if weight_file is not None:
            _start_from(built, builder, shape, weight_file, fields)
    finally:
        keras.config.set_dtype_policy(policy)
    return built


def _fields_of(builder: Any, recipe: Recipe) -> dict[str, Any]:
    known = {field.name for field in dataclasses.fields(builder.spec)} | {"classifier_activation"}
    return {name: value for name, value in recipe.model_fields().items() if name in known}


def _start_from(model: keras.Model, builder: Any, shape: Sequence[int], file: Any, fields: dict[str, Any]) -> None:
    """Loads a checkpoint, all but the classifier."""
    fields = {name: value for name, value in fields.items() if name != "classifier_activation"}
    body = builder(include_top=False, weights=file, input_shape=shape, **fields)
    for layer in body.layers:
        if layer.weights:
            model.get_layer(layer.name).set_weights(layer.get_weights())


def _check_labels(labels: np.ndarray, classes: int) -> None:
    """A label out of range would be a silent NaN under XLA."""
    if labels.ndim == 1 or labels.shape[-1] == 1:
        ok = labels.min() >= 0 and labels.max() < classes
        checks.require(ok, f"Labels must be in 0 to {classes - 1}", label=int(labels.max()))
    else:
        ok = labels.shape[-1] == classes
        checks.require(ok, "The network must have the labels' classes", network=classes, labels=labels.shape[-1])


def _first_labels(dataset: Any) -> np.ndarray:
    """Returns the labels of a dataset's first batch, whose size is what learning rates scale with."""
    spec = getattr(dataset, "element_spec", None)
    ok = isinstance(spec, tuple) and len(spec) == 2 and getattr(spec[0], "shape", None) is not None
    checks.require(ok, "`data` must be a source's name or a tf.data.Dataset of (images, labels)", data=dataset)
    labels = next((np.asarray(labels) for _, labels in dataset.take(1)), ())
    checks.require(len(labels) > 0, "There are no images", data=dataset)
    return labels


def _determinism() -> None:
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
