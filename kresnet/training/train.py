"""Trains a network on images by a recipe with `model.fit`, and leaves a folder with everything about the run."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kresnet import checks
from kresnet.data.loading import broken_image, ended, without_tuning
from kresnet.graph.outputs import output_kind
from kresnet.training import callbacks as own_callbacks
from kresnet.training import inputs, losses, network, recipes, run, transfer
from kresnet.training.recipe import Recipe


def train(
    model: keras.Model | str,
    data: Any,
    recipe: Recipe | str = recipes.QUICK,
    *,
    out: str | os.PathLike,
    validation_data: Any = None,
    weights: str | os.PathLike | None = None,
    model_fields: Mapping[str, Any] | None = None,
    freeze: str | bool | None = False,
    freeze_epochs: int | None = None,
    layer_decay: float = 1.0,
    class_weight: Mapping[int, float] | str | None = None,
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

    Afterwards the folder `out` holds `config.json` (everything needed to repeat the run), `history.csv`,
    `tensorboard/`, `best.keras`, `last.keras` and `report.html`. The saved networks know the names of their classes
    (`kresnet_config`) if the data do.

    Args:
        model: the registry key of a network, which is built here for the images, with the fields that the recipe sets;
            or a model of one input and one output, (batch, classes) probabilities, which is trained as it is.
        data: a source of `kresnet.data.load`, such as "digits", a folder or "tfds:cifar10", whose "train" and
            "validation" splits are loaded as the recipe says. Or a `tf.data.Dataset` of batches of (images, labels) or
            (images, labels, weights of the images), used as it is; it must know its length. Its labels are class
            indices or shares, and are checked before each step; its images must be of the range that the network is
            made for (see `kresnet.any_range`).
        recipe: a recipe of `kresnet.recipes`, or its name, such as "bag-of-tricks".
        out: the folder of the run. It must not hold a run already, except one that ended before its first epoch did.
        validation_data: a `tf.data.Dataset` to validate with. Default: the "validation" split of the source.
        weights: for a key: what to start from, as in the network's builder: "imagenet", a tag, "hf://..." or a file.
            Where its classes are others, the classifier is new.
        model_fields: for a key: fields of the network's spec, such as `{"padding": "same"}`, and `weights_origin`.
        freeze: the last part of the network that keeps its weights, with all parts before it: "stem", "stage2", ...,
            "head" (all but the classifier); see `kresnet.freeze`. Default: the model's layers stay as they are.
        freeze_epochs: for how many epochs; then all of the network trains, by the same schedule. Default: all epochs.
            Callbacks begin to train twice then, but Keras's that compare epochs (EarlyStopping, ReduceLROnPlateau) go
            on; one that stops training ends the run in either phase.
        layer_decay: in (0, 1]; a block's learning rate is the next one's times this, and the classifier's is the
            recipe's (Bao et al. 2022, arXiv:2106.08254, appendix).
        class_weight: by what to multiply the losses of each class: "balanced", by the inverse of its number of images,
            or a mapping from class indices to numbers of at least 0.
        precision: for a key: "float32", "mixed_bfloat16" or "mixed_float16" (the classifier stays in float32).
            Default: Keras's own policy.
        jit_compile: as in `model.compile`; "auto" compiles with XLA on a GPU, and always on JAX.
        seed: seed of the initial weights, the order and the augmentation, at least 0.
        split_seed: seed of the split, if the source has none of its own; evaluate with the same one.
        deterministic: whether TensorFlow uses deterministic operations, even where they are slower. The same seed then
            gives the same weights, bit for bit. The setting stays on for the rest of the process.
        on_error: "raise" or "skip" an image that cannot be decoded; see `kresnet.data.load`.
        data_dir: where tensorflow-datasets keeps its datasets.
        callbacks: further Keras callbacks.
        verbose: whether to show progress and results.
        with_report: whether to write `report.html`.
        **overrides: any field of the recipe, such as `epochs=90` or `batch_size=64`. If only the batch size is given,
            the recipe's learning rate is scaled with it. Of a source with few images, the recipe's batch size is
            halved until an epoch has 8 steps, and the learning rate with it, which is said.

    Returns:
        Keras's `History`.

    Raises:
        ValueError: if an argument makes no sense, the classes do not match, or an image cannot be decoded (the error
            names it).
        RuntimeError: if the loss becomes NaN or infinite; the checkpoints of earlier epochs are kept.
    """
    base = recipes.get(recipe)
    source = str(data) if isinstance(data, str | os.PathLike) else None
    first = inputs.first_batch(data, "data") if source is None else None
    recipe, batch_size = _with_overrides(base, overrides, None if first is None else first[1])
    checks.integer("seed", seed, 0)
    keras.utils.set_random_seed(seed)
    if deterministic:
        _use_deterministic_operations()
    folder = Path(out)
    checks.require(not run.is_run(folder), f"{folder} holds a run already", out=str(out))

    size, own_validation = network.image_size(model, recipe), validation_data is not None
    if isinstance(validation_data, tuple):  # arrays
        validation_data = inputs.batched(validation_data, batch_size)
    if source is not None:
        options = {"seed": seed, "split_seed": split_seed, "on_error": on_error, "data_dir": data_dir}
        if "batch_size" not in overrides:
            batch_size = inputs.fitting_batch_size(source, batch_size, split_seed, data_dir)
        data, validation_data = inputs.loaded(source, recipe, size, batch_size, validation_data, options)
    shape = (size, size, int(data.element_spec[0].shape[-1]))
    class_names = getattr(data, "class_names", None)
    fields = {}
    if isinstance(model, str):
        fields = network.builder_arguments(model, recipe, model_fields)
        model = network.build(model, recipe, shape, class_names, weights, precision, model_fields)
    else:
        checks.require(not model_fields, "`model_fields` are for networks built by key", model_fields=model_fields)
        network.check(model, class_names, weights, precision)
    classes = model.output_shape[-1]
    fed = {"data": data, "validation_data": validation_data}
    own = {"data": data} if source is None else {}
    own |= {"validation_data": validation_data} if own_validation else {}
    fed |= inputs.checked(model, recipe.binary, {} if first is None else {"data": first}, own)
    weighted = inputs.class_weights(class_weight, data, classes)
    checks.require(
        weighted is None or len(data.element_spec) == 2,
        "`data` has weights of its own",
        class_weight=class_weight,
    )
    steps = inputs.steps_per_epoch(data, batch_size)
    epochs = max(1, -(-recipe.total_steps(steps, batch_size) // steps))
    transfer.check_phases(epochs, freeze, freeze_epochs)
    if freeze is not False:
        transfer.freeze(model, freeze)
    rates = transfer.layer_rates(model, layer_decay) if layer_decay != 1 else None
    network.describe(model, class_names, recipe.crop_fraction)
    config = {
        "model": network.key_or_name(model),
        "model_fields": fields,
        "weights": str(weights) if weights else None,
        "data": source,
        "class_names": list(class_names) if class_names else None,
        "input_shape": list(shape),
        "batch_size": batch_size,
        "epochs": epochs,
        "steps_per_epoch": steps,
        "recipe": {"name": recipes.name(base), **dataclasses.asdict(recipe)},
        "freeze": freeze,
        "freeze_epochs": freeze_epochs,
        "layer_decay": layer_decay,
        "precision": precision or keras.config.dtype_policy().name,
        "jit_compile": jit_compile,
        "seed": seed,
        "split_seed": split_seed,
        "deterministic": deterministic,
        "on_error": on_error,
        "parameters": model.count_params(),
        "command": sys.argv,
    }
    run.begin(folder, config)
    if verbose:
        images = getattr(data, "examples", steps * batch_size)
        sizes = f"{images} images of {max(2, classes)} classes, {steps} steps of {batch_size} an epoch, {epochs} epochs"
        print(f"{config['model']} on {sizes}; everything goes to {folder}/")
    all_callbacks = [*_callbacks(recipe, data, batch_size, folder, verbose), *callbacks]
    pause = [transfer.Pause(freeze_epochs)] if freeze_epochs else []
    from_logits = output_kind(model) == "logits"
    compiled = {
        "loss": recipe.loss(from_logits),
        "metrics": losses.metrics(classes, from_logits),
        "jit_compile": jit_compile,
    }
    optimizer = recipe.optimizer_for(steps, batch_size, rates)
    model.compile(optimizer, **compiled)
    with transfer.passing_over("on_train_end", all_callbacks, lambda: bool(pause and pause[0].reached)):
        history = _fit(model, fed, epochs, [*all_callbacks, *pause], weighted)
    if pause and pause[0].reached:
        transfer.freeze(model, False)
        before, optimizer = optimizer, recipe.optimizer_for(steps, batch_size, rates)
        optimizer.build(model.trainable_variables)
        optimizer.go_on_from(before)
        model.compile(optimizer, **compiled)
        with transfer.passing_over("on_train_begin", all_callbacks):
            history = _fit(model, fed, epochs, all_callbacks, weighted, history)
    if with_report and validation_data is not None:
        kept = next(one.best_epoch for one in all_callbacks if isinstance(one, own_callbacks.Checkpoint))
        files = None if own_validation else getattr(validation_data, "file_paths", None)
        run.write_report(folder, validation_data, history.history, config, verbose, kept_epoch=kept, file_paths=files)
    return history


def _with_overrides(base: Recipe, overrides: dict[str, Any], first_labels: np.ndarray | None) -> tuple[Recipe, int]:
    """Returns the recipe with the overridden fields, and the batch size.

    The recipe keeps its own batch size, by which its learning rate is scaled, unless a learning rate is given too.
    """
    batch_size = overrides.get("batch_size", base.batch_size if first_labels is None else len(first_labels))
    if first_labels is not None:
        actual = len(first_labels)
        checks.require(batch_size == actual, f"The dataset's batches hold {actual} images", batch_size=batch_size)
    batch_size = checks.integer("batch_size", batch_size)
    recipe = base.replace(**{name: value for name, value in overrides.items() if name != "batch_size"})
    return (recipe.replace(batch_size=batch_size) if "learning_rate" in overrides else recipe), batch_size


def _callbacks(
    recipe: Recipe, data: Any, batch_size: int, folder: Path, verbose: bool
) -> list[keras.callbacks.Callback]:
    return [
        *recipe.callbacks(),  # first: the callbacks after it then see the averaged weights
        *([own_callbacks.DatasetEpoch(data)] if hasattr(data, "epochs") else []),
        keras.callbacks.TerminateOnNaN(raise_error=True),
        own_callbacks.Meter(batch_size),
        *([own_callbacks.Progress(batch_size)] if verbose else []),
        own_callbacks.Checkpoint(folder),
        keras.callbacks.CSVLogger(folder / "history.csv"),
        keras.callbacks.TensorBoard(folder / "tensorboard", write_graph=False),
    ]


def _fit(
    model: keras.Model,
    fed: dict[str, Any],
    epochs: int,
    callbacks: list[keras.callbacks.Callback],
    class_weight: dict[int, float] | None,
    so_far: keras.callbacks.History | None = None,
) -> keras.callbacks.History:
    """Calls `fit`, which goes on from an earlier history; what the data are refused for becomes a `ValueError`."""
    if so_far is not None:
        for logger in callbacks:
            if isinstance(logger, keras.callbacks.CSVLogger):
                logger.append = True
    try:
        history = model.fit(
            without_tuning(fed["data"]),
            validation_data=without_tuning(fed["validation_data"]),
            epochs=epochs,
            initial_epoch=len(so_far.epoch) if so_far else 0,
            callbacks=callbacks,
            class_weight=class_weight,
            verbose=0,
            shuffle=False,
        )
    except Exception as error:
        refused = inputs.refused_labels(error) or broken_image(error)
        if refused is None:
            raise
    else:
        refused = None
    if refused is not None:  # outside of `except`, so that this error does not keep that one, and with it the iterator
        ended()
        raise ValueError(refused)
    if so_far is not None:
        history.epoch[:0] = so_far.epoch
        history.history = {name: so_far.history.get(name, []) + values for name, values in history.history.items()}
    return history


def _use_deterministic_operations() -> None:
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
