"""Quantization-aware training: what it rounds, how it trains, and that its int8 file computes the same."""

import os
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from keras import ops
from test_deploy import NETWORKS, norms, randomise, same_weights
from test_processes import python

import kresnet
from kresnet.deploy.convert import to_tflite
from kresnet.deploy.quantize import is_quantize_aware, quantize_aware
from kresnet.inference.tflite_file import TFLiteModel
from kresnet.layers import fake_quantize as fake_quant
from kresnet.layers.fake_quantize import FakeQuantize

RNG = np.random.default_rng(0)
CLASSIFIERS = ("basic, option A", "D", "ResNeXt", "V2", "MobileNetV2", "EfficientNet")


def images(model, count=32):
    """Blobs of different brightness and place: random pixels would all look alike to a network."""
    height, width, channels = model.inputs[0].shape[1:]
    rows, columns = np.mgrid[0:height, 0:width]
    y, x, size, light = RNG.uniform([0, 0, 4, 80], [height, width, 15, 255], (count, 4)).T[..., None, None]
    blobs = light * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / size**2)
    return np.rint(blobs[..., None] * RNG.uniform(0.2, 1, (count, 1, 1, channels))).astype("float32")


def tiny(**fields):
    keras.utils.set_random_seed(1)
    return kresnet.ResNet(depths=(1, 1), widths=(8, 16), classes=3, input_shape=(32, 32, 3), **fields)


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
    file = TFLiteModel(kresnet.export(loaded, tmp_path / "aware.tflite", quantize="int8", verify=x, latency=False))
    assert file.interpreter.get_input_details()[0]["dtype"] == np.uint8
    assert np.mean(file(x.astype("uint8")).argmax(1) == expected.argmax(1)) >= 0.9


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
    aware = quantize_aware(tiny())
    with pytest.raises(ValueError, match="is quantization-aware already"):
        quantize_aware(aware)
    with pytest.raises(ValueError, match="Received: momentum=1"):
        quantize_aware(tiny(), momentum=1)
    with pytest.raises(ValueError, match=r"must be images.* Received: shape=\(32, 32, 3\)"):
        quantize_aware(tiny(), np.zeros((32, 32, 3)))
    with pytest.raises(ValueError, match="must be a functional Keras model"):
        quantize_aware(keras.Sequential())


def test_trains_on_jax():
    pytest.importorskip("jax")
    printed = python(
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
        """,
        KERAS_BACKEND="jax",
        PYTHONPATH=os.pathsep.join(sys.path),
    )
    assert printed.split() == ["jax"]
