"""Quantization-aware training: what it rounds, how it trains, and that its int8 file computes the same."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from keras import ops
from rewriting import NETWORKS, norms, randomise, same_weights

import kresnet
from kresnet.deploy.convert import prepared, to_tflite
from kresnet.deploy.quantize import is_quantize_aware, quantize_aware
from kresnet.inference.tflite_file import TFLiteFile
from kresnet.layers import fake_quantize as fake_quant
from kresnet.layers.fake_quantize import FakeQuantize

RNG = np.random.default_rng(0)
CLASSIFIERS = ("basic, option A", "D", "ResNeXt", "V2", "MobileNetV2", "EfficientNet")


def images(model, count=32, rng=RNG):
    """Blobs of different brightness and place: random pixels would all look alike to a network."""
    height, width, channels = model.inputs[0].shape[1:]
    rows, columns = np.mgrid[0:height, 0:width]
    y, x, size, light = rng.uniform([0, 0, 4, 80], [height, width, 15, 255], (count, 4)).T[..., None, None]
    blobs = light * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / size**2)
    return np.rint(blobs[..., None] * rng.uniform(0.2, 1, (count, 1, 1, channels))).astype("float32")


def tiny(**fields):
    keras.utils.set_random_seed(1)
    return kresnet.ResNet(depths=(1, 1), widths=(8, 16), classes=3, input_shape=(32, 32, 3), **fields)


def unit(x, filters, kernel, **options):
    x = keras.layers.Conv2D(filters, kernel, **{"padding": "same", **options}, use_bias=False)(x)
    return keras.layers.ReLU()(keras.layers.BatchNormalization()(x))


def pooled(image, x):
    return keras.Model(image, keras.layers.Dense(3, name="predictions")(keras.layers.GlobalAveragePooling2D()(x)))


def inception(average):
    """Two modules of four branches, and one that reduces by a max pooling, whose range is that of the second module."""
    image = keras.Input((32, 32, 3), name="image")
    x = unit(keras.layers.Rescaling(1 / 127.5, -1)(image), 8, 3, strides=2)
    for i in range(2):
        pool = average(x)
        branches = [unit(x, 4, 1), unit(unit(x, 4, 1), 6, 3), unit(unit(unit(x, 4, 1), 6, 3), 6, 3), unit(pool, 4, 1)]
        x = keras.layers.Concatenate(name=f"mixed{i}")(branches)
    branches = [keras.layers.MaxPooling2D(3, 2)(x), unit(x, 6, 3, strides=2, padding="valid")]
    return pooled(image, keras.layers.Concatenate(name="reduction")(branches))


def densenet(blocks=2):
    """Dense blocks of three layers each, with a transition between two."""
    image = keras.Input((32, 32, 3), name="image")
    x = keras.layers.MaxPooling2D(2)(unit(keras.layers.Rescaling(1 / 127.5, -1)(image), 8, 3, strides=2))
    for block in range(blocks):
        for layer in range(3):
            new = keras.layers.BatchNormalization()(x)
            new = unit(keras.layers.ReLU()(new), 16, 1)
            new = keras.layers.Dropout(0.1)(keras.layers.Conv2D(4, 3, padding="same", use_bias=False)(new))
            x = keras.layers.Concatenate(name=f"block{block}_layer{layer}")([x, new])
        x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
        if block < blocks - 1:
            x = keras.layers.AveragePooling2D(2)(keras.layers.Conv2D(10, 1, use_bias=False)(x))
    return pooled(image, x)


def padded_average(x):
    return keras.layers.AveragePooling2D(3, 1, "same")(x)


def average_with_zeros(x):
    return keras.layers.AveragePooling2D(3, 1)(keras.layers.ZeroPadding2D(1)(x))


def joined_with_what_else_is_used():
    """A concatenation of a map that is also its own branch's input, and of swishes; its sum with another map."""
    image = keras.Input((32, 32, 3), name="image")
    x = unit(keras.layers.Rescaling(1 / 127.5, -1)(image), 8, 3, strides=2)
    y = keras.layers.Conv2D(8, 1, activation="silu")(x)
    joined = keras.layers.Concatenate(name="joined")([x, y, keras.layers.Activation("silu")(unit(y, 8, 3))])
    return pooled(image, keras.layers.Add()([joined, unit(y, 24, 1)]))


