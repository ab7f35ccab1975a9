"""Local response normalization, against the paper's formula in a loop."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from kresnet import layers

X = np.random.default_rng(0).standard_normal((2, 3, 4, 7)) * 30
CASES = ({}, {"size": 3, "alpha": 0.1, "beta": 1.0, "bias": 0.5}, {"size": 9, "alpha": 2e-2, "beta": 0.3, "bias": 1.0})


def by_loop(x, size=5, alpha=1e-4, beta=0.75, bias=2.0):
    """Section 3.3: the sum runs over max(0, i - n / 2) to min(N - 1, i + n / 2), and alpha is not divided by n."""
    y, channels = np.empty_like(x), x.shape[-1]
    for index in np.ndindex(*x.shape[:-1]):
        for i in range(channels):
            total = 0.0
            for j in range(max(0, i - size // 2), min(channels - 1, i + size // 2) + 1):
                total += x[index][j] ** 2
            y[index][i] = x[index][i] / (bias + alpha * total) ** beta
    return y


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [("float64", 1e-13), ("float32", 2e-6), ("mixed_bfloat16", 5e-3), ("mixed_float16", 6e-4), ("float16", 6e-4)],
)
def test_it_is_the_paper_s(case, dtype, tolerance):
    layer = layers.LocalResponseNormalization(**case, dtype=dtype)
    x = ops.cast(X, layer.compute_dtype)
    y = layer(x)
    assert keras.backend.standardize_dtype(y.dtype) == layer.compute_dtype
    expected = by_loop(ops.convert_to_numpy(ops.cast(x, "float64")), **case)
    np.testing.assert_allclose(ops.convert_to_numpy(ops.cast(y, "float64")), expected, rtol=tolerance)


def test_squares_do_not_overflow_in_float16():
    y = layers.LocalResponseNormalization(dtype="mixed_float16")(np.full((1, 1, 1, 5), 6e4, "float16"))
    assert (ops.convert_to_numpy(y) > 0).all()


def test_gradient_is_tensorflow_s():
    x, names = tf.constant(X, "float32"), ("size", "alpha", "beta", "bias")
    for case in CASES:
        numbers = dict(zip(names, (5, 1e-4, 0.75, 2.0), strict=True)) | case
        theirs = dict(depth_radius=numbers["size"] // 2, **{name: numbers[name] for name in names[1:]})
        gradients = []
        for function in (
            layers.LocalResponseNormalization(**case),
            lambda x, theirs=theirs: tf.nn.local_response_normalization(x, **theirs),
        ):
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = tf.reduce_sum(tf.square(function(x)))
            gradients.append(tape.gradient(loss, x))
        np.testing.assert_allclose(*gradients, rtol=2e-4, atol=2e-5)


def test_a_file_brings_it_back(tmp_path):
    image = keras.Input((None, None, 6))
    model = keras.Model(image, layers.local_response_norm(image, size=3, bias=1.0, name="lrn"))
    assert not model.weights
    model.save(tmp_path / "x.keras")
    again = keras.saving.load_model(tmp_path / "x.keras")
    assert again.get_layer("lrn").get_config() == model.get_layer("lrn").get_config()
    np.testing.assert_array_equal(again(X[..., :6]), model(X[..., :6]))


@pytest.mark.parametrize(
    ("received", "arguments"),
    [
        ("size=4", {"size": 4}),
        ("size=0", {"size": 0}),
        ("alpha=-1", {"alpha": -1}),
        ("beta='a'", {"beta": "a"}),
        ("bias=0", {"bias": 0}),
    ],
)
def test_nonsense_is_refused_by_name(received, arguments):
    with pytest.raises(ValueError, match="Received: ") as error:
        layers.LocalResponseNormalization(**arguments)
    assert str(error.value).endswith(f"Received: {received}")
