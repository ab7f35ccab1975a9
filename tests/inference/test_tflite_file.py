"""Running .tflite files: any number of images, any dtype of input and output, labels, and clear errors."""

import io
import zipfile

import keras
import numpy as np
import pytest

import kresnet
from kresnet.deploy.convert import to_tflite
from kresnet.inference.tflite_file import TFLiteFile, dequantized, quantized

X = np.random.default_rng(0).integers(0, 256, (5, 32, 40, 3), "uint8")


@pytest.fixture(scope="module")
def network():
    return kresnet.ResNet(input_shape=(32, 40, 3), depths=(1, 1), widths=(8, 16), classes=4)


@pytest.fixture(scope="module")
def file(network, tmp_path_factory):
    return kresnet.export(network, tmp_path_factory.mktemp("tflite") / "model.tflite", latency=False)


@pytest.mark.slow
def test_runs_any_number_of_images(network, file):
    classify = TFLiteFile(file, threads=2)
    assert (classify.image_shape, classify.batch_size, classify.classes) == ((32, 40, 3), 1, 4)
    np.testing.assert_allclose(classify(X), keras.ops.convert_to_numpy(network(X)), atol=1e-5)
    assert classify(X[:0]).shape == (0, 4)
    np.testing.assert_array_equal(classify(X), TFLiteFile(file.read_bytes())(X.astype("float32")))


def test_labels_come_from_the_appended_archive(file, tmp_path):
    content = io.BytesIO(file.read_bytes())
    with zipfile.ZipFile(content, "a") as archive:
        archive.writestr("labels.txt", "cat\ndog\nfish\nJürgen\n")
    labelled = tmp_path / "labelled.tflite"
    labelled.write_bytes(content.getvalue())
    assert TFLiteFile(labelled).labels == ["cat", "dog", "fish", "Jürgen"]


def test_what_is_not_a_classifier_is_refused_by_its_name(file, tmp_path):
    broken = tmp_path / "broken.tflite"
    for content in (b"", b"not a model", file.read_bytes()[:2000]):
        broken.write_bytes(content)
        with pytest.raises(ValueError, match=r"LiteRT cannot load .*broken\.tflite"):
            TFLiteFile(broken)
    with pytest.raises(ValueError, match=r"missing\.tflite cannot be read: No such file"):
        TFLiteFile(tmp_path / "missing.tflite")
    vector = keras.Sequential([keras.Input((8,), batch_size=1), keras.layers.Dense(2)])
    broken.write_bytes(to_tflite(vector))
    with pytest.raises(ValueError, match=r"broken\.tflite is not an image classifier.*inputs=\[\(1, 8\)\]"):
        TFLiteFile(broken)


def test_images_of_another_shape_are_refused(file):
    with pytest.raises(ValueError, match=r"takes images of \(n, 32, 40, 3\)\. Received: shape=\(32, 40, 3\)"):
        TFLiteFile(file)(X[0])


def test_numbers_are_rounded_to_the_steps_of_the_tensor_and_clipped():
    tensor = {"dtype": np.int8, "quantization": (0.5, -10)}
    stored = quantized(np.array([0.0, 1.2, 1.3, 1000, -1000]), tensor)
    np.testing.assert_array_equal(stored, np.array([-10, -8, -7, 127, -128], "int8"))
    np.testing.assert_array_equal(dequantized(stored, tensor), np.array([0, 1, 1.5, 68.5, -59], "float32"))
    pixels = {"dtype": np.uint8, "quantization": (0.0, 0)}
    np.testing.assert_array_equal(quantized(np.array([0.4, 254.7, 300]), pixels), [0, 255, 255])