def operators(interpreter):
    """Returns the names of all operators, XNNPACK's parts ("DELEGATE") among them, and of those that touch floats."""
    floats = {tensor["index"] for tensor in interpreter.get_tensor_details() if tensor["dtype"] == np.float32}
    found = [(op["op_name"], floats & {*op["inputs"], *op["outputs"]}) for op in interpreter._get_ops_details()]
    return [name for name, _ in found], [name for name, touched in found if touched and name != "DELEGATE"]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_one_fully_int8_file_that_agrees(name):
    """The integers round as the Keras model does: nearly the same outputs, and only pixels and logits in float."""
    build, fields = NETWORKS[name]
    model = randomise(build(**fields, classifier_activation=None))
    x = images(model)
    aware = quantize_aware(model, x)
    interpreter = Interpreter(model_content=to_tflite(aware, quantize="int8", io="uint8"))
    interpreter.allocate_tensors()
    names, floats = operators(interpreter)
    assert floats == ["DEQUANTIZE", "QUANTIZE", "DEQUANTIZE"]
    assert names.count("DELEGATE") == 1  # XNNPACK takes all of it
    assert names.count("QUANTIZE") == 1  # uint8 pixels to int8, by way of float32
    classify = interpreter.get_signature_runner()
    got = np.concatenate([classify(image=one[None].astype("uint8"))["logits"] for one in x])
    expected = ops.convert_to_numpy(aware(x, training=False))
    step = interpreter.get_output_details()[0]["quantization"][0] or np.ptp(expected) / 255
    assert np.abs(got - expected).max() <= 0.1 * np.ptp(expected) + step
    assert np.mean(got.argmax(1) == expected.argmax(1)) >= 0.85
    floating = ops.convert_to_numpy(model(x, training=False))
    assert np.corrcoef(expected.ravel(), floating.ravel())[0, 1] > 0.95


@pytest.mark.slow
def test_what_xnnpack_has_no_integers_for_stays_in_float32():
    """Local response normalization, and an adaptive pooling: still one part, and closer than int8 could be."""
    rows = ((16, 5, 2, None, 1, ("norm", "max3")), (16, 3, 1, None, 2, ("max3", "norm")))
    fields = {"rows": rows, "head_size": 3, "dense_widths": (16,), "classes": 5, "classifier_activation": None}
    model = randomise(kresnet.AlexNet2012(**fields, input_shape=(32, 32, 3)))
    model.get_layer("stage1_norm").alpha = 1.0  # so that it matters
    x = images(model)
    aware = quantize_aware(model, x)
    interpreter = Interpreter(model_content=to_tflite(aware, quantize="int8"))
    interpreter.allocate_tensors()
    names, floats = operators(interpreter)
    assert names.count("DELEGATE") == 1
    assert {"SQUARE", "LOG", "EXP", "TRANSPOSE"} <= {*floats}
    classify = interpreter.get_signature_runner()
    got = np.concatenate([classify(image=one[None])["logits"] for one in x])
    for expected, limit in ((aware(x, training=False), 0.03), (model(x, training=False), 0.1)):
        assert np.abs(got - expected).max() <= limit * np.ptp(expected)


def test_weights_are_rounded_before_they_are_converted():
    """The converter computes no constants of 100 MB: a file would round AlexNet's first dense kernel at each run."""
    image = keras.Input((8, 8, 4), name="image")
    x = keras.layers.Conv2D(6, 3, strides=2)(keras.layers.DepthwiseConv2D(3, use_bias=False)(image))
    x = kresnet.layers.GroupedConv2D(6, 1, groups=2)(x)
    model = randomise(keras.Model(image, keras.layers.Dense(5)(keras.layers.Flatten()(x))))
    x = RNG.standard_normal((4, 8, 8, 4), "float32")
    aware = quantize_aware(model, x)
    rounded = prepared(aware, integer=True)
    weighted = {type(layer) for layer in rounded.layers if layer.weights and not isinstance(layer, FakeQuantize)}
    assert weighted == {keras.layers.DepthwiseConv2D, kresnet.layers.GroupedConv2D, keras.layers.Dense}
    np.testing.assert_allclose(rounded(x), aware(x), rtol=1e-5, atol=1e-5)
    for layer in [layer for layer in rounded.layers if type(layer) in weighted]:
        kernel = (
            np.moveaxis(np.asarray(layer.kernel), -2, -1) if "depthwise" in layer.name else np.asarray(layer.kernel)
        )
        steps = 127 * kernel / np.abs(kernel).max(tuple(range(kernel.ndim - 1)))
        np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)


