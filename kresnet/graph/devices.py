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


def agree(model: keras.Model) -> None:
    """Lets devices that each keep a share of something, under TensorFlow, all keep what they make together.

    Batch norm's statistics are averaged whenever they are saved, and a metric's sums are added up, while each device
    goes on with its own: a network would be measured as another than its file is, and a resumed run round otherwise.
    Running means and sums go on as they would have.
    """
    if keras.backend.backend() == "tensorflow" and devices_of(model) > 1:
        for variable in [*model.non_trainable_variables, *model.metrics_variables]:
            if keras.backend.is_float_dtype(variable.dtype):
                variable.assign(keras.ops.convert_to_numpy(variable))


def forward(model: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from images to outputs, (n, ...), which each device computes a share of.

    Keras's `predict_on_batch` computes all of them on each device of TensorFlow's, and wants numbers that divide on
    JAX's. Where the devices are those of several processes, each computes by itself.
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

    devices = [d for d in model.variables[0].value.sharding.mesh.devices.flat if d.process_index == jax.process_index()]
    mesh = jax.sharding.Mesh(devices, "batch")
    everywhere, shares = (
        jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes)) for axes in ((), ("batch",))
    )

    @jax.jit
    def outputs(trainable: Any, fixed: Any, x: Any) -> Any:
        return model.stateless_call(trainable, fixed, x, training=False)[0]

    def here(variable: Any) -> Any:
        return jax.device_put(variable.value.addressable_data(0), everywhere)

    def run(x: np.ndarray) -> np.ndarray:
        images = jax.device_put(_filled(x, len(devices)), shares)
        values = ([here(v) for v in group] for group in (model.trainable_variables, model.non_trainable_variables))
        return np.asarray(outputs(*values, images))[: len(x)]

    return run


def _filled(x: np.ndarray, multiple: int) -> np.ndarray:
    """Returns images with the last repeated until their number is a multiple."""
    return np.concatenate([x, np.repeat(x[-1:], -len(x) % multiple, axis=0)])
