"""Depthwise convolution: what it computes under JAX on a CPU, and that it is Keras's elsewhere."""

import json

import keras
import numpy as np
import pytest

from kresnet import layers

CASES = [
    *({"kernel_size": 3, "padding": padding, "strides": s} for padding in ("same", "valid") for s in (1, 2, 3)),
    {"kernel_size": (5, 2), "padding": "same", "strides": 2, "use_bias": False},
    {"kernel_size": 3, "padding": "same", "dilation_rate": 2, "activation": "relu"},
    {"kernel_size": 1, "padding": "valid"},
    {"kernel_size": 3, "padding": "same", "depth_multiplier": 2},
    {"kernel_size": 3, "padding": "same", "dtype": "mixed_bfloat16"},
]
CODE = """
import json
import jax, keras, numpy as np
from jax import numpy as jnp
from kresnet import layers

random, results = np.random.default_rng(0), []
for options in json.loads(CASES):
    x = random.standard_normal((3, 12, 7, 4)).astype("float32")
    found = []
    ours, theirs = (kind(bias_initializer="ones", **options) for kind in (
        layers.DepthwiseConv2D, keras.layers.DepthwiseConv2D))
    for layer in (ours, theirs):
        layer.build(x.shape)
        layer.set_weights(ours.get_weights())
        model = keras.Sequential([keras.Input(x.shape[1:]), layer])  # which casts what goes in
        state = [v.value for v in layer.trainable_variables]
        y, back = jax.vjp(jax.jit(lambda state, x: model.stateless_call(state, [], x)[0]), state, x)
        found.append([y, *jax.tree.leaves(back(jnp.cos(y)))])
        if layer is ours:
            graph = jax.make_jaxpr(lambda x: model.stateless_call(state, [], x)[0])(x)
    results.append([
        str(graph).count("conv_general_dilated"),
        max(float(jnp.abs(a - b).max() / jnp.abs(b).max()) for a, b in zip(*found, strict=True)),
    ])
print(json.dumps(results))
"""


@pytest.mark.slow
def test_under_jax_it_is_keras_s_within_rounding(on_jax):
    results = json.loads(on_jax(f"CASES = {json.dumps(CASES)!r}\n{CODE}").splitlines()[-1])
    for (convolutions, error), options in zip(results, CASES, strict=True):
        kerass = "depth_multiplier" in options or "dtype" in options
        assert (convolutions > 0) is kerass, options
        assert error <= (0 if kerass else 1e-5), options


def test_elsewhere_it_is_keras_s():
    x = np.random.default_rng(0).standard_normal((2, 7, 8, 4))
    ours, theirs = (kind(3, padding="same") for kind in (layers.DepthwiseConv2D, keras.layers.DepthwiseConv2D))
    theirs.build(x.shape)
    ours.build(x.shape)
    theirs.set_weights(ours.get_weights())
    np.testing.assert_array_equal(ours(x), theirs(x))


def test_a_file_names_keras_s_layer_and_brings_ours_back():
    config = keras.saving.serialize_keras_object(layers.DepthwiseConv2D(3, name="conv"))
    assert (config["module"], config["class_name"]) == (
        "keras.src.layers.convolutional.depthwise_conv2d",
        "DepthwiseConv2D",
    )
    assert type(keras.saving.deserialize_keras_object(config)) is layers.DepthwiseConv2D
