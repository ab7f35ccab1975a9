"""A rewritten network computes what the network computes."""

import functools

import keras
import numpy as np
import pytest
from keras import ops
from rewriting import NETWORKS, TINY, assert_same_function, norms, outputs, randomise, same_weights

import kresnet
from kresnet.data.samples import natural_images
from kresnet.graph.fold import fold_batch_norm
from kresnet.layers import activation, conv, norm
from kresnet.layers.grouped import GroupedConv2D

RNG = np.random.default_rng(0)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_folding_keeps_the_function(name, tmp_path):
    build, fields = NETWORKS[name]
    fields = fields if "features" in fields else {**fields, "classifier_activation": None}
    model = randomise(build(**fields))
    before, names = model.get_weights(), [layer.name for layer in model.layers]
    folded = fold_batch_norm(model)
    assert_same_function(model, folded)
    assert same_weights(before, model.get_weights())
    assert [layer.name for layer in model.layers] == names
    assert folded.name == model.name
    assert [x.name for x in folded.inputs] == [x.name for x in model.inputs]
    assert folded.output_names == model.output_names
    assert set(names) - {layer.name for layer in folded.layers} <= set(norms(model))
    folded.save(tmp_path / "folded.keras")
    loaded = keras.saving.load_model(tmp_path / "folded.keras")
    image = RNG.integers(0, 256, (1, *model.inputs[0].shape[1:])).astype("float32")
    assert same_weights(outputs(folded, image).values(), outputs(loaded, image).values())


@pytest.mark.slow
def test_a_deep_network_folded_is_as_near_its_function_as_it_was():
    """In float32 EfficientNet-B0 is itself more than 1e-5 from what it is in float64, where folding is exact."""
    build = functools.partial(kresnet.EfficientNetB0, input_shape=(64, 64, 3), classifier_activation=None)
    model = build()
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0  # one pass gives it the statistics of images
    model(natural_images(64, (64, 64, 3), seed=1), training=True)
    folded = fold_batch_norm(model)
    policy = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("float64")
        exact = build()
    finally:
        keras.config.set_dtype_policy(policy)
    exact.set_weights(model.get_weights())
    images = natural_images(16, (64, 64, 3))
    networks = (exact, fold_batch_norm(exact), model, folded)
    expected, same, *rounded = (ops.convert_to_numpy(network(images, training=False)) for network in networks)
    before, after = (np.abs(y - expected).max() for y in rounded)
    assert expected.dtype == "float64"
    assert np.abs(same - expected).max() <= 1e-10 * expected.std()
    assert after <= 2 * before <= 1e-3 * expected.std()


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in ("V2", "WRN")])
def test_every_norm_after_a_convolution_is_folded(name):
    build, fields = NETWORKS[name]
    assert norms(fold_batch_norm(build(**fields))) == []


def test_preactivation_networks_keep_the_norms_after_sums_and_poolings():
    kept = norms(fold_batch_norm(kresnet.ResNet50V2(**TINY)))
    assert kept == ["stage2_block1_norm1", "stage3_block1_norm1", "stage3_block2_norm1", "head_norm"]


def test_feature_strides_survive():
    model = kresnet.MobileNetV2(**NETWORKS["features"][1])
    assert fold_batch_norm(model).feature_strides == model.feature_strides == {"stage2": 2, "stage3": 4}


LAYERS = {
    "bias": lambda: keras.layers.Conv2D(6, 3, padding="same", bias_initializer="normal"),
    "grouped": lambda: GroupedConv2D(8, 3, groups=2, use_bias=False),
    "depthwise with a multiplier": lambda: keras.layers.DepthwiseConv2D(3, depth_multiplier=3, strides=2),
    "dense": lambda: keras.layers.Dense(5, bias_initializer="normal"),
}
NORMS = {"whole": {}, "without scale": {"scale": False}, "without center": {"center": False}, "by axis": {"axis": 3}}


@pytest.mark.parametrize("options", NORMS.values(), ids=NORMS)
@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_every_kind_of_layer_and_norm(layer, options):
    image = keras.Input((9, 8, 4))
    model = randomise(keras.Model(image, keras.layers.BatchNormalization(**options)(layer()(image))))
    folded = fold_batch_norm(model)
    assert norms(folded) == []
    assert_same_function(model, folded)


def test_an_output_keeps_its_name():
    image = keras.Input((8, 8, 3), name="photo")
    model = keras.Model(image, norm(conv(image, 4, 3, name="conv"), epsilon=1e-3, momentum=0.9, name="last"))
    folded = fold_batch_norm(model)
    assert folded.output_names == ["last"]
    assert folded.inputs[0].name == "photo"
    assert [type(layer).__name__ for layer in folded.layers] == ["InputLayer", "Conv2D", "Identity"]


def bn(name):
    return keras.layers.BatchNormalization(name=name)


def shared(same_norm):
    """A convolution that is called twice, followed by one norm or by two."""
    image, layer, first = keras.Input((8, 8, 3)), keras.layers.Conv2D(3, 3, padding="same"), bn("first")
    second = first if same_norm else bn("second")
    return keras.Model(image, second(layer(keras.layers.ReLU()(first(layer(image))))))


def used_twice():
    image = keras.Input((8, 8, 3))
    y = keras.layers.Conv2D(3, 3, padding="same")(image)
    return keras.Model(image, keras.layers.Add()([y, bn("norm")(y)]))


def also_an_output():
    image = keras.Input((8, 8, 3))
    y = keras.layers.Conv2D(3, 3)(image)
    return keras.Model(image, [y, bn("norm")(y)])


