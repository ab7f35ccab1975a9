"""Evaluation as in the papers, against computations by hand."""

import keras
import numpy as np
import pytest
from pictures import write_folder
from PIL import Image

import kresnet
from kresnet.evaluation.intervals import wilson
from kresnet.evaluation.result import Evaluation
from kresnet.graph.network import Network

RNG = np.random.default_rng(0)


def network(size, classes=3, channels=3, seed=0, **told):
    """Returns a network that is sensitive to position, so that every crop counts."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((size, size, channels))
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    x = keras.layers.Flatten()(x)
    return Network(image, keras.layers.Dense(classes, "softmax")(x), name=f"network{seed}", kresnet_config=told)


def dataset(images, labels, batch=2):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(batch)


def test_ten_crops():
    model = network(8)
    images, labels = RNG.integers(0, 256, (5, 12, 11, 3), "uint8"), np.array([0, 1, 2, 0, 1])
    crops = []
    for x in images:
        for top, left in [(0, 0), (0, 3), (4, 0), (4, 3), (2, 1)]:
            crop = x[top : top + 8, left : left + 8]
            crops += [crop, crop[:, ::-1]]
    expected = model.predict(np.stack(crops), verbose=0).reshape(5, 10, 3).mean(1)
    result = kresnet.evaluate(model, dataset(images, labels), crops="ten", verbose=False)
    np.testing.assert_allclose(result.probabilities, expected, rtol=1e-5)
    assert result.correct() == (expected.argmax(1) == labels).sum()
    assert result.loss == pytest.approx(-np.log(expected[range(5), labels]).mean(), rel=1e-5)


def test_ten_crops_of_a_folder(tmp_path):
    folder = write_folder(tmp_path / "photos")
    result = kresnet.evaluate(network(32), folder, crops="ten", split="all", verbose=False)
    assert result.examples == 18
    assert result.class_names == ("blue", "green", "red")


@pytest.mark.slow
def test_full_is_the_network_on_whole_images():
    """A network with a fixed input size is evaluated like the same network built for any size."""
    fixed = kresnet.ResNet(depths=(1, 1), widths=(8, 16), input_shape=(32, 32, 3), classes=3)
    opened = kresnet.ResNet(depths=(1, 1), widths=(8, 16), input_shape=(None, None, 3), classes=3)
    opened.set_weights(fixed.get_weights())
    images = RNG.integers(0, 256, (4, 64, 96, 3), "uint8")
    result = kresnet.evaluate(fixed, dataset(images, np.arange(4) % 3), crops="full", scales=(64,), verbose=False)
    np.testing.assert_allclose(result.probabilities, opened.predict(images, verbose=0), rtol=1e-4)


@pytest.mark.slow
def test_scales_are_averaged():
    model = kresnet.ResNet(depths=(1, 1), widths=(8, 16), input_shape=(32, 32, 3), classes=3)
    images = RNG.integers(0, 256, (3, 64, 64, 3), "uint8")
    data = dataset(images, np.arange(3), batch=1)
    each = [kresnet.evaluate(model, data, crops="full", scales=(s,), verbose=False).probabilities for s in (32, 64, 96)]
    both = kresnet.evaluate(model, data, crops="full", scales=(32, 64, 96), verbose=False)
    np.testing.assert_allclose(both.probabilities, np.mean(each, axis=0), rtol=1e-5)
    assert np.abs(each[0] - each[1]).max() > 1e-3


def test_full_on_files_of_many_sizes(tmp_path):
    folder = write_folder(tmp_path / "photos")
    model = kresnet.ResNet(depths=(1, 1), widths=(8, 16), input_shape=(32, 32, 3), classes=3)
    result = kresnet.evaluate(model, folder, crops="full", scales=(32, 64), split="all", verbose=False)
    assert result.examples == 18
    assert result.to_dict()["scales"] == [32, 64]


def test_ensemble():
    models = [network(8, seed=s) for s in (1, 2, 3)]
    images, labels = RNG.integers(0, 256, (6, 8, 8, 3), "uint8"), np.arange(6) % 3
    result = kresnet.evaluate(models, dataset(images, labels), verbose=False)
    expected = np.mean([m.predict(images, verbose=0) for m in models], axis=0)
    np.testing.assert_allclose(result.probabilities, expected, rtol=1e-5)


def crops_by_pillow(folder, resized, size):
    """Returns the images of a folder, their shorter side resized to `resized` pixels, and the central squares."""
    cropped = []
    for path in sorted(folder.glob("*/*")):
        image = Image.open(path).convert("RGB")
        columns, rows = (resized * side // min(image.size) for side in image.size)
        left, top = (round((side - size) / 2) for side in (columns, rows))
        image = image.resize((columns, rows), Image.BICUBIC)
        cropped.append(np.asarray(image.crop((left, top, left + size, top + size))))
    return np.stack(cropped)


@pytest.mark.slow
def test_images_are_cropped_and_resized_as_the_network_wants(tmp_path):
    folder = write_folder(tmp_path / "photos", 4, kinds=("png",))
    model, plain = network(16, crop_fraction=0.5, interpolation="bicubic"), network(16)

    def probabilities(one, **arguments):
        return kresnet.evaluate(one, folder, split="all", verbose=False, **arguments).probabilities

    wanted = plain.predict(crops_by_pillow(folder, 32, 16), verbose=0)
    np.testing.assert_allclose(probabilities(model), wanted, rtol=1e-5)
    np.testing.assert_allclose(probabilities(plain, crop_fraction=0.5, interpolation="bicubic"), wanted, rtol=1e-5)
    wider = plain.predict(crops_by_pillow(folder, 20, 16), verbose=0)
    np.testing.assert_allclose(probabilities(model, crop_fraction=0.8), wider, rtol=1e-5)
    assert np.abs(probabilities(plain) - wanted).max() > 1e-3
    ten = dataset(crops_by_pillow(folder, 18, 18), np.arange(12) % 3)
    ten = kresnet.evaluate(plain, ten, crops="ten", verbose=False).probabilities
    np.testing.assert_allclose(probabilities(model, crops="ten"), ten, rtol=1e-5)


@pytest.mark.slow
def test_an_ensemble_must_agree_on_cropping_and_resizing(tmp_path):
    folder = write_folder(tmp_path / "photos", 2, kinds=("png",))
    first, second = network(16, crop_fraction=0.5, interpolation="bicubic"), network(16, seed=1, crop_fraction=0.8)

    def probabilities(*models, **arguments):
        return kresnet.evaluate(models, folder, split="all", verbose=False, **arguments).probabilities

    with pytest.raises(ValueError, match=r"give `crop_fraction`\. .*\('network0', 0.5\), \('network1', 0.8\)"):
        probabilities(first, second)
    with pytest.raises(ValueError, match=r"give `interpolation`\. .*\('network0', 'bicubic'\), \('network1', None\)"):
        probabilities(first, second, crop_fraction=0.8)
    both = {"crop_fraction": 0.8, "interpolation": "bilinear"}
    mean = (probabilities(first, **both) + probabilities(second, **both)) / 2
    np.testing.assert_allclose(probabilities(first, second, **both), mean, rtol=1e-5)
    # 1 is what a small network gets that says nothing.
    probabilities(network(16, crop_fraction=1.0), network(16, seed=1))
    images = dataset(RNG.integers(0, 256, (2, 16, 16, 3), "uint8"), np.arange(2))
    kresnet.evaluate([first, second], images, verbose=False)  # which are cropped already


@pytest.mark.slow
def test_the_same_network_in_every_form(tmp_path):
    model = kresnet.ResNet(depths=(1, 1), widths=(8, 16), stem="conv3", input_shape=(16, 16, 1), classes=10)
    forms = [model, tmp_path / "m.keras", tmp_path / "saved", tmp_path / "m.tflite"]
    model.save(forms[1])
    kresnet.export(model, forms[2])
    kresnet.export(model, forms[3])
    results = [kresnet.evaluate(form, "digits", verbose=False) for form in forms]
    for result in results:
        np.testing.assert_allclose(result.probabilities, results[0].probabilities, atol=1e-4)
        assert result.examples == 359


def test_top5_and_summary():
    probabilities = np.tile(np.linspace(0.3, 0.0, 8), (4, 1))
    result = Evaluation(np.array([0, 4, 5, 7]), probabilities)
    assert (result.correct(1), result.correct(5)) == (1, 2)
    assert "top-1 25.00% (1 of 4, 95 % interval 4.56% to 69.94%)" in result.summary()
    assert "top-5 50.00% (2 of 4" in result.summary()


def test_wilson():
    """Against published values: Newcombe 1998, Statistics in Medicine 17, table I, method 3."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=1e-4)


