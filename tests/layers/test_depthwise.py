"""Depthwise and grouped convolution: what they compute under JAX on a CPU, and that the first is Keras's elsewhere."""

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
GROUPED = [
    {"filters": 6, "kernel_size": 3, "groups": 2, "padding": "same"},
    {"filters": 8, "kernel_size": 3, "groups": 4, "padding": "same", "strides": 2, "use_bias": False},
    {"filters": 4, "kernel_size": (3, 2), "groups": 2, "dilation_rate": 2},
    {"filters": 4, "kernel_size": 1, "groups": 4, "strides": 3},
    {"filters": 4, "kernel_size": 3, "groups": 2, "dtype": "mixed_bfloat16"},
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
    kinds = "GroupedConv2D Conv2D" if "groups" in options else "DepthwiseConv2D DepthwiseConv2D"
    ours, theirs = (getattr(room, kind)(bias_initializer="ones", **options) for room, kind in zip(
        (layers, keras.layers), kinds.split()))
    for layer in (ours, theirs):
        layer.build(x.shape)
        layer.set_weights(ours.get_weights())
        model = keras.Sequential([keras.Input(x.shape[1:]), layer])  # which casts what goes in
        state = [v.value for v in layer.trainable_variables]
        y, back = jax.vjp(jax.jit(lambda state, x: model.stateless_call(state, [], x)[0]), state, x)
        found.append([y, *jax.tree.leaves(back(jnp.cos(y)))])
        if layer is ours:
            graph = jax.make_jaxpr(jax.grad(lambda state: model.stateless_call(state, [], x)[0].sum()))(state)
    results.append([
        str(graph).count("conv_general_dilated"),
        max(float(jnp.abs(a - b).max() / jnp.abs(b).max()) for a, b in zip(*found, strict=True)),
    ])
print(json.dumps(results))
"""


@pytest.mark.slow
def test_under_jax_it_is_keras_s_within_rounding(on_jax):
    cases = CASES + GROUPED
    results = json.loads(on_jax(f"CASES = {json.dumps(cases)!r}\n{CODE}").splitlines()[-1])
    for (convolutions, error), options in zip(results, cases, strict=True):
        kerass = "depth_multiplier" in options or "dtype" in options
        # Forward and to the kernel; a grouped one is Keras's but for its gradients.
        assert convolutions == (2 if kerass else "groups" in options), options
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
