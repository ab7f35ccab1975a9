"""Where Keras's layers draw their random numbers from."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np

from kresnet.graph.trace import all_layers


def draw_from(layer: keras.layers.Layer, seeds: keras.random.SeedGenerator) -> None:
    """Makes a layer, and the layers within it, draw from `seeds` instead of from their own generators."""
    for part in (layer, *all_layers(layer)):
        part._get_seed_generator = lambda backend=None: seeds


def state_of_generators() -> dict[str, np.ndarray]:
    """Returns the state of what layers draw from besides seed generators: under PyTorch, `Dropout` from its own."""
    if keras.backend.backend() != "torch":
        return {}
    import torch

    found = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        found |= {f"cuda{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    return {name: state.numpy() for name, state in found.items()}


def give_to_generators(states: Mapping[str, np.ndarray]) -> None:
    """Sets what `state_of_generators` returned; a device that is not there any more is passed over."""
    if not states:
        return
    import torch

    torch.set_rng_state(torch.from_numpy(states["cpu"]))
    for i in range(torch.cuda.device_count()):
        if f"cuda{i}" in states:
            torch.cuda.set_rng_state(torch.from_numpy(states[f"cuda{i}"]), i)
