"""The layers that Keras lacks, against what they replace."""

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from processes import python

import kresnet
from kresnet import layers

RNG = np.random.default_rng(0)

GROUPED_AGREES = """
    import keras, numpy as np, tensorflow as tf
    from kresnet.layers import grouped

    def run(layer, x, weights):
        layer.build(x.shape)
        layer.set_weights(weights)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            loss = tf.reduce_sum(y * tf.cos(y))
        return [y, *tape.gradient(loss, [x, layer.kernel.value])]

    rng = np.random.default_rng(0)
    tolerances = {{"float32": 1e-5, "float16": 2e-2, "bfloat16": 1e-1}}
    cases = (
        (4, 8, 3, {{}}), (2, 8, 3, {{"strides": 2}}), (8, 16, 3, {{"dilation_rate": 2}}), (8, 8, 1, {{}}),
        (4, 4, 5, {{"strides": 2, "padding": "valid"}}),
    )
    # Keras's own takes seconds.
    tried = [(dtype, case) for dtype in {dtypes} for case in (cases if dtype == "float32" else cases[1:3])]
    for dtype, (groups, filters, kernel, options) in tried:
        keras.config.set_dtype_policy(dtype)
        options = {{"padding": "same", "groups": groups, **options}}
        x = tf.constant(rng.standard_normal((2, 9, 10, 8)), dtype)
        weights = [rng.standard_normal((kernel, kernel, 8 // groups, filters)), rng.standard_normal(filters)]
        ours = run(grouped.GroupedConv2D(filters, kernel, **options), x, weights)
        keras_s = run(keras.layers.Conv2D(filters, kernel, **options), x, weights)
        for a, b in zip(ours, keras_s):
            a, b = np.float32(a), np.float32(b)
            assert np.abs(a - b).max() <= tolerances[dtype] * np.abs(b).max(), (dtype, options, np.abs(a - b).max())
    keras.config.set_dtype_policy("float32")
    print(*("fast" if grouped._grouped_gradient_works(dtype) else "split" for dtype in {dtypes}))
"""


def bfloat16_paths():
    """oneDNN computes bfloat16 on every processor with AVX-512, and on few others."""
    cpu = pathlib.Path("/proc/cpuinfo")
    known = cpu.exists() and "avx512bw" in cpu.read_text()
    return ["fast"] if known else ["fast", "split"]


@pytest.mark.slow
def test_grouped_convolution_equals_keras():
    dtypes = ["float32", "bfloat16", "float16"]
    paths = python(GROUPED_AGREES.format(dtypes=dtypes), TF_ENABLE_ONEDNN_OPTS="1").split()[-3:]
    assert paths[0] == "fast"
    assert paths[1] in bfloat16_paths()
    assert paths[2] in ("fast", "split")  # the processor decides


def test_grouped_convolution_under_xla():
    layer = layers.GroupedConv2D(8, 3, groups=4, padding="same")
    x = RNG.standard_normal((2, 6, 6, 8), "float32")
    np.testing.assert_allclose(tf.function(layer, jit_compile=True)(x), layer(x), atol=1e-5)


def test_grouped_convolution_reloads():
    layer = layers.GroupedConv2D(8, 3, groups=4, strides=2, use_bias=False, name="conv")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(copy) is layers.GroupedConv2D
    assert copy.get_config() == layer.get_config()


@pytest.mark.thorough
def test_grouped_convolution_without_a_kernel_of_its_own(tmp_path):
    """The groups are split, and one operator in a .tflite nevertheless."""
    exported = f"""
    import kresnet
    from ai_edge_litert.interpreter import Interpreter
    spec = dict(depths=(1, 1), widths=(16, 32), groups=4)
    model = kresnet.ResNet(input_shape=(32, 32, 3), **spec)
    file = kresnet.export(model, {str(tmp_path / "m.tflite")!r}, latency=False)
    print(*[op["op_name"] for op in Interpreter(str(file))._get_ops_details()])
    """
    printed = python(GROUPED_AGREES.format(dtypes=["float32"]) + exported, TF_ENABLE_ONEDNN_OPTS="0").split()
    assert "split" in printed
    operators = printed[printed.index("split") + 1 :]
    assert operators.count("CONV_2D") == 1 + 2 * 3 + 2  # stem, two bottlenecks, two projections
    assert not {"SPLIT", "CONCATENATION"} & set(operators)


