"""Depthwise and grouped convolution: what they compute on a CPU, and that the first is Keras's elsewhere."""

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


WIDE = [
    {"kernel_size": 5, "padding": "same"},
    {"kernel_size": 5, "padding": "same", "strides": 2, "activation": "relu"},
    {"kernel_size": 5, "padding": "valid", "strides": 2, "use_bias": False},
    {"kernel_size": (3, 4), "padding": "same"},
    {"kernel_size": (2, 9), "padding": "same", "strides": 3},
]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the gradients of TensorFlow's operator")
@pytest.mark.parametrize("compiled", [False, True], ids=["", "XLA"])
@pytest.mark.parametrize("options", WIDE, ids=str)
def test_the_gradient_of_a_wide_kernel_is_keras_s(options, compiled):
    import tensorflow as tf

    x = np.random.default_rng(0).standard_normal((3, 12, 11, 4)).astype("float32")
    ours, theirs = (kind(**options) for kind in (layers.DepthwiseConv2D, keras.layers.DepthwiseConv2D))
    theirs.build(x.shape)
    ours.build(x.shape)
    theirs.set_weights(ours.get_weights())

    def step(layer, **how):
        shape = (None,) * 3 if not compiled else x.shape[:3]

        @tf.function(jit_compile=compiled, input_signature=[tf.TensorSpec((*shape, 4))])
        def run(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x, **how)
                total = tf.reduce_sum(tf.sin(y))
            return [y, *tape.gradient(total, [x, *[weight.value for weight in layer.trainable_weights]])]

        operators = [operator.type for operator in run.get_concrete_function().graph.get_operations()]
        return operators.count("DepthwiseConv2dNativeBackpropFilter"), run(x)

    (strips, found), (once, expected) = step(ours, training=True), step(theirs)
    assert (strips, once) == (-(-ours.kernel_size[1] // 3), 1)
    for ours_, theirs_ in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours_, theirs_, atol=2e-6 * np.abs(theirs_).max())
    assert step(ours, training=False)[0] == 1


def test_a_file_names_keras_s_layer_and_brings_ours_back():
    config = keras.saving.serialize_keras_object(layers.DepthwiseConv2D(3, name="conv"))
    assert (config["module"], config["class_name"]) == (
        "keras.src.layers.convolutional.depthwise_conv2d",
        "DepthwiseConv2D",
    )
    assert type(keras.saving.deserialize_keras_object(config)) is layers.DepthwiseConv2D
