"""Forward passes on all the devices that a network was built on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np


def devices_of(model: keras.Model) -> int:
    """Returns on how many devices a network's variables lie."""
    if keras.backend.backend() == "tensorflow":
        return model.distribute_strategy.num_replicas_in_sync
    if keras.backend.backend() == "jax" and model.variables:
        return len(model.variables[0].value.sharding.device_set)
    return 1


def forward(model: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from images to outputs, (n, ...), which each device computes a share of.

    Keras's `predict_on_batch` computes all of them on each device of TensorFlow's, and wants numbers that divide on
    JAX's. Where the devices are those of several processes, each gives its own images, as many as the others, and gets
    its own outputs.
    """
    if devices_of(model) == 1:
        return model.predict_on_batch
    return _mirrored(model) if keras.backend.backend() == "tensorflow" else _sharded(model)


def _mirrored(model: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    import tensorflow as tf

    strategy = model.distribute_strategy
    count = strategy.num_replicas_in_sync

    @tf.function
    def outputs(parts: Any) -> Any:
        return strategy.run(lambda part: model(part, training=False), (parts,))

    def run(x: np.ndarray) -> np.ndarray:
        parts = np.split(_filled(x, count), count)
        of_each = strategy.experimental_distribute_values_from_function(
            lambda context: tf.convert_to_tensor(parts[context.replica_id_in_sync_group])
        )
        found = strategy.experimental_local_results(outputs(of_each))
        return np.concatenate([part.numpy() for part in found])[: len(x)]

    return run


def _sharded(model: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    import jax

    mesh = model.variables[0].value.sharding.mesh
    along_batch = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(mesh.axis_names[0]))
    count = sum(device.process_index == jax.process_index() for device in mesh.devices.flat)

    @jax.jit
    def outputs(trainable: Any, fixed: Any, x: Any) -> Any:
        return model.stateless_call(trainable, fixed, x, training=False)[0]

    def run(x: np.ndarray) -> np.ndarray:
        images = jax.make_array_from_process_local_data(along_batch, _filled(x, count))
        values = ([v.value for v in group] for group in (model.trainable_variables, model.non_trainable_variables))
        found = jax.device_put(outputs(*values, images), along_batch)
        parts = sorted(found.addressable_shards, key=lambda shard: shard.index[0].start or 0)
        return np.concatenate([np.asarray(part.data) for part in parts])[: len(x)]

    return run


def _filled(x: np.ndarray, multiple: int) -> np.ndarray:
    """Returns images with the last repeated until their number is a multiple."""
    return np.concatenate([x, np.repeat(x[-1:], -len(x) % multiple, axis=0)])