@pytest.mark.parametrize("distribution", ["untruncated_normal", "truncated_normal", "uniform"])
@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg"])
def test_initializer_has_keras_distribution(mode, distribution):
    shape = (3, 3, 40, 900)
    options = {"scale": 2.0, "mode": mode, "distribution": distribution}
    ours = ops.convert_to_numpy(layers.VarianceScaling(**options, seed=1)(shape))
    keras_s = ops.convert_to_numpy(keras.initializers.VarianceScaling(**options, seed=1)(shape))
    assert ours.dtype == np.float32
    assert abs(ours.mean()) < 0.02 * ours.std()
    for quantile in (0, 0.1, 0.25, 0.75, 0.9, 1) if distribution != "untruncated_normal" else (0.1, 0.25, 0.75, 0.9):
        assert np.quantile(ours, quantile) == pytest.approx(np.quantile(keras_s, quantile), rel=0.02)


def test_initializer_seeds():
    def draw(seed=None):
        return ops.convert_to_numpy(layers.VarianceScaling(seed=seed)((4, 5)))

    assert np.array_equal(draw(3), draw(3))
    assert not np.array_equal(draw(3), draw(4))
    keras.utils.set_random_seed(7)
    first, second = draw(), draw()
    assert not np.array_equal(first, second)
    keras.utils.set_random_seed(7)
    assert np.array_equal(first, draw())
    generator = layers.VarianceScaling(seed=keras.random.SeedGenerator(1))
    assert not np.array_equal(generator((4, 5)), generator((4, 5)))
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layers.he_normal()))
    assert (type(copy), copy.scale, copy.distribution) == (layers.VarianceScaling, 2.0, "untruncated_normal")


def test_a_seed_makes_the_network():
    def kernels():
        keras.utils.set_random_seed(5)
        return [ops.convert_to_numpy(w) for w in kresnet.ResNet20().weights]

    first, second = kernels(), kernels()
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    large = [w for w in first if w.ndim == 4]
    assert len({w.tobytes() for w in large}) == len(large)  # no two layers start alike


