"""What makes thousands of layers quick to construct."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from typing import Any

import keras


@contextlib.contextmanager
def constructing() -> Iterator[None]:
    """Within it layers and their variables are made in less time, and are the same.

    Python's collector of cycles stands still: each of its passes goes through all layers made so far, of which none is
    garbage. And variables are made under one name, and get their own once they are there: TensorFlow has a name for an
    attribute of the operation that makes the variable, and prepares that operation anew for each one.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        with _alike() if keras.backend.backend() == "tensorflow" else contextlib.nullcontext():
            yield
    finally:
        if collects:
            gc.enable()


def _alike() -> contextlib.AbstractContextManager[None]:
    import tensorflow as tf

    def create(following: Any, **kwargs: Any) -> Any:
        if tf.distribute.has_strategy():  # its variables are several, each with a name
            return following(**kwargs)
        scope = tf.get_current_name_scope()
        with tf.name_scope("kresnet/"):  # the slash: not within the present one
            variable = following(**kwargs | {"name": "variable"})
        variable._handle_name = f"{scope}/{kwargs['name']}:0" if scope else f"{kwargs['name']}:0"
        return variable

    return tf.variable_creator_scope(create)
