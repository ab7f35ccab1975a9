"""What callbacks remember from epoch to epoch, as a state on disk has it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from kresnet.progress import say

# What Keras's callbacks remember from epoch to epoch. Others are asked for `get_state()`.
_REMEMBERED: dict[type, tuple[str, ...]] = {
    keras.callbacks.EarlyStopping: ("best", "best_epoch", "best_weights", "stopped_epoch", "wait"),
    keras.callbacks.ReduceLROnPlateau: ("best", "cooldown_counter", "wait"),
    keras.callbacks.ModelCheckpoint: ("best",),
}


def remembers(callback: keras.callbacks.Callback) -> bool:
    """Tells whether a callback has a state from epoch to epoch."""
    return hasattr(callback, "get_state") or isinstance(callback, tuple(_REMEMBERED))


def state_of(callback: keras.callbacks.Callback) -> Any:
    """Returns what a callback that `remembers` does: what its `get_state()` says, or attributes of Keras's."""
    if hasattr(callback, "get_state"):
        return callback.get_state()
    names = next(names for kind, names in _REMEMBERED.items() if isinstance(callback, kind))
    return {name: getattr(callback, name, None) for name in names}


def give_state(callback: keras.callbacks.Callback, state: Any) -> None:
    """Lets a callback remember what `state_of` returned."""
    if hasattr(callback, "set_state"):
        callback.set_state(state)
        return
    for name, value in state.items():
        setattr(callback, name, value)


def say_of_loss(callback: keras.callbacks.Callback) -> None:
    """Says of a callback without a state, unless it is Keras's or ours, that what it remembers is lost."""
    if not type(callback).__module__.startswith(("keras.", "kresnet.")):  # these need no more than one epoch's
        say(f"{type(callback).__name__} has no `get_state` and `set_state`: what it remembers begins anew.")


def packed(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """Returns a value as JSON has it; its arrays are put among the others, under names that begin with `name`."""
    if isinstance(value, dict):
        return {key: packed(item, f"{name}.{key}", arrays) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [packed(item, f"{name}.{i}", arrays) for i, item in enumerate(value)]
    if isinstance(value, np.ndarray) and value.ndim:
        arrays[name] = value
        return {"array": name}
    return value.item() if isinstance(value, np.generic | np.ndarray) else value


def unpacked(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, dict):
        return arrays[value["array"]] if set(value) == {"array"} else {k: unpacked(v, arrays) for k, v in value.items()}
    return [unpacked(item, arrays) for item in value] if isinstance(value, list) else value
