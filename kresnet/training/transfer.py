"""Fine-tuning: parts that stay as they are, learning rates by depth, and the statistics of norms."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import numpy as np

from kresnet import checks
from kresnet.graph.places import block, part
from kresnet.graph.replacing import replaced
from kresnet.graph.trace import all_layers
from kresnet.weights.layout import HEAD


def freeze(model: keras.Model, until: str | bool | None = None) -> int:
    """Lets layers keep their weights in training. Norms among them keep their statistics as well.

    Layers that were frozen otherwise train again. Compile the model afterwards. A saved `.keras` keeps what is frozen.

    Args:
        model: one of our networks, or any other; the layers of models within it count as its own.
        until: the last part to freeze, with all parts before it: "stem", "stage2", ..., "head" (all but the classifier
            `predictions`, or the last layer that has weights), or the name of a layer or of a model within. None and
            True: as "head". False: nothing is frozen any longer.

    Returns:
        The number of parameters that train.

    Raises:
        ValueError: if there is no such part.
    """
    layers = [*_in_order(model)]
    until = "head" if until is None or until is True else until
    if until is False:
        last = -1
    elif until == "head":
        last = _classifier(model, [layer for layer, _ in layers]) - 1
    else:
        last = max((i for i, (_, names) in enumerate(layers) if until in names), default=None)
        if last is None:
            parts = list(dict.fromkeys([*(found for layer, _ in layers if (found := part(layer.name))), "head"]))
            close = checks.closest(until, [*parts, *(layer.name for layer, _ in layers)])
            listed = ", ".join(parts)
            raise ValueError(f"`until` must be one of {listed}, or a layer's name.{close} Received: until={until!r}")
    for layer in (model, *all_layers(model)):
        layer.trainable = True
    for layer, _ in layers[: last + 1]:
        layer.trainable = False
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


def _in_order(model: keras.Model, within: tuple[str, ...] = ()) -> Iterator[tuple[keras.layers.Layer, set[str | None]]]:
    """Yields a model's layers in its order, those of models within it in their places, with what names each."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _in_order(layer, (*within, layer.name))
        else:
            yield layer, {layer.name, part(layer.name), *within}


def _classifier(model: keras.Model, layers: list[keras.layers.Layer]) -> int:
    """Returns the place of the classifier among the layers of a model: `predictions`, or the last that has weights."""
    named = [i for i, layer in enumerate(layers) if layer.name == HEAD and layer in model.layers]
    return max(named or [i for i, layer in enumerate(layers) if layer.weights], default=0)


class Pause(keras.callbacks.Callback):
    """Ends `fit` after an epoch, but leaves the weights as they are between epochs; it comes last among callbacks.

    At its end `fit` puts the optimizer's variables in the place of the weights if it averages them, and so loses one of
    the two.

    Args:
        epochs: how many epochs to train, counted from 0.

    Attributes:
        reached: whether the last of them has ended; False if another callback has stopped training before.
    """

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.epochs, self.reached = epochs, False

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if epoch == self.epochs - 1 and not self.model.stop_training:
            self.model.stop_training = self.reached = True
            self.weights = [keras.ops.convert_to_numpy(weight).copy() for weight in self.model.trainable_weights]

    def on_train_end(self, logs: dict | None = None) -> None:
        if self.reached:
            for weight, value in zip(self.model.trainable_weights, self.weights, strict=True):
                weight.assign(value)


# Keras's callbacks that compare epochs, and forget them whenever `fit` begins.
_COMPARING = (keras.callbacks.EarlyStopping, keras.callbacks.ReduceLROnPlateau)


@contextmanager
def passing_over(
    event: str, callbacks: Iterable[keras.callbacks.Callback], when: Callable[[], bool] = lambda: True
) -> Iterator[None]:
    """Lets Keras's callbacks that compare epochs pass over an event, so that two calls of `fit` are one to them.

    When training ends, `EarlyStopping` may put the best weights in; when it begins, it and `ReduceLROnPlateau` forget
    the best epoch and how long ago it was.

    Args:
        event: "on_train_begin" or "on_train_end".
        callbacks: of which some may be such.
        when: asked when the event comes; the callbacks hear of it if the answer is False.
    """
    with ExitStack() as stack:
        for callback in callbacks:
            if isinstance(callback, _COMPARING):
                own = getattr(callback, event)
                heard = functools.partial(_unless, when, own)
                stack.enter_context(replaced(callback, event, heard))
        yield


def _unless(condition: Callable[[], bool], function: Callable[[Any], None], logs: Any = None) -> None:
    if not condition():
        function(logs)