CONCATENATING = {
    "inception, padding averaged": (lambda: inception(average_with_zeros), {"mixed0": 4, "reduction": 5}, 1),
    # XNNPACK lacks a pooling that averages fewer values at the edge: each of the two splits the file.
    "inception, padding left out": (
        lambda: inception(padded_average),
        {"average_pooling2d": 2, "average_pooling2d_1": 5, "reduction": 5},
        3,
    ),
    "densenet": (densenet, {"block0_layer2": 4, "block1_layer2": 4}, 1),
    "used elsewhere too": (joined_with_what_else_is_used, {"joined": 3}, 1),
}


@pytest.mark.slow
@pytest.mark.parametrize(("build", "shared", "parts"), CONCATENATING.values(), ids=CONCATENATING)
def test_concatenations_share_a_range_and_the_file_computes_the_same(build, shared, parts):
    """Eight of ten logits are equal, and none is further than two of its steps from the network's.

    Four seeds give 53 to 100 % equal and 3 steps; a range for each input, 0 to 79 % and up to 67 steps.
    """
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    model = randomise(build(), rng)
    x = images(model, rng=rng)
    aware = quantize_aware(model, x)
    ranges = [layer for layer in aware.layers if isinstance(layer, FakeQuantize)]
    assert {layer.name: layer.members for layer in ranges if layer.members > 1} == {
        f"{name}_range": members for name, members in shared.items()
    }
    content = to_tflite(aware, quantize="int8", io="uint8")
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    names, floats = operators(interpreter)
    assert floats == ["DEQUANTIZE", "QUANTIZE", "DEQUANTIZE"]
    assert names.count("QUANTIZE") == 1
    assert names.count("DELEGATE") == parts
    details = {tensor["index"]: tensor["quantization"] for tensor in interpreter.get_tensor_details()}
    concatenations = [op for op in interpreter._get_ops_details() if op["op_name"] == "CONCATENATION"]
    assert len(concatenations) == sum(isinstance(layer, keras.layers.Concatenate) for layer in model.layers)
    for op in concatenations:
        assert len({details[tensor] for tensor in (*op["inputs"], *op["outputs"])}) == 1
    classify = interpreter.get_signature_runner()
    got = np.concatenate([classify(image=one[None].astype("uint8"))["logits"] for one in x])
    expected = ops.convert_to_numpy(aware(x, training=False))
    step = (float(ranges[-1].high) - float(ranges[-1].low)) / 255
    assert np.abs(got - expected).max() <= 2.01 * step
    assert np.mean(np.abs(got - expected) < 0.01 * step) >= 0.8
    floating = ops.convert_to_numpy(model(x, training=False))
    assert np.corrcoef(expected.ravel(), floating.ravel())[0, 1] > 0.95


def test_what_shares_a_range_keeps_its_own_average_and_rounds_to_the_union(tmp_path):
    small, large = np.float32([-1, 0.5]), np.float32([0, 4])
    a, b = keras.Input((2,)), keras.Input((2,))
    layer = FakeQuantize(momentum=0.5, members=2)
    model = keras.Model([a, b], [layer(a, member=0), layer(b, member=1)])
    model([small[None], large[None]], training=True)
    model([3 * small[None], large[None]], training=True)
    assert ops.convert_to_numpy(layer.low).tolist() == [-2, 0]
    assert ops.convert_to_numpy(layer.high).tolist() == [1, 4]
    model.save(tmp_path / "shared.keras")
    loaded = keras.saving.load_model(tmp_path / "shared.keras")
    x = RNG.uniform(-3, 5, (1, 200)).astype("float32").reshape(100, 2)
    expected = tf.quantization.fake_quant_with_min_max_vars(x, -2.0, 4.0)
    for network in (model, loaded):
        for output in network([x, x], training=False):
            np.testing.assert_array_equal(output, expected)


