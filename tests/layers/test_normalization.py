"""Batch normalization: what it computes in training under JAX and TensorFlow, and that it is Keras's elsewhere."""

import json

import keras
import numpy as np
import pytest

from kresnet import layers

# In deviations: the channels' mean, how far the first sample, whose mean is the shift, is from the others, and what the
# results may be wrong by: a few roundings of float32 (6e-8) of what is summed.
CASES = {
    "centred": (0, 0, 1e-6),
    "after a ReLU": (1, 0, 2e-6),
    "far from zero": (1000, 0, 1e-4),
    "an odd first sample": (0, 50, 3e-5),
}
CODE = """
import json
import jax, keras, numpy as np
from kresnet import layers

ours, theirs, cases = layers.BatchNormalization, keras.layers.BatchNormalization, json.loads(CASES)
random, errors = np.random.default_rng(0), {}
for name, (mean, odd, _) in cases.items():
    x = random.standard_normal((32, 7, 7, 5)).astype("float32") + np.float32(mean)
    x[0] += odd
    dy = random.standard_normal(x.shape).astype("float32")
    wide, axes = x.astype("float64"), (0, 1, 2)
    variance = wide.var(axes)
    y = (wide - wide.mean(axes)) / np.sqrt(variance + 1e-5)
    dx = (dy - dy.mean(axes) - y * (dy * y).mean(axes)) / np.sqrt(variance + 1e-5)
    for kind, layer in (("ours", ours(momentum=0.25, epsilon=1e-5)), ("keras", theirs(momentum=0.25, epsilon=1e-5))):
        layer.build(x.shape)
        state = [[v.value for v in part] for part in (layer.trainable_variables, layer.non_trainable_variables)]

        def run(x):
            return layer.stateless_call(*state, x, training=True)

        outputs, back, (means, variances) = jax.vjp(run, x, has_aux=True)
        errors[f"{name}, {kind}"] = {
            "mean": float(np.abs(means - 0.75 * wide.mean(axes)).max()),
            "variance": float(np.abs((np.asarray(variances) - 0.25) / 0.75 / variance - 1).max()),
            "output": float(np.abs(outputs - y).max()),
            "gradient": float(np.abs(back(dy)[0] - dx).max() / np.abs(dx).max()),
        }

layer = ours(axis=1, scale=False, dtype="mixed_bfloat16")
y = layer(np.moveaxis(x, -1, 1), training=True)
assert y.dtype == "bfloat16" and layer.moving_mean.dtype == "float32"
np.testing.assert_allclose(np.moveaxis(np.asarray(y, "float32"), 1, -1), outputs, atol=0.1)
before = layer.get_weights()
layer.trainable = False
layer(np.moveaxis(x, -1, 1), training=True)
for now, then in zip(layer.get_weights(), before):
    np.testing.assert_array_equal(now, then)
print(json.dumps(errors))
"""


@pytest.mark.slow
def test_under_jax_it_is_as_near_to_float64_as_keras_s(on_jax):
    errors = json.loads(on_jax(f"CASES = {json.dumps(CASES)!r}\n{CODE}").splitlines()[-1])
    for name, (*_, limit) in CASES.items():
        ours, theirs = errors[f"{name}, ours"], errors[f"{name}, keras"]
        for what, error in ours.items():
            assert error <= max(limit, 2 * theirs[what]), (name, what, ours, theirs)


def tensorflow_results(kind, x, dy, dtype, **options):
    """Returns the output, the gradients of input, gamma and beta, and the moving mean and variance, in float64."""
    import tensorflow as tf

    layer = kind(momentum=0.25, epsilon=1e-5, dtype=dtype, **options)
    layer.build(x.shape)
    x = tf.constant(x, layer.compute_dtype)
    weights = [weight.value for weight in layer.trainable_variables]

    @tf.function(jit_compile=False)
    def run():
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
            loss = tf.reduce_sum(tf.cast(y, "float64") * dy)
        return y, *tape.gradient(loss, [x, *weights])

    return [np.asarray(value, "float64") for value in (*run(), layer.moving_mean, layer.moving_variance)]


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize(
    ("shape", "mean"), [((8, 7, 7, 6), 0), ((8, 7, 7, 6), 10), ((2, 1, 1, 6), 0), ((1, 1, 1, 2), 1)]
)
def test_under_tensorflow_it_is_as_near_to_float64_as_keras_s(shape, mean, dtype):
    random = np.random.default_rng(0)
    x, dy = random.standard_normal(shape) + mean, random.standard_normal(shape)
    true = tensorflow_results(keras.layers.BatchNormalization, x, dy, "float64")
    ours = tensorflow_results(layers.BatchNormalization, x, dy, dtype)
    theirs = tensorflow_results(keras.layers.BatchNormalization, x, dy, dtype)
    floor = {"float32": 3e-6, "mixed_bfloat16": 1e-2, "mixed_float16": 1e-3}[dtype]
    for one, other, wanted in zip(ours, theirs, true, strict=True):
        scale = np.abs(wanted).max() + 1e-6
        assert np.abs(one - wanted).max() / scale <= max(floor, 2 * np.abs(other - wanted).max() / scale)


def test_under_tensorflow_a_compiled_step_moves_the_averages_alike():
    import tensorflow as tf

    x = np.random.default_rng(0).standard_normal((4, 3, 3, 2)).astype("float32")
    layer, theirs = (
        kind(gamma_initializer="ones") for kind in (layers.BatchNormalization, keras.layers.BatchNormalization)
    )
    y = tf.function(lambda x: layer(x, training=True), jit_compile=True)(x)
    np.testing.assert_allclose(y, theirs(x, training=True), atol=1e-5)
    for one, other in zip(layer.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "options", "training"),
    [
        ((4, 3, 3, 2), {}, False),
        ((4, 3, 3, 2), {"trainable": False}, True),
        ((4, 3, 3, 2), {"axis": 1}, True),
        ((4, 3, 3, 2), {"dtype": "float64"}, True),
        ((4, 2), {}, True),
    ],
)
def test_elsewhere_it_is_keras_s(shape, options, training):
    x = np.random.default_rng(0).standard_normal(shape)
    ours, theirs = layers.BatchNormalization(**options), keras.layers.BatchNormalization(**options)
    np.testing.assert_array_equal(ours(x, training=training), theirs(x, training=training))
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_file_names_keras_s_layer_and_brings_ours_back():
    config = keras.saving.serialize_keras_object(layers.BatchNormalization(name="norm"))
    assert config["class_name"] == "BatchNormalization"
    assert config["module"].startswith("keras.")
    assert type(keras.saving.deserialize_keras_object(config)) is layers.BatchNormalization