@pytest.mark.parametrize("padding", ["symmetric", "ceil"])
@pytest.mark.parametrize("nonnegative", [True, False])
@pytest.mark.parametrize("size", [(9, 7), (8, 6), (9, 6)])
def test_max_pool(size, nonnegative, padding):
    """Against windows cut by hand, for sizes that are known and that are not."""
    x = RNG.standard_normal((2, *size, 3), "float32") - (0 if nonnegative else 5)
    x = np.maximum(x, 0) if nonnegative else x
    before = 1 if padding == "symmetric" else 0
    counts = [(n - 1) // 2 + 1 if padding == "symmetric" else -(-(n - 3) // 2) + 1 for n in size]
    expected = np.empty((2, *counts, 3), "float32")
    for i, j in np.ndindex(*counts):
        top, left = 2 * i - before, 2 * j - before
        expected[:, i, j] = x[:, max(top, 0) : top + 3, max(left, 0) : left + 3].max((1, 2))
    for shape in ((*size, 3), (None, None, 3)):
        image = keras.Input(shape)
        model = keras.Model(image, layers.max_pool(image, padding=padding, nonnegative=nonnegative, name="pool"))
        np.testing.assert_array_equal(ops.convert_to_numpy(model(x)), expected)


@pytest.mark.parametrize("size", [(9, 9), (8, 8), (8, 9)])
@pytest.mark.parametrize("kernel", [1, 3, 7])
def test_strided_convolution_pads_both_sides_alike(size, kernel):
    x, pad = RNG.standard_normal((1, *size, 2), "float32"), kernel // 2
    models = []
    for shape in ((*size, 2), (None, None, 2)):
        image = keras.Input(shape)
        models.append(keras.Model(image, layers.conv(image, 4, kernel, stride=2, name="conv")))
    models[1].set_weights(models[0].get_weights())
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    expected = tf.nn.conv2d(padded, models[0].get_weights()[0], 2, "VALID")
    for model in models:
        np.testing.assert_allclose(model(x), expected, atol=1e-5)
    before = ["conv_step"] if kernel == 1 else [] if size == (9, 9) else ["conv_pad"]
    assert [layer.name for layer in models[0].layers[1:]] == [*before, "conv"]


def test_padded_identity():
    x, image = RNG.standard_normal((1, 5, 4, 2), "float32"), keras.Input((5, 4, 2))
    model = keras.Model(image, layers.padded_identity(image, 5, stride=2, name="shortcut"))
    y = ops.convert_to_numpy(model(x))
    assert (1, *model.output_shape[1:]) == y.shape == (1, 3, 2, 5)
    np.testing.assert_array_equal(y[..., 1:3], x[:, ::2, ::2])
    assert not y[..., [0, 3, 4]].any()
    with pytest.raises(ValueError, match=r"cannot drop channels\. Received: filters=1, channels=2"):
        layers.padded_identity(image, 1, name="shortcut")


def test_squeeze_excite():
    image = keras.Input((6, 6, 8))
    model = keras.Model(image, layers.squeeze_excite(image, 4, name="se"))
    x = RNG.standard_normal((2, 6, 6, 8), "float32")
    w1, b1, w2, b2 = model.get_weights()
    hidden = np.maximum(x.mean((1, 2)) @ w1[0, 0] + b1, 0)
    gate = 1 / (1 + np.exp(-(hidden @ w2[0, 0] + b2)))
    np.testing.assert_allclose(model(x), x * gate[:, None, None], atol=1e-6)
    with pytest.raises(ValueError, match="Received: hidden=0"):
        layers.squeeze_excite(image, 0, name="none")


def test_drop_path_drops_whole_samples():
    image = keras.Input((4, 4, 2))
    model = keras.Model(image, layers.drop_path(image, 0.5, name="drop"))
    y = ops.convert_to_numpy(model(np.ones((64, 4, 4, 2)), training=True)).reshape(64, -1)
    assert set(y.min(1)) == set(y.max(1)) == {0.0, 2.0}
    assert (y.min(1) == y.max(1)).all()
    assert layers.drop_path(image, 0.0, name="none") is image


@pytest.mark.parametrize("size", [(4, 5), (None, None)])
def test_channels_are_shuffled(size):
    """As in PyTorch: (groups, channels of each) to (channels of each, groups)."""
    image = keras.Input((*size, 6))
    model = keras.Model(image, layers.ChannelShuffle(2)(image))
    assert model.output_shape == (None, *size, 6)
    x = RNG.standard_normal((2, 4, 5, 6)).astype("float32")
    np.testing.assert_array_equal(model(x), x[..., [0, 3, 1, 4, 2, 5]])
    with pytest.raises(ValueError, match=r"`groups` must divide the channels\. Received: groups=4, channels=6"):
        layers.ChannelShuffle(4)(image)


def test_only_of_few_channels_a_step_is_a_layer_of_its_own():
    """TensorFlow's gradient of the two in one writes beyond its memory (docs/decisions.md)."""
    image = keras.Input((9, 7, 16))
    model = keras.Model(image, layers.conv(image, 16, 1, stride=2, name="conv"))
    assert [layer.name for layer in model.layers[1:]] == ["conv"]
