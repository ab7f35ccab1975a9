"""The devices that a network is built and trained on: one, or several of a machine's, or those of several processes."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import keras

from kresnet import checks
from kresnet.graph.devices import devices_of
from kresnet.training import hosts
from kresnet.training.recipe import Recipe

_OTHERS = (
    "Keras's `fit` does not work with {} (keras#20585): `devices=` uses those of one machine; for several, train under "
    "JAX, KERAS_BACKEND=jax and `kresnet train --coordinator HOST:PORT`"
)


@dataclasses.dataclass(frozen=True)
class Devices:
    """What a run trains on.

    Attributes:
        count: of all processes.
        scope: makes the context in which a network is built, compiled and trained.
        own: likewise, of the devices of this process, for what it computes alone.
    """

    count: int
    scope: Callable[[], contextlib.AbstractContextManager]
    own: Callable[[], contextlib.AbstractContextManager]


def chosen(devices: int | str | None, model: Any = None) -> Devices:
    """Returns the devices to train on.

    Args:
        devices: how many, at least 1; "auto" for all; None for those that the model was built on, or one.
        model: a Keras model, or anything else if none is built yet.

    Raises:
        ValueError: if there are not as many, the model was built on others, or a distribution is set that Keras does
            not support.
    """
    backend, several = keras.backend.backend(), hosts.count() > 1
    built = devices_of(model) if isinstance(model, keras.Model) else None
    _refuse_unsupported(model)
    ok = devices in (None, "auto") or (isinstance(devices, int) and not isinstance(devices, bool) and devices > 0)
    checks.require(ok, '`devices` must be a number of at least 1, or "auto" for all', devices=devices)
    names = _names()
    count = len(names) if devices == "auto" or (devices is None and several) else devices or built or 1
    checks.require(
        count <= len(names),
        f"Keras's {backend} backend has {len(names)} of them here: {', '.join(map(str, names))}",
        devices=devices,
    )
    checks.require(
        not several or count == len(names), "Several processes train on all of their devices", devices=devices
    )
    checks.require(
        built in (None, count),
        f"The model was built on {built} and is to be trained on {count}: build it `with kresnet.on_devices({count}):`",
        devices=devices,
    )
    if count == 1:
        return Devices(1, contextlib.nullcontext, contextlib.nullcontext)
    if backend == "tensorflow":
        import tensorflow as tf

        strategy = model.distribute_strategy if built else tf.distribute.MirroredStrategy(names[:count])
        return Devices(count, strategy.scope, strategy.scope)
    all_of_them = _data_parallel(names[:count])
    return Devices(count, all_of_them.scope, _data_parallel(_names(own=True)).scope if several else all_of_them.scope)


@contextlib.contextmanager
def on_devices(devices: int | str = "auto") -> Iterator[None]:
    """Builds networks on several devices of this machine, each of which trains on a share of a batch.

        with kresnet.on_devices(2):
            model = kresnet.ResNet50(classes=5)
        kresnet.train(model, data, out="runs/x")

    A network that is built by its key needs none of this: `kresnet.train("resnet50", data, devices=2, out="runs/x")`.

    Args:
        devices: how many, at least 1; "auto" for all.

    Raises:
        ValueError: if there are not as many, or Keras's backend is PyTorch and it is not one.
    """
    with chosen(devices).scope():
        yield


def check(count: int, batch_size: int, data: Any, recipe: Recipe) -> None:
    """Checks that what a run does can be done on several devices as on one.

    Raises:
        ValueError: if a batch does not divide among them, the training data may end with a smaller one, or Keras would
            clip the gradients of each device by themselves.
    """
    if count == 1:
        return
    checks.require(batch_size % count == 0, f"A batch must divide among {count} devices", batch_size=batch_size)
    checks.require(
        data.element_spec[0].shape[0] is not None,
        "On several devices all batches of `data` have the same size: batch it with `drop_remainder=True`",
        data=data,
    )
    checks.require(
        recipe.clip_norm is None or keras.backend.backend() != "tensorflow",
        "Under TensorFlow Keras clips each device's gradients by themselves: train under JAX",
        clip_norm=recipe.clip_norm,
    )


def _names(own: bool = False) -> list[Any]:
    """Returns the devices that Keras's backend has, of all processes or of this one: accelerators, or else CPUs."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return [f"{device.device_type}:{device.name.rpartition(':')[2]}" for device in found]
    if keras.backend.backend() == "jax":
        import jax

        return jax.local_devices() if own else jax.devices()
    return ["the default one"]


def _data_parallel(devices: list[Any]) -> keras.distribution.Distribution:
    # What each process reads is its share already.
    return keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)


def _refuse_unsupported(model: Any) -> None:
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    checks.require(
        keras.distribution.distribution() is None,
        "Under TensorFlow Keras's distributions compute all on one device: give `devices=` instead",
        distribution=keras.distribution.distribution(),
    )
    strategies = {tf.distribute.get_strategy()}
    if isinstance(model, keras.Model):
        strategies.add(model.distribute_strategy)
    for strategy in strategies:
        ours = isinstance(strategy, tf.distribute.MirroredStrategy | tf.distribute.OneDeviceStrategy)
        name = type(strategy).__name__.replace("CollectiveAllReduce", "MultiWorkerMirrored")
        checks.require(ours or name.startswith("_Default"), _OTHERS.format(name), strategy=name)