def test_bad_arguments(tmp_path):
    model = network(8)
    images = RNG.integers(0, 256, (2, 8, 8, 3), "uint8")
    (tmp_path / "broken.keras").write_text("no model")
    for arguments, match in [
        ({"crops": "five"}, "Received: crops='five'"),
        ({"scales": (32,)}, "are for crops='full'"),
        ({"crops": "full", "scales": (33,)}, r"multiples of 32\. Received: scales=\(33,\)"),
        ({"data": dataset(images, np.array([0, 3]))}, r"in 0 to 2\. Received: label=3"),
        ({"model": [model, network(8, classes=4)]}, r"same classes\. Received: classes=\[3, 4\]"),
        ({"model": [model, network(9)]}, r"takes images of another size\. Received: image_size=8"),
        ({"model": tmp_path / "none.keras"}, "no such file"),
        ({"model": tmp_path / "broken.keras"}, "is not a complete Keras model"),
        ({"model": []}, "at least one network"),
        ({"crop_fraction": 0.9}, r"of a source's images\. Received: crop_fraction=0.9, crops='center', data=<"),
        ({"data": "digits", "crops": "full", "interpolation": "bicubic"}, "Received: interpolation='bicubic', crops"),
        (
            {"model": network(8, 4, 1), "data": "digits"},
            r"as many classes as the images\. Received: network=4, images=10",
        ),
    ]:
        defaults = {"model": model, "data": dataset(images, np.array([0, 1])), "verbose": False}
        with pytest.raises(ValueError, match=match):
            kresnet.evaluate(**defaults | arguments)


def test_data_that_are_no_batches_are_refused_in_a_line():
    import tensorflow as tf

    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2, "softmax")])
    x, y = np.zeros((4, 8, 8, 3), "uint8"), np.zeros(4, "int64")
    pairs = tf.data.Dataset.from_tensor_slices((x, y))
    for data, message in (
        ((x, y), r"a dataset of batches, such as .*\. Received: data='tuple'"),
        (x, r"Received: data='ndarray'"),
        (None, r"Received: data='NoneType'"),
        (pairs, r"must hold batches of images.* Received: images=TensorShape\(\[8, 8, 3\]\)"),
        (pairs.map(lambda x, y: x).batch(2), r"batches of \(images, labels\)\. Received: element_spec="),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            kresnet.evaluate(model, data, verbose=False)
        assert "\n" not in str(caught.value)
