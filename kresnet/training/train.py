"""Trains a network on images by a recipe with `model.fit`, and leaves a folder with everything about the run."""

from __future__ import annotations

import dataclasses
import inspect
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kresnet import checks
from kresnet.graph.inputs import input_range
from kresnet.graph.outputs import output_kind
from kresnet.graph.ranges import RangeCheck
from kresnet.layers.normalization import statistics_across_devices
from kresnet.progress import say
from kresnet.training import auxiliary, hosts, inputs, losses, network, recipes, run, transfer
from kresnet.training import callbacks as own_callbacks
from kresnet.training import devices as device_choice
from kresnet.training.phases import Phases
from kresnet.training.recipe import Recipe
from kresnet.training.validation import Validation


def train(
    model: keras.Model | str | None = None,
    data: Any = None,
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
    patience: int | None = None,
    precision: str | None = None,
    jit_compile: bool | str = "auto",
    seed: int = 0,
    split_seed: int = 0,
    deterministic: bool = False,
    on_error: str = "raise",
    data_dir: str | os.PathLike | None = None,
    resume: bool = False,
    overwrite: bool = False,
    checkpoint_every: str = "epoch",
    devices: int | str | None = None,
    sync_batch_norm: bool = False,
    remat: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: bool = True,
    with_report: bool = True,
    **overrides: Any,
) -> keras.callbacks.History:
    """Trains a network by a recipe with `model.fit`.

    Afterwards the folder `out` holds `config.json` (everything needed to repeat the run), `history.csv`,
    `tensorboard/`, `best.keras`, `last.keras` and `report.html`. The saved networks know the names of their classes
    (`kresnet_config`) if the data do.

    A run that is killed goes on with `resume=True` as if it had not been, bit for bit where the backend computes the
    same in each process; see `kresnet.callbacks.Resume`. Until it has ended, its folder holds `state/` as well.

    Args:
        model: the registry key of a network, which is built here for the images, with the fields that the recipe sets;
            or a model of one input and one output, (batch, classes) probabilities, which is trained as it is; or one
            with auxiliary classifiers besides, for a recipe with an `auxiliary_weight`: they train along, and what is
            saved has none.
        data: a source of `kresnet.data.load`, such as "digits", a folder or "tfds:cifar10", whose "train" and
            "validation" splits are loaded as the recipe says. Or a `tf.data.Dataset` of batches of (images, labels) or
            (images, labels, weights of the images), used as it is; it must know its length. Its labels are class
            indices or shares, and are checked before each step; its images must be of the range that the network is
            made for (see `kresnet.any_range`).
        recipe: a recipe of `kresnet.recipes`, or its name, such as "bag-of-tricks".
        out: the folder of the run. Without `resume` or `overwrite` it must not hold a run already, except one that
            ended before its first epoch did.
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
        patience: after how many epochs without a better `val_accuracy` to end, at least 1. Default: never.
        precision: for a key: "float32", "mixed_bfloat16" or "mixed_float16" (the classifier stays in float32).
            Default: Keras's own policy.
        jit_compile: as in `model.compile`; "auto" compiles with XLA on a GPU, and always on JAX.
        seed: seed of the initial weights, the order and the augmentation, at least 0.
        split_seed: seed of the split, if the source has none of its own; evaluate with the same one.
        deterministic: whether TensorFlow uses deterministic operations, even where they are slower. The same seed then
            gives the same weights, bit for bit. The setting stays on for the rest of the process.
        on_error: "raise" or "skip" an image that cannot be decoded; see `kresnet.data.load`.
        data_dir: where tensorflow-datasets keeps its datasets.
        resume: whether to go on with the run in `out`, if it has not ended. The options must be those that it was begun
            with; of a run of a key on a source's name, all may be left out. One that has ended gives its history, and
            where there is none one begins.
        overwrite: whether to remove the run in `out` first.
        checkpoint_every: how often to save the state: "epoch", "500 steps", "10 minutes". SIGTERM, SIGINT (Ctrl-C) and
            SIGHUP save it as well.
        devices: how many of this machine's devices to train on, each on a share of a batch; "auto": all; under
            TensorFlow or JAX. Default: those that the model was built on (see `kresnet.on_devices`), or one.
        sync_batch_norm: whether batch norms take the statistics of all devices' images, and not each those of its own,
            under TensorFlow; under JAX they always do.
        remat: whether to train in less memory and more time; see `Network.rematerialize`. On one device.
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
            names it); if a run in `out` has other options, which are named; or if another process trains there.
        KeyboardInterrupt: after SIGTERM, SIGINT or SIGHUP, with the state saved; a `kresnet.callbacks.Interrupted`.
        RuntimeError: if the loss becomes NaN or infinite; the checkpoints of earlier epochs are kept.
    """
    given = {name: value for name, value in locals().items() if name != "overrides"}
    folder = Path(out)
    checks.require(not (resume and overwrite), "Only one can be True", resume=resume, overwrite=overwrite)
    if resume and run.is_run(folder) and not run.is_unfinished(folder):
        history = run.history(folder)
        say(f"{folder} has ended, after {len(history.epoch)} epochs: nothing is left to do")
        return history
    if resume and model is None and data is None:
        parameters = inspect.signature(train).parameters
        given = {name: value for name, value in given.items() if value is not parameters[name].default}
        return train(**run.arguments(folder) | given | overrides)
    on = device_choice.chosen(devices, model)
    going_on, writes = resume and run.is_unfinished(folder), hosts.index() == 0
    checks.require(
        resume or overwrite or not run.is_run(folder),
        f"{folder} holds a run already: `resume=True` (--resume) goes on with it, `overwrite=True` (--overwrite) "
        "begins anew",
        out=str(out),
    )
    base = recipes.get(recipe)
    source = str(data) if isinstance(data, str | os.PathLike) else None
    first = inputs.first_batch(data, "data") if source is None else None
    recipe, batch_size = inputs.with_overrides(base, overrides, None if first is None else len(first[1]))
    checks.integer("seed", seed, minimum=0)
    keras.utils.set_random_seed(seed)
    if deterministic:
        _use_deterministic_operations()

    size, own_validation = network.image_size(model, recipe), validation_data is not None
    if isinstance(validation_data, tuple):  # arrays
        validation_data = inputs.batched(validation_data, batch_size)
    several = hosts.count() > 1
    checks.require(
        not several or (source is not None and not own_validation and on_error == "raise"),
        'Several processes need a source\'s name as `data`, and on_error="raise"',
        data=data if source is None else source,
        on_error=on_error,
    )
    if source is not None:
        options = {"seed": seed, "split_seed": split_seed, "on_error": on_error, "data_dir": data_dir}
        options["grey"] = network.is_grey(model, model_fields)
        if "batch_size" not in overrides:
            batch_size = inputs.fitting_batch_size(source, batch_size, split_seed, data_dir, on.count)
        mine = options | {"shard": (hosts.index(), hosts.count())}
        data = inputs.training_images(source, recipe, size, batch_size, mine)
        if validation_data is None:
            of_source = (source, recipe, size, batch_size)
            validation_data = inputs.validation_images(*of_source, options, data.class_names)
            share = inputs.validation_images(*of_source, mine, data.class_names) if several else None
    device_choice.check(on.count, batch_size, data, recipe)
    checks.require(
        patience is None or validation_data is not None, "`patience` needs `validation_data`", patience=patience
    )
    shape = (size, size, int(data.element_spec[0].shape[-1]))
    class_names = getattr(data, "class_names", None)
    by_key, fields, key = isinstance(model, str), {}, model
    if by_key:
        fields = network.builder_arguments(key, recipe, model_fields)
    with on.scope():
        if by_key and going_on:
            model = run.network(folder, precision)
        elif by_key:
            model = network.build(key, recipe, shape, class_names, weights, precision, model_fields)
        whole, fitted, model = auxiliary.parts(model, recipe.auxiliary_weight)
    if remat:
        network.rematerialize(fitted, on.count)
    if not by_key:
        checks.require(not model_fields, "`model_fields` are for networks built by key", model_fields=model_fields)
        network.check(model, class_names, weights, precision)
    classes = model.output_shape[-1]
    fed = {"data": data, "validation_data": validation_data}
    own = {"data": data} if source is None else {}
    if source is not None:
        RangeCheck(input_range(model), "data")(np.array([0, 255]))  # as `load` gives them
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
        transfer.freeze(fitted, freeze)
    rates = transfer.layer_rates(fitted, layer_decay) if layer_decay != 1 else None
    network.describe(fitted, class_names, recipe.crop_fraction)
    config = {
        "model": key if by_key else network.key_or_name(model),
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
        "class_weight": dict(class_weight) if isinstance(class_weight, Mapping) else class_weight,
        "patience": patience,
        "precision": precision or keras.config.dtype_policy().name,
        "jit_compile": jit_compile,
        "seed": seed,
        "split_seed": split_seed,
        "deterministic": deterministic,
        "on_error": on_error,
        "data_dir": str(data_dir) if data_dir else None,
        "checkpoint_every": checkpoint_every,
        "devices": devices,
        "sync_batch_norm": sync_batch_norm,
        "remat": remat,
        "parameters": model.count_params(),
        "command": sys.argv,
    }
    if going_on:
        run.require_the_same(folder, config)
    hosts.wait("the folder is looked at")
    lock = run.hold(folder) if writes else None
    if writes and not going_on:
        run.begin(folder, config, whole if by_key else None)
    hosts.wait("the run has begun")
    checks.require(run.is_unfinished(folder), "All processes must see the same folder", out=str(out))
    verbose = verbose and writes
    if verbose:
        images = getattr(data, "examples", steps * batch_size)
        sizes = f"{images} images of {max(2, classes)} classes, {steps} steps of {batch_size} an epoch, {epochs} epochs"
        places = f" on {on.count} devices" if on.count > 1 else ""
        print(f"{config['model']} on {sizes}{places}; everything goes to {folder}/")
    checkpoint = own_callbacks.Checkpoint(folder)
    history = own_callbacks.HistoryFile(folder / run.HISTORY)
    from_logits = output_kind(model) == "logits"
    writing = [checkpoint, history, keras.callbacks.TensorBoard(folder / "tensorboard", write_graph=False)]
    validation = []
    if on.count > 1 and validation_data is not None:
        validation = [Validation(share if several else fed["validation_data"])]
        fed["validation_data"] = None
    phases = Phases(
        model=fitted,
        compiled=lambda: {
            "optimizer": recipe.optimizer_for(steps, batch_size, rates),
            "loss": recipe.loss(from_logits),
            "metrics": losses.metrics(classes, from_logits),
            "jit_compile": jit_compile,
        },
        **fed,
        epochs=epochs,
        freeze_epochs=freeze_epochs,
        callbacks=[
            *recipe.callbacks(validation),
            *own_callbacks.of_run(batch_size, verbose),
            *map(hosts.on_first, writing),
            *([own_callbacks.stop_early(patience)] if patience is not None else []),
            *callbacks,
        ],
        class_weight=weighted,
        states=folder / run.STATE,
        checkpoint_every=checkpoint_every,
    )
    with on.scope(), statistics_across_devices(sync_batch_norm), hosts.naming_a_lost_one():
        phases.fit()
    if not writes:
        return fitted.history
    fitted.history.epoch, fitted.history.history = history.epochs(), history.values()
    if with_report and validation_data is not None:
        files = None if own_validation else getattr(validation_data, "file_paths", None)
        with on.own():
            run.write_report(
                folder,
                validation_data,
                fitted.history.history,
                config,
                verbose,
                kept_epoch=checkpoint.best_epoch,
                file_paths=files,
            )
    run.finish(folder)
    if lock is not None:
        lock.close()
    return fitted.history


def _use_deterministic_operations() -> None:
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