def sequence(*layers):
    image = x = keras.Input((8, 8, 3))
    for layer in layers:
        x = layer(x)
    return keras.Model(image, x)


def batch_statistics():
    image = keras.Input((8, 8, 3))
    return keras.Model(image, bn("norm")(keras.layers.Conv2D(3, 3)(image), training=True))


def of_one_norm_two_layers(activation):
    image, layer = keras.Input((8, 8, 3)), bn("norm")
    left = layer(keras.layers.Conv2D(3, 3)(image))
    right = layer(keras.layers.Conv2D(3, 3, activation=activation)(image))
    return keras.Model(image, [left, right])


CASES = {
    "a shared layer and its norm": (lambda: shared(True), []),
    "a norm that two layers share": (lambda: of_one_norm_two_layers(None), []),
    "a shared layer with two norms": (lambda: shared(False), ["first", "second"]),
    "a norm that shares one unfit layer": (lambda: of_one_norm_two_layers("relu"), ["norm"]),
    "an output that is used twice": (used_twice, ["norm"]),
    "an output of the model": (also_an_output, ["norm"]),
    "an activation between": (lambda: sequence(keras.layers.Conv2D(4, 3, activation="relu"), bn("norm")), ["norm"]),
    "a norm before": (lambda: sequence(bn("norm"), keras.layers.Conv2D(4, 3, padding="same")), ["norm"]),
    "another axis": (
        lambda: sequence(keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization(axis=1, name="norm")),
        ["norm"],
    ),
    "statistics of the batch": (batch_statistics, ["norm"]),
    "two in a row": (lambda: sequence(keras.layers.Conv2D(4, 3), bn("first"), bn("second")), ["second"]),
}


@pytest.mark.parametrize(("build", "kept"), CASES.values(), ids=CASES)
def test_what_is_folded(build, kept):
    model = randomise(build())
    folded = fold_batch_norm(model)
    assert norms(folded) == kept
    assert_same_function(model, folded)


def test_mixed_precision():
    """Weights stay float32, and the rounding is bfloat16's."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = randomise(kresnet.ResNet(**TINY, classifier_activation=None))
        folded = fold_batch_norm(model)
    finally:
        keras.config.set_dtype_policy("float32")
    assert norms(folded) == []
    policies = {layer.name: layer.dtype_policy.name for layer in model.layers}
    assert all(layer.dtype_policy.name == policies[layer.name] for layer in folded.layers)
    assert {str(weight.dtype) for weight in folded.weights} == {"float32"}
    assert_same_function(model, folded, tolerance=0.1)


def test_in_float64_nothing_but_its_rounding_is_lost():
    keras.config.set_dtype_policy("float64")
    try:
        model = randomise(kresnet.EfficientNetB0(**NETWORKS["EfficientNet"][1], classifier_activation=None))
        folded = fold_batch_norm(model)
    finally:
        keras.config.set_dtype_policy("float32")
    assert_same_function(model, folded, tolerance=1e-12)


def test_a_norm_in_another_precision_stays():
    model = sequence(keras.layers.Conv2D(4, 3, dtype="mixed_bfloat16"), bn("norm"))
    folded = fold_batch_norm(model)
    assert norms(folded) == ["norm"]


def test_functions_in_the_graph_and_dropout_are_copied():
    image = keras.Input((8, 8, 3))
    x = activation(bn("norm")(keras.layers.Conv2D(4, 3)(image)), "silu", name="act")
    x = keras.layers.Dropout(0.5)(ops.mean(x, axis=(1, 2)) * 2.0)
    model = randomise(keras.Model(image, {"mean": x}))
    nodes = [len(operation._outbound_nodes) for operation in model.operations]
    assert_same_function(model, fold_batch_norm(model))
    assert [len(operation._outbound_nodes) for operation in model.operations] == nodes


def test_a_compiled_model_with_any_loss_folds_and_the_result_trains():
    model = randomise(kresnet.ResNet(**TINY))
    model.compile("sgd", lambda y, p: ops.mean(ops.square(p)))
    folded = fold_batch_norm(model)
    folded.compile("sgd", "sparse_categorical_crossentropy")
    before = folded.get_weights()
    folded.train_on_batch(RNG.integers(0, 256, (4, 32, 40, 3)), np.arange(4))
    assert not same_weights(before, folded.get_weights())


def test_what_is_no_flat_functional_model_is_refused():
    inner = kresnet.ResNet(**TINY)
    image = keras.Input((32, 40, 3))
    with pytest.raises(ValueError, match=r"must not hold other models.* Received: model='outer', holds=\['resnet'\]"):
        fold_batch_norm(keras.Model(image, inner(image), name="outer"))
    with pytest.raises(ValueError, match=r"must be a functional Keras model\. Received: model='Sequential'"):
        fold_batch_norm(keras.Sequential([keras.layers.Dense(1)]))
    with pytest.raises(ValueError, match="Received: model='NoneType'"):
        fold_batch_norm(None)


@pytest.mark.slow
def test_on_jax(on_jax):
    printed = on_jax(
        """
        import keras
        from kresnet.graph.fold import fold_batch_norm
        from rewriting import NETWORKS, assert_same_function, norms, randomise
        for name in ("ResNeXt", "EfficientNet"):
            build, fields = NETWORKS[name]
            model = randomise(build(**fields, classifier_activation=None))
            folded = fold_batch_norm(model)
            assert norms(folded) == []
            assert_same_function(model, folded)
        print(keras.backend.backend())
        """
    )
    assert printed.split() == ["jax"]
