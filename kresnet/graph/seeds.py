"""Where Keras's layers of random image operations draw their numbers from."""

from __future__ import annotations

import keras

from kresnet.graph.trace import all_layers


def draw_from(layer: keras.layers.Layer, seeds: keras.random.SeedGenerator) -> None:
    """Makes a layer, and the layers within it, draw from `seeds` instead of from their own generators."""
    for part in (layer, *all_layers(layer)):
        part._get_seed_generator = lambda backend=None: seeds