@pytest.mark.slow
def test_a_network_that_concatenates_trains():
    keras.utils.set_random_seed(0)
    model = densenet(blocks=1)
    x = images(model)
    aware = quantize_aware(model, momentum=0.9)
    aware.compile(keras.optimizers.Adam(0.002), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses = aware.fit(x, np.arange(len(x)) % 3, batch_size=16, epochs=4, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    highs = ops.convert_to_numpy(aware.get_layer("block0_layer2_range").high)
    assert (highs > 0).all()
    assert len(set(highs)) == 4


@pytest.mark.slow
def test_training_reduces_the_loss_and_moves_the_ranges():
    model = tiny()
    x, y = images(model, 48), np.arange(48) % 3
    x[y == 1] //= 2
    x[y == 2] = 255 - x[y == 2]
    before = model.get_weights()
    aware = quantize_aware(model, x, momentum=0.9)
    assert same_weights(before, model.get_weights())
    assert norms(aware) == []
    ranges = [weight for layer in aware.layers if isinstance(layer, FakeQuantize) for weight in layer.weights]
    assert len(ranges) > 20
    assert not {id(weight) for weight in ranges} & {id(weight) for weight in aware.trainable_weights}

    def values():
        return [float(weight) for weight in ranges]

    calibrated = values()
    aware.compile(keras.optimizers.Adam(0.002), "sparse_categorical_crossentropy")
    first = aware.evaluate(x, y, verbose=0)
    aware.predict(x, verbose=0)
    assert values() == calibrated
    aware.fit(x, y, batch_size=16, epochs=6, verbose=0)
    assert aware.evaluate(x, y, verbose=0) < 0.7 * first
    assert sum(a != b for a, b in zip(values(), calibrated, strict=True)) > 0.4 * len(ranges)  # ReLU's low stays 0
    for layer in aware.layers:
        if isinstance(layer, FakeQuantize):
            layer.trainable = False
    trained = values()
    aware.compile("sgd", "sparse_categorical_crossentropy")
    aware.fit(x, y, epochs=1, verbose=0)
    assert values() == trained


@pytest.mark.slow
def test_it_is_saved_loaded_and_exported_without_calibration(tmp_path):
    model = randomise(tiny(activation="silu", se_reduction=4, groups=2))
    x = images(model)
    aware = quantize_aware(model, x)
    aware.save(tmp_path / "aware.keras")
    loaded = keras.saving.load_model(tmp_path / "aware.keras")
    assert is_quantize_aware(loaded)
    assert not is_quantize_aware(model)
    expected = aware.predict(x, verbose=0)
    np.testing.assert_array_equal(expected, loaded.predict(x, verbose=0))
    file = TFLiteFile(kresnet.export(loaded, tmp_path / "aware.tflite", quantize="int8", verify=x, latency=False))
    assert file.interpreter.get_input_details()[0]["dtype"] == np.uint8
    assert np.mean(file(x.astype("uint8")).argmax(1) == expected.argmax(1)) >= 0.9


@pytest.mark.slow
def test_calibration_sees_each_batch_and_gives_extremes():
    model = tiny(include_preprocessing=False)
    x = RNG.normal(3, 1, (40, 32, 32, 3)).astype("float32")
    x[39, 0, 0, 0], x[0, 0, 0, 0] = -7, 11
    aware = quantize_aware(model, x)
    layer = aware.get_layer("image_range")
    assert (float(layer.low), float(layer.high)) == (-7, 11)
    batches = [(x[:10], None), (x[10:], None)]
    assert same_weights(quantize_aware(model, batches).get_weights(), aware.get_weights())
    pixels = quantize_aware(tiny(), np.clip(x * 20, 0, 255)).get_layer("image_range")
    assert pixels.limits == (0, 255)
    assert pixels.weights == []


def test_without_calibration_the_first_batch_gives_the_ranges():
    layer = FakeQuantize(momentum=0.9)
    layer(np.float32([-1, 3]), training=True)
    assert (float(layer.low), float(layer.high)) == (-1, 3)
    layer(np.float32([-2, 1]), training=True)
    assert (float(layer.low), float(layer.high)) == pytest.approx((-1.1, 2.8))
    layer(np.float32([-9, 9]), training=False)
    assert (float(layer.low), float(layer.high)) == pytest.approx((-1.1, 2.8))


def test_ranges_hold_zero_and_a_dead_tensor_stays_zero():
    layer = FakeQuantize()
    layer(np.float32([2, 3]), training=True)
    assert (float(layer.low), float(layer.high)) == (0, 3)
    dead = FakeQuantize()
    assert not np.any(dead(np.zeros(4, "float32"), training=True))


@pytest.mark.parametrize(("low", "high"), [(-1.0, 3.0), (0.0, 6.0), (-5.0, 0.1), (-0.3, 0.7)])
def test_plain_operations_round_as_tensorflow_s_operator(low, high):
    x = tf.constant(RNG.uniform(-6, 7, 10000), "float32")
    results = []
    for function in (fake_quant._fake_quantize, tf.quantization.fake_quant_with_min_max_vars):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x, low, high)
        results.append((np.array(y), np.array(tape.gradient(y, x))))
    (ours, gradient), (theirs, its) = results
    step = (high - low) / 255
    difference = np.abs(ours - theirs)
    assert np.mean(difference > 1e-5) < 1e-3  # ties may round either way
    assert difference.max() <= step * 1.001
    assert len(np.unique(np.rint(ours / step))) <= 256
    assert 0 in ours
    assert np.mean(gradient != its) < 1e-3


def test_weights_are_rounded_by_channel():
    kernel = RNG.standard_normal((3, 3, 4, 5)).astype("float32") * np.float32([1, 10, 0.1, 3, 0])
    rounded = ops.convert_to_numpy(fake_quant.round_weights(kernel, (0, 1, 2)))
    steps = np.abs(kernel).max((0, 1, 2)) / 127
    assert (np.abs(rounded - kernel) <= steps * 0.5001).all()
    integers = rounded[..., :4] / steps[:4]
    assert np.abs(integers - np.rint(integers)).max() < 1e-3
    assert np.abs(integers).max() == pytest.approx(127)
    np.testing.assert_allclose(fake_quant.round_weights(rounded, (0, 1, 2)), rounded, rtol=1e-5)


def test_what_int8_is_not_known_to_compute_is_refused():
    with pytest.raises(ValueError, match=r"knows the activations linear, relu.* activation='gelu'"):
        quantize_aware(tiny(activation="gelu"))
    image = keras.Input((8, 8, 3))
    with pytest.raises(ValueError, match=r"layer='up', class=UpSampling2D"):
        quantize_aware(keras.Model(image, keras.layers.UpSampling2D(name="up")(image)))
    gate = keras.layers.Conv2D(3, 1, activation="sigmoid", name="gate")(image)
    with pytest.raises(ValueError, match=r"range LiteRT prescribes\. Received: layer='joined', inputs=\['gate'\]"):
        quantize_aware(keras.Model(image, keras.layers.Concatenate(name="joined")([image, gate])))
    aware = quantize_aware(tiny())
    with pytest.raises(ValueError, match="is quantization-aware already"):
        quantize_aware(aware)
    with pytest.raises(ValueError, match="Received: momentum=1"):
        quantize_aware(tiny(), momentum=1)
    with pytest.raises(ValueError, match=r"must hold images.* Received: shape=\(32, 32, 3\)"):
        quantize_aware(tiny(), np.zeros((32, 32, 3)))
    with pytest.raises(ValueError, match="must be a functional Keras model"):
        quantize_aware(keras.Sequential())


@pytest.mark.slow
def test_trains_on_jax(on_jax):
    printed = on_jax(
        """
        import keras, numpy as np
        from kresnet.deploy.quantize import quantize_aware
        image = x = keras.Input((8, 8, 3))
        rescaling, conv = keras.layers.Rescaling(1 / 255), keras.layers.Conv2D(4, 3)
        norm, act = keras.layers.BatchNormalization(), keras.layers.Activation("silu")
        pool, dense = keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(5, activation="softmax")
        for layer in (rescaling, conv, norm, act, pool, dense):
            x = layer(x)
        model = keras.Model(image, x)
        x = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3)).astype("float32")
        aware = quantize_aware(model, x)
        before = [np.array(weight) for weight in aware.get_weights()]
        aware.compile("sgd", "sparse_categorical_crossentropy")
        loss = aware.fit(x, np.arange(8) % 5, verbose=0).history["loss"][0]
        assert np.isfinite(loss)
        changed = [not np.array_equal(a, b) for a, b in zip(before, aware.get_weights())]
        weights = zip(changed, aware.weights)
        assert all(now for now, weight in weights if weight.trainable), changed
        print(keras.backend.backend())
        """
    )
    assert printed.split() == ["jax"]
