"""Several processes, of one machine or many, that train one network under JAX."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator

import keras
import numpy as np

from kresnet import checks

# Seconds after which a process that says nothing counts as lost.
PATIENCE = 60
# Of what carries numbers between processes, and of what watches over them.
_OF_OTHERS = re.compile(
    r"gloo|nccl|rccl|heartbeat|coordination|unavailable|deadline|barrier|connection|socket", re.IGNORECASE
)


class Lost(ConnectionError):
    """Another process of the job is lost, and with it the job."""


def join(coordinator: str, processes: int | None = None, process_id: int | None = None) -> None:
    """Joins this process with others to one job, before anything is computed.

    Each runs the same program, such as `kresnet.train`, which then uses the devices of all, and each reads its own
    share of a batch. The first writes the run's folder, which all of them must see.

    Args:
        coordinator: "HOST:PORT" of the first process, which must be free there; or "auto" under SLURM, Open MPI's
            `mpirun` or on a Cloud TPU, whose variables tell all three.
        processes: how many there are, at least 1. Default: what `JAX_NUM_PROCESSES` says.
        process_id: the number of this one, from 0. Default: what `JAX_PROCESS_ID` says, or, in an indexed Job of
            Kubernetes, `JOB_COMPLETION_INDEX`.

    Raises:
        ValueError: if the backend is not JAX, or an argument is missing or makes no sense.
        RuntimeError: if the others do not come within five minutes.
    """
    backend = keras.backend.backend()
    checks.require(
        backend == "jax",
        "Several processes need Keras's JAX backend, KERAS_BACKEND=jax: its `fit` does not work with TensorFlow's "
        "MultiWorkerMirroredStrategy (keras#20585)",
        backend=backend,
    )
    import jax

    own = {}
    if coordinator != "auto":
        host, _, port = str(coordinator).rpartition(":")
        checks.require(bool(host) and port.isdigit(), "`coordinator` is written HOST:PORT", coordinator=coordinator)
        processes = _number("processes", processes, ("JAX_NUM_PROCESSES",))
        process_id = _number("process_id", process_id, ("JAX_PROCESS_ID", "JOB_COMPLETION_INDEX"))
        checks.integer("processes", processes)
        checks.require(0 <= process_id < processes, f"`process_id` is 0 to {processes - 1}", process_id=process_id)
        own = {"coordinator_address": coordinator, "num_processes": processes, "process_id": process_id}
    try:
        jax.distributed.initialize(
            **own, heartbeat_timeout_seconds=PATIENCE, initialization_timeout=300, shutdown_timeout_seconds=3600
        )
    except ValueError as error:  # of what a cluster's variables do not say
        said = f"No cluster's variables tell what JAX needs ({error}): give HOST:PORT, `processes` and `process_id`"
        raise ValueError(f"{said}. Received: coordinator={coordinator!r}") from None


def _number(name: str, given: int | None, variables: tuple[str, ...]) -> int:
    found = next((os.environ[variable] for variable in variables if variable in os.environ), None)
    value = given if given is not None else found
    checks.require(
        value is not None and str(value).isdigit(), f"Give `{name}`, or set {' or '.join(variables)}", **{name: value}
    )
    return int(value)


def count() -> int:
    """Returns the number of processes that train together."""
    if keras.backend.backend() != "jax":
        return 1
    import jax

    return jax.process_count() if jax.distributed.is_initialized() else 1


def index() -> int:
    """Returns this process's number; the first, 0, writes."""
    if count() == 1:
        return 0
    import jax

    return jax.process_index()


@contextlib.contextmanager
def naming_a_lost_one() -> Iterator[None]:
    """Turns what JAX says when another process is lost into a `Lost`."""
    if count() == 1:
        yield
        return
    import jax

    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:  # the second from what is run operation by operation
        said = " ".join(str(error).split())[:200]
        if not _OF_OTHERS.search(said):
            raise
        raise Lost(
            f"Another of the {count()} processes is lost, and with it this job: start it again with `resume=True` "
            f"(--resume), on as many processes as a batch divides among. What was heard: {said}"
        ) from None


@naming_a_lost_one()
def wait(name: str) -> None:
    """Waits until all processes have come to the place of this name."""
    if count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


@naming_a_lost_one()
def summed(numbers: np.ndarray) -> np.ndarray:
    """Returns the sums over all processes, which must all call this."""
    if count() == 1:
        return numbers
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(np.asarray(numbers))).sum(axis=0)


@naming_a_lost_one()
def largest(number: int) -> int:
    """Returns the largest number that a process gives; all must call this."""
    if count() == 1:
        return number
    from jax.experimental import multihost_utils

    return int(np.max(multihost_utils.process_allgather(np.asarray(number))))


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """What this process does while it is open, the others need not do as well."""
    if count() == 1:
        yield
        return
    all_of_them = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(all_of_them)


def on_first(callback: keras.callbacks.Callback) -> keras.callbacks.Callback:
    """Returns a callback that writes as it is on the first process, and one of its name that does nothing on others."""
    if index() == 0:
        return callback
    state = {"get_state": lambda self: None, "set_state": lambda self, state: None}
    return type(type(callback).__name__, (keras.callbacks.Callback,), state if hasattr(callback, "get_state") else {})()
