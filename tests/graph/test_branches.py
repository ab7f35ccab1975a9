"""Convolutions side by side that become one, and those that must not; by the shape of the graph alone."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from rewriting import assert_same_function, norms, outputs, randomise, same_weights

from kresnet.graph.branches import reparameterize
from kresnet.layers import GroupedConv2D

RNG = np.random.default_rng(0)


def conv(filters=8, kernel=3, **options):
    kind = GroupedConv2D if "groups" in options else layers.Conv2D
    return kind(filters, kernel, **{"padding": "same", "bias_initializer": "normal"} | options)


def normed(x, *options, **named):
    return layers.BatchNormalization()(conv(*options, **named)(x))


def norm(x, **options):
    return layers.BatchNormalization(**options)(x)


def of_one(parts, size=(9, 8)):
    """Returns a model that adds what `parts` makes of eight channels, which a ReLU gives."""
    image = keras.Input((*size, 3))
    x = layers.ReLU()(layers.Conv2D(8, 3, padding="same", name="first")(image))
    return keras.Model(image, layers.ReLU()(layers.Add(name="sum")(parts(x))))


def padded(x, filters, **options):
    return normed(layers.ZeroPadding2D(1)(x), filters, 3, padding="valid", **options)


def depthwise(x, kernel, **options):
    return norm(layers.DepthwiseConv2D(kernel, padding="same", use_bias=False, **options)(x))


def averaged(x, size=2, **options):
    return normed(layers.AveragePooling2D(size, 2, **options)(x), 8, 1)


def operators():
    """A norm of `a + b + c`, written so."""
    image = keras.Input((9, 8, 3))
    x = layers.ReLU()(conv(name="first")(image))
    return keras.Model(image, layers.ReLU()(norm(conv()(x) + normed(x, 8, 1) + x)))


def of_two_tensors():
    image = keras.Input((9, 8, 3))
    x, y = (layers.ReLU()(conv()(image)) for _ in range(2))
    parts = [normed(x), normed(x, 8, 1), normed(y), norm(y), layers.Multiply()([x, y])]
    return keras.Model(image, layers.Add()(parts))


def nested():
    """A block within a model within a model, whose other block is beside it."""
    inner = of_one(lambda x: [normed(x), normed(x, 8, 1), norm(x)])
    x = keras.Input((9, 8, 8), dtype=keras.config.dtype_policy().compute_dtype)  # a model casts what it takes
    other = keras.Model(x, layers.Add()([normed(x), norm(x)]), name="other")
    image = keras.Input((9, 8, 3))
    return keras.Model(image, other(inner(image)))


# By what they are: the model; how many convolutions it has, and sums, when it is merged.
MERGED = {
    "a 3x3, a 1x1 and an identity": (lambda: of_one(lambda x: [normed(x), normed(x, 8, 1), norm(x)]), 2, 0),
    "with the 1x1 first": (lambda: of_one(lambda x: [normed(x, 8, 1), norm(x), normed(x)]), 2, 0),
    "without scale or centre": (
        lambda: of_one(lambda x: [normed(x), norm(x, scale=False), norm(x, center=False)]),
        2,
        0,
    ),
    "the tensor as it is": (lambda: of_one(lambda x: [normed(x), x]), 2, 0),
    "the tensor twice": (lambda: of_one(lambda x: [normed(x), x, x]), 2, 0),
    "in groups": (
        lambda: of_one(lambda x: [normed(x, groups=4), normed(x, 8, 1, groups=4), norm(x)]),
        2,
        0,
    ),
    "to more channels": (lambda: of_one(lambda x: [normed(x, 12), normed(x, 12, 1)]), 2, 0),
    "depthwise": (lambda: of_one(lambda x: [depthwise(x, 3), depthwise(x, 1), norm(x)]), 2, 0),
    "depthwise, to more channels": (
        lambda: of_one(lambda x: [depthwise(x, 3, depth_multiplier=2), depthwise(x, 1, depth_multiplier=2)]),
        2,
        0,
    ),
    "of other shapes": (
        lambda: of_one(lambda x: [normed(x), normed(x, 8, (1, 3)), normed(x, 8, (3, 1)), normed(x, 8, (1, 1))]),
        2,
        0,
    ),
    "of 5x5, 3x3 and 1x1": (lambda: of_one(lambda x: [normed(x, 8, 5), normed(x), normed(x, 8, 1), norm(x)]), 2, 0),
    "with a step": (lambda: of_one(lambda x: [normed(x, strides=2), normed(x, 8, 1, strides=2)]), 2, 0),
    "with a step, of odd size": (
        lambda: of_one(lambda x: [normed(x, strides=2), normed(x, 8, 1, strides=2)], (9, 7)),
        2,
        0,
    ),
    "with a step, padded": (lambda: of_one(lambda x: [padded(x, 8, strides=2), normed(x, 8, 1, strides=2)]), 2, 0),
    "of any size": (
        lambda: of_one(lambda x: [padded(x, 8, strides=2), normed(x, 8, 1, strides=2)], (None, None)),
        2,
        0,
    ),
    "of averages": (lambda: of_one(lambda x: [padded(x, 8, strides=2), averaged(x)], (8, 6)), 2, 0),
    "of single pixels, stepped over": (
        lambda: of_one(lambda x: [padded(x, 8, strides=2), averaged(x, 1)], (None, None)),
        2,
        0,
    ),
    "by operators, with a norm of the sum": (operators, 2, 0),
    "beside what is no convolution": (
        lambda: of_one(lambda x: [normed(x), normed(x, 8, 1), layers.Multiply()([x, x])]),
        2,
        1,
    ),
    "of two tensors": (of_two_tensors, 4, 1),
    "in models within the model": (nested, 3, 0),
    "but for one of other groups": (lambda: of_one(lambda x: [normed(x), normed(x, 8, 1, groups=2), norm(x)]), 3, 1),
    "but for a dilated one": (lambda: of_one(lambda x: [normed(x), normed(x, dilation_rate=2), norm(x)]), 3, 1),
    "but for one with an activation": (
        lambda: of_one(lambda x: [normed(x), conv(8, 1, activation="relu")(x), norm(x)]),
        3,
        1,
    ),
}


def counted(model):
    """Returns how many convolutions and sums a model has."""
    convolutions = [layer for layer in model.layers if isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D)]
    sums = [one for one in model.operations if type(one).__name__ == "Add"]
    return len(convolutions), len(sums)


def images(model, dtype):
    return RNG.integers(0, 256, (2, *(size or 8 for size in model.inputs[0].shape[1:3]), 3)).astype(dtype)


IN_FLOAT32 = ("a 3x3, a 1x1 and an identity", "in groups", "of averages")


@pytest.mark.parametrize(
    ("name", "dtype"), [*((name, "float64") for name in MERGED), *((name, "float32") for name in IN_FLOAT32)]
)
def test_they_become_one_and_the_function_stays(name, dtype):
    build, convolutions, sums = MERGED[name]
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        model = randomise_all(build())
        before = model.get_weights()
        merged = reparameterize(model)
    finally:
        keras.config.set_dtype_policy(policy)
    assert counted(merged) == (convolutions, sums)
    assert norms(merged) == []
    x = images(model, dtype)
    (expected,), (got,) = (outputs(one, x).values() for one in (model, merged))
    assert got.dtype == dtype
    assert np.abs(got - expected).max() <= {"float32": 1e-5, "float64": 1e-10}[dtype] * expected.std()
    assert same_weights(before, model.get_weights())


def randomise_all(model):
    """Gives norms statistics that untrained ones do not have, those within models of the model too."""
    for inner in (model, *(layer for layer in model.layers if isinstance(layer, keras.Model))):
        randomise(inner)
    return model


def shared():
    """A convolution that is called on two tensors."""
    image, layer = keras.Input((9, 8, 8)), conv()
    x = layers.ReLU()(image)
    y = layers.Add()([layer(x), conv(8, 1)(x)])
    return keras.Model(image, layers.Add()([layer(layers.ReLU()(y)), y]))


def shared_sum():
    image, add = keras.Input((9, 8, 8)), layers.Add()
    x = layers.ReLU()(add([conv()(image), conv(8, 1)(image)]))
    return keras.Model(image, add([conv()(x), conv(8, 1)(x)]))


def used_elsewhere(output):
    image = keras.Input((9, 8, 8))
    one, other = conv()(image), conv(8, 1)(image)
    added = layers.Add()([one, other])
    return keras.Model(image, [added, other] if output else layers.Multiply()([added, other]))


def in_training():
    image = keras.Input((9, 8, 8))
    x = layers.ReLU()(image)
    return keras.Model(image, layers.Add()([conv()(x), layers.BatchNormalization()(x, training=True)]))


def channels_first():
    image = keras.Input((8, 9, 8))
    parts = [conv(8, kernel, data_format="channels_first")(image) for kernel in (3, 1)]
    return keras.Model(image, layers.Add()(parts))


def broadcast():
    """A convolution that leaves one pixel, and another that leaves nine by nine."""
    image = keras.Input((9, 9, 8))
    return keras.Model(image, layers.Add()([conv(8, 9, padding="valid")(image), conv(8, 1)(image)]))


def in_another_precision():
    image = keras.Input((9, 8, 8))
    return keras.Model(image, layers.Add()([conv(dtype="mixed_bfloat16")(image), conv(8, 1)(image)]))


LEFT = {
    "a convolution that is called twice": shared,
    "a sum that is called twice": shared_sum,
    "one that something else needs": lambda: used_elsewhere(False),
    "one that is an output": lambda: used_elsewhere(True),
    "a norm with the batch's statistics": in_training,
    "channels first": channels_first,
    "one that is broadcast": broadcast,
    "one of another precision": in_another_precision,
    "a norm of another axis": lambda: of_one(lambda x: [conv()(x), layers.BatchNormalization(axis=1)(x)]),
    "norms alone": lambda: of_one(lambda x: [norm(x), norm(x)]),
    "kernels of which none holds the other": lambda: of_one(lambda x: [conv(8, (1, 3))(x), conv(8, (3, 1))(x)]),
    "dilated": lambda: of_one(lambda x: [conv(dilation_rate=2)(x), conv(8, 1)(x)]),
    "of other tensors": lambda: of_one(lambda x: [conv()(x), conv(8, 1)(layers.ReLU(max_value=6)(x))]),
    "of averages at an edge": lambda: of_one(lambda x: [padded(x, 8, strides=2), averaged(x, padding="same")], (9, 9)),
    "padded as the unknown size wants it": lambda: of_one(
        lambda x: [conv(strides=2)(x), conv(8, 1, strides=2)(x)], (None, None)
    ),
    "with windows of other pixels": lambda: of_one(
        lambda x: [conv(8, 2)(x), conv(8, 2, padding="valid")(layers.ZeroPadding2D(((1, 0), (1, 0)))(x))]
    ),
}


@pytest.mark.parametrize("build", LEFT.values(), ids=LEFT)
def test_they_are_left_alone(build):
    model = randomise(build())
    merged = reparameterize(model)
    assert counted(merged) == counted(model)
    x = RNG.standard_normal((2, *(size or 9 for size in model.inputs[0].shape[1:]))).astype("float32")
    for key, expected in outputs(model, x).items():
        got = outputs(merged, x)[key]
        np.testing.assert_allclose(got, expected, atol=1e-5 * expected.std())


def test_names_stay():
    image = keras.Input((9, 8, 3), name="photo")
    parts = [conv(8, 1, name="small")(image), conv(name="large")(image)]
    merged = reparameterize(keras.Model(image, layers.Add(name="sum")(parts), name="whole"))
    assert (merged.name, merged.inputs[0].name, merged.output_names) == ("whole", "photo", ["sum"])
    assert [layer.name for layer in merged.layers] == ["photo", "large", "sum"]


def test_what_comes_of_it_saves_loads_and_trains(tmp_path):
    model = randomise(of_one(lambda x: [normed(x, groups=2), normed(x, 8, 1, groups=2), norm(x)]))
    merged = reparameterize(model)
    merged.save(tmp_path / "merged.keras")
    loaded = keras.saving.load_model(tmp_path / "merged.keras")
    x = images(model, "float32")
    assert same_weights(outputs(merged, x).values(), outputs(loaded, x).values())
    loaded.compile("sgd", lambda y, p: ops.mean(ops.square(p)))
    before = loaded.get_weights()
    loaded.train_on_batch(x, np.zeros(2))
    assert not same_weights(before, loaded.get_weights())


def test_what_is_not_functional_is_refused():
    class Own(keras.Model):
        pass

    for model, name in ((None, "NoneType"), (Own(), "Own"), (keras.Sequential([layers.Dense(1)]), "Sequential")):
        with pytest.raises(ValueError, match=rf"must be a functional Keras model\. Received: model='{name}'"):
            reparameterize(model)


def test_a_sequential_model_without_such_sums_has_its_norms_folded():
    model = keras.Sequential([keras.Input((9, 8, 3)), conv(), layers.BatchNormalization(), layers.ReLU()])
    merged = reparameterize(randomise(model))
    assert norms(merged) == []
    assert_same_function(model, merged)


@pytest.mark.slow
def test_on_jax(on_jax):
    printed = on_jax(
        """
        import keras
        import kresnet
        from rewriting import assert_same_function, randomise
        model = kresnet.RepVGG_B1g4(depths=(2, 1), widths=(8, 16), input_shape=(32, 32, 3), classifier_activation=None)
        merged = kresnet.reparameterize(randomise(model))
        assert_same_function(model, merged)
        print(keras.backend.backend(), sum(isinstance(layer, keras.layers.Conv2D) for layer in merged.layers))
        """
    )
    assert printed.split() == ["jax", "4"]