def check_phases(epochs: int, until: str | bool | None, freeze_epochs: int | None) -> None:
    """Checks that parts are frozen for fewer epochs than all, if for a number of them.

    Raises:
        ValueError: if not.
    """
    if freeze_epochs is None:
        return
    checks.require(until is not False, "`freeze_epochs` needs `freeze`", freeze_epochs=freeze_epochs)
    checks.integer("freeze_epochs", freeze_epochs)
    checks.require(
        freeze_epochs < epochs, "`freeze_epochs` must be fewer than all", freeze_epochs=freeze_epochs, epochs=epochs
    )


def layer_rates(model: keras.Model, decay: float) -> dict[str, float]:
    """Returns by what to multiply the learning rate of each variable: less, the further from the head.

    The classifier and the head have 1, the last block `decay`, the one before it `decay` squared, and so on to the
    stem. Without a classifier the last block has 1. In other models than ours each layer counts as a block.

    Args:
        model: the model.
        decay: in (0, 1].

    Returns:
        The factors by the variables' paths, from their layers' names on.

    Raises:
        ValueError: if `decay` makes no sense.

    Source: Bao et al. 2022, arXiv:2106.08254, appendix; a group is a block, as in timm.
    """
    checks.number("layer_decay", decay, 1e-6, 1 + 1e-9, "a fraction in (0, 1]")
    layers = [layer for layer, _ in _in_order(model) if layer.weights]
    groups = ["head" if layer.name == HEAD else block(layer.name) or layer.name for layer in layers]
    ends = {"head", *groups[-1:]}  # a classifier may stand upon a network that has a head
    groups = ["head" if group in ends else group for group in groups]
    order = [*dict.fromkeys(group for group in groups if group != "head"), "head"]
    exponents = {group: len(order) - 1 - i for i, group in enumerate(order)}
    return {
        _path_within(layer, variable): decay ** exponents[group]
        for layer, group in zip(layers, groups, strict=True)
        for variable in layer.weights
    }


def _path_within(layer: keras.layers.Layer, variable: Any) -> str:
    # What comes before is lost when a `Sequential` is loaded.
    parts = variable.path.split("/")
    return "/".join(parts[parts.index(layer.name) :] if layer.name in parts else parts)


def recalibrate_batch_norm(model: keras.Model, images: Any, batches: int | None = None) -> None:
    """Computes the statistics of batch normalization anew, as the mean over batches of images.

    For networks whose weights were averaged, rounded or moved otherwise since their norms were trained. Nothing else
    changes: dropout and augmentation do nothing, and frozen norms keep their statistics. On an error the model keeps
    those that it has.

    Args:
        model: the model.
        images: batches of images or of (images, labels), such as a `tf.data.Dataset`; or an array of images, which is
            cut into batches of 32.
        batches: how many to use, at least 1. Default: all.

    Raises:
        ValueError: if there are no images, or the statistics become infinite or NaN.

    Source: Izmailov et al. 2018, arXiv:1803.05407, section 3.2.
    """
    norms = [layer for layer in all_layers(model) if isinstance(layer, keras.layers.BatchNormalization)]
    norms = [norm for norm in norms if norm.trainable]
    if batches is not None:
        checks.integer("batches", batches)
    if isinstance(images, np.ndarray):
        images = [images[i : i + 32] for i in range(0, len(images), 32)]
    before = [norm.get_weights() for norm in norms]
    try:
        count = 0
        with _as_in_training(norms):
            for batch in images:
                if count == batches:
                    break
                for norm in norms:
                    norm.momentum = count / (count + 1)  # the mean over all batches so far
                model(batch[0] if isinstance(batch, tuple | list) else batch, training=False)
                count += 1
        checks.require(count > 0, "There are no images", images=images)
        bad = [norm.name for norm in norms if not all(np.isfinite(weight).all() for weight in norm.get_weights())]
        checks.require(not bad, f"The statistics are not finite, first in {bad[:1]}", model=model.name)
    except BaseException:
        for norm, weights in zip(norms, before, strict=True):
            norm.set_weights(weights)
        raise


@contextmanager
def _as_in_training(norms: Iterable[keras.layers.BatchNormalization]) -> Iterator[None]:
    """Lets norms, and no other layer, work as in training; their momenta may be set meanwhile."""
    with ExitStack() as stack:
        for norm in norms:
            stack.enter_context(replaced(norm, "momentum", norm.momentum))
            stack.enter_context(replaced(norm, "call", functools.partial(_in_training, norm.call)))
        yield


def _in_training(call: Any, inputs: Any, training: Any = None, mask: Any = None) -> Any:
    return call(inputs, training=True, mask=mask)
