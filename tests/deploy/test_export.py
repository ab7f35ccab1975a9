"""What is exported computes what the network computes, describes itself, and is written completely or not at all."""

import json
import os
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

import kresnet
from kresnet import cli
from kresnet.data.samples import natural_images
from kresnet.graph.fold import fold_batch_norm
from kresnet.inference.preprocessing import description_of
from kresnet.inference.tflite_file import TFLiteFile

TINY = {"depths": (1, 1), "widths": (8, 16), "classes": 5, "input_shape": (32, 40, 3)}
X = natural_images(8, (32, 40, 3))


def serve(folder, images):
    loaded = tf.saved_model.load(folder)
    return loaded.serve(images)["probs"].numpy()


def proof(path):
    return json.loads(description_of(path).read_text())["proof"]


@pytest.fixture(scope="module")
def tiny():
    return kresnet.ResNet(**TINY)


@pytest.fixture(scope="module")
def digits():
    """A network that reads digits, their images, (n, 8, 8, 1), and their labels."""
    scans = load_digits()
    images = (scans.images[..., None] * 255 / 16).astype("uint8")
    keras.utils.set_random_seed(0)
    model = kresnet.ResNet(depths=(1, 1), widths=(8, 16), stem="conv3", classes=10, input_shape=(8, 8, 1))
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(images[:1400], scans.target[:1400], 64, 6, verbose=0)
    return model, images, scans.target


@pytest.mark.slow
@pytest.mark.parametrize(
    "fields",
    [
        {"preactivation": True, "stem": "deep", "shortcut": "avg_conv"},
        {"groups": 4, "se_reduction": 4, "activation": "silu"},
        {"stem": "conv3", "expansion": 1, "shortcut": "pad"},
        {"shortcut": "conv3", "stem_pool": "ceil", "output_stride": 8, "drop_path_rate": 0.1, "dropout_rate": 0.1},
    ],
)
def test_both_forms_agree_with_keras(fields, tmp_path):
    model = kresnet.ResNet(**TINY, **fields)
    expected = keras.ops.convert_to_numpy(model(X.astype("float32")))
    file = kresnet.export(model, tmp_path / "new" / "model.tflite", latency=False)
    np.testing.assert_allclose(TFLiteFile(file)(X), expected, atol=1e-5)
    folder = kresnet.export(model, tmp_path / "model")
    np.testing.assert_allclose(serve(folder, X), expected, atol=1e-5)
    assert proof(file)["xnnpack_partitions"] == 1
    assert proof(file)["logits"]["largest_of_deviation"] < 1e-4
    assert proof(folder)["outputs"]["largest_of_deviation"] < 1e-4


def test_a_tflite_has_a_static_batch_and_names(tiny, tmp_path):
    one = TFLiteFile(kresnet.export(tiny, tmp_path / "one.tflite", latency=False))
    assert one.interpreter.get_signature_list() == {"serving_default": {"inputs": ["image"], "outputs": ["probs"]}}
    assert one.interpreter.get_input_details()[0]["dtype"] == np.uint8
    assert one.batch_size == 1
    four = TFLiteFile(kresnet.export(tiny, tmp_path / "four.tflite", batch_size=4, latency=False))
    any_number = TFLiteFile(kresnet.export(tiny, tmp_path / "any.tflite", batch_size=None, latency=False))
    assert (four.batch_size, any_number.batch_size) == (4, None)
    for other in (four, any_number):
        np.testing.assert_allclose(other(X[:7]), one(X[:7]), atol=1e-6)


@pytest.mark.parametrize("kind", ["sequential", "shared head"])
def test_models_of_other_makes_go_out(kind, tmp_path):
    image, dense = keras.Input((16, 16, 3)), keras.layers.Dense(2, activation="softmax")
    model = keras.Sequential([image, keras.layers.Flatten(), dense])
    if kind == "shared head":
        other = keras.Input((16, 16, 3))
        model = keras.Model(other, dense(keras.layers.Flatten()(keras.layers.ReLU()(other))))
    file = TFLiteFile(kresnet.export(model, tmp_path / "x.tflite", latency=False))
    images = X[:, :16, :16].astype("float32")
    np.testing.assert_allclose(file(images), keras.ops.convert_to_numpy(model(images)), atol=1e-4)


def test_a_network_without_preprocessing_or_softmax_is_exported_as_it_is(tmp_path):
    bare = kresnet.ResNet50(**TINY, include_preprocessing=False, classifier_activation=None)
    file = kresnet.export(bare, tmp_path / "bare.tflite", latency=False)
    about = json.loads(description_of(file).read_text())
    assert about["input"]["dtype"] == "float32"
    assert about["input"]["mean"] == [123.675, 116.28, 103.53]
    assert about["output"]["name"] == "logits"
    x = np.random.default_rng(0).standard_normal((3, 32, 40, 3)).astype("float32")
    np.testing.assert_allclose(TFLiteFile(file)(x), bare(x), atol=1e-4)
    features = kresnet.ResNet(**{**TINY, "include_top": False})
    file = kresnet.export(features, tmp_path / "features.tflite", latency=False)
    np.testing.assert_allclose(TFLiteFile(file)(X), features(X.astype("float32")), rtol=1e-4, atol=1e-4)


def test_the_description_says_what_goes_in_and_out_and_was_measured(tmp_path):
    model = kresnet.ResNet50(**TINY)
    labels = ["cat", "dog", "fish", "Jürgen", "a bird"]
    file = kresnet.export(model, tmp_path / "x.tflite", labels=labels, description={"weights": "random", "top1": 0.2})
    about = json.loads((tmp_path / "x.json").read_text())
    assert about["network"] == "resnet50"
    assert about["paper"] == "https://arxiv.org/abs/1512.03385"
    assert (about["weights"], about["top1"]) == ("random", 0.2)
    assert about["labels"] == labels == TFLiteFile(file).labels
    assert about["input"]["shape"] == [1, 32, 40, 3]
    assert (about["input"]["dtype"], about["input"]["channels"], about["input"]["range"]) == ("uint8", "RGB", [0, 255])
    numbers = about["proof"]
    assert numbers["size_bytes"] == file.stat().st_size
    assert numbers["operators"]["CONV_2D"] == 9
    assert (numbers["images"], numbers["images_are"]) == (16, "synthetic, with the spectrum of photographs")
    low, high = numbers["top1_agreement"]["interval95"]
    assert 0.8 < low < numbers["top1_agreement"]["value"] <= high <= 1
    assert set(numbers["latency_ms"]) == {"1_thread", "2_threads", f"keras_{os.cpu_count()}_cores"}
    assert min(numbers["latency_ms"].values()) > 0


@pytest.mark.slow
def test_what_the_model_knows_about_itself_goes_into_the_file(tmp_path):
    model = kresnet.ResNet(**TINY)
    model.describe(labels=["a", "b", "c", "d", "e"], paper="1512.03385", weights="trained.npz")
    file = kresnet.export(model, tmp_path / "x.tflite", latency=False)
    about = json.loads((tmp_path / "x.json").read_text())
    assert about["labels"] == TFLiteFile(file).labels == ["a", "b", "c", "d", "e"]
    assert (about["weights"], about["paper"]) == ("trained.npz", "https://arxiv.org/abs/1512.03385")
    kresnet.export(model, file, labels=["v", "w", "x", "y", "z"], latency=False)
    assert TFLiteFile(file).labels == ["v", "w", "x", "y", "z"]
    model.describe(labels=["of", "another", "head"])
    kresnet.export(model, file, latency=False)
    assert TFLiteFile(file).labels is None


@pytest.mark.slow
def test_int8_reads_digits_as_the_network_does(digits, tmp_path):
    model, images, labels = digits
    test = images[1400:], labels[1400:]
    file = kresnet.export(
        model, tmp_path / "x.tflite", quantize="int8", calibration=images[:1400], verify=test, latency=False
    )
    numbers = proof(file)
    assert numbers["top1_agreement"]["value"] >= 0.95
    accuracy = {side: share["value"] for side, share in numbers["accuracy"].items()}
    assert accuracy["keras"] == pytest.approx(np.mean(model.predict(test[0], verbose=0).argmax(1) == test[1]))
    assert accuracy["file"] == pytest.approx(np.mean(TFLiteFile(file)(test[0]).argmax(1) == test[1]))
    assert accuracy["keras"] > 0.9
    assert abs(accuracy["keras"] - accuracy["file"]) < 0.02
    assert numbers["accuracy"]["file"]["images"] == 397
    whole = kresnet.export(model, tmp_path / "whole.tflite", latency=False)
    assert numbers["size_bytes"] < 0.7 * whole.stat().st_size  # of a file this small much is names
    half = kresnet.export(model, tmp_path / "half.tflite", quantize="float16", verify=test, latency=False)
    assert 1e-6 < proof(half)["logits"]["largest_of_deviation"] <= 1e-2
    dynamic = kresnet.export(model, tmp_path / "dynamic.tflite", quantize="dynamic", verify=test, latency=False)
    assert proof(dynamic)["top1_agreement"]["value"] >= 0.95


@pytest.mark.slow
def test_int8_files_take_pixels_as_they_are_however_dark_the_calibration(digits, tmp_path):
    model, images, _ = digits
    dark = images[:64] // 8
    files = {}
    for io, scale in (("uint8", (1.0, 0)), ("int8", (1.0, -128)), ("float32", (0.0, 0))):
        settings = {"quantize": "int8", "calibration": dark, "io": io, "agreement": 0, "latency": False}
        files[io] = TFLiteFile(kresnet.export(model, tmp_path / f"{io}.tflite", **settings))
        assert files[io].interpreter.get_input_details()[0]["quantization"] == scale
        assert files[io].interpreter.get_output_details()[0]["dtype"] == (np.int8 if io == "int8" else np.float32)
    np.testing.assert_allclose(files["int8"](images[:20]), files["uint8"](images[:20]), atol=1 / 128)
    np.testing.assert_allclose(files["float32"](images[:20]), files["uint8"](images[:20]), atol=1e-6)


@pytest.mark.slow
def test_a_quantization_aware_network_needs_no_calibration(digits, tmp_path):
    from kresnet.deploy.quantize import quantize_aware

    model, images, _ = digits
    aware = quantize_aware(model, images[:256])
    file = kresnet.export(aware, tmp_path / "x.tflite", quantize="int8", verify=images[1400:], latency=False)
    assert TFLiteFile(file).interpreter.get_input_details()[0]["dtype"] == np.uint8
    assert proof(file)["top1_agreement"]["value"] >= 0.95


@pytest.mark.slow
def test_what_differs_is_not_written_and_the_layer_is_named(digits, tmp_path):
    """A channel whose numbers are a thousand times the others' leaves int8 no steps for those."""
    network, images, labels = digits
    model = fold_batch_norm(network)
    conv1, conv2 = model.get_layer("stage2_block1_conv1"), model.get_layer("stage2_block1_conv2")
    (kernel, bias), (kernel2, bias2) = conv1.get_weights(), conv2.get_weights()
    kernel[..., 0], bias[0], kernel2[:, :, 0] = 1000 * kernel[..., 0], 1000 * bias[0] + 1e4, 0
    conv1.set_weights([kernel, bias])
    conv2.set_weights([kernel2, bias2])
    settings = {"quantize": "int8", "calibration": images[:200], "verify": (images[1400:], labels[1400:])}
    with pytest.raises(
        ValueError, match=r"x\.tflite is not written: .* not 95\.0%.* grows most in: stage2_block1_act1 "
    ):
        kresnet.export(model, tmp_path / "x.tflite", **settings)
    with pytest.raises(ValueError, match=r"of their deviation \(tolerance: 1e-09\)\..*stage"):
        kresnet.export(model, tmp_path / "x.tflite", tolerance=1e-9, latency=False)
    with pytest.raises(ValueError, match=r"differ by up to"):
        kresnet.export(network, tmp_path / "x", tolerance=0.0, verify=images)
    assert not list(tmp_path.iterdir())


def test_models_that_compute_in_half_precision_are_exported_in_float32(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = kresnet.ResNet(**TINY)
    finally:
        keras.config.set_dtype_policy("float32")
    file = kresnet.export(model, tmp_path / "x.tflite", latency=False)
    assert proof(file)["logits"]["largest_of_deviation"] < 1e-4
    assert set(proof(file)["operators"]) == {
        *("CAST", "ADD", "PAD", "CONV_2D", "MAX_POOL_2D", "MEAN"),
        "FULLY_CONNECTED",
        "SOFTMAX",
    }


def test_a_model_around_a_model_is_exported(tiny, tmp_path):
    image = keras.Input((32, 40, 3))
    outer = keras.Model(image, tiny(keras.layers.RandomFlip()(image)))
    file = kresnet.export(outer, tmp_path / "x.tflite", latency=False)
    np.testing.assert_allclose(TFLiteFile(file)(X), tiny(X.astype("float32")), atol=1e-5)


def test_arguments_are_checked(tiny, tmp_path):
    def refuses(words, model=tiny, path="x.tflite", **arguments):
        with pytest.raises(ValueError, match=words):
            kresnet.export(model, tmp_path / path, **arguments)

    refuses(r"Received: input_shape=\(None, None, 3\)", kresnet.ResNet(**{**TINY, "input_shape": (None, None, 3)}))
    refuses(r"one image input and one output.*outputs=\[.*\]", kresnet.ResNet(**{**TINY, "features": True}))
    refuses(r"Received: format='tflit'", format="tflit")
    refuses(r"Received: quantize='int4'", quantize="int4")
    refuses(r"Only a \.tflite is quantized. Received: quantize='int8'", path="x", quantize="int8")
    refuses(r"needs `calibration` images.*Received: calibration=None", quantize="int8")
    refuses(r'io="int8" needs quantize="int8"', io="int8")
    refuses(r"Received: io='uint16'", io="uint16")
    refuses(r"Received: batch_size=0", batch_size=0)
    refuses(r"each of the network\'s 5 classes. Received: number=2", labels=["a", "b"])
    refuses(r"one line of text. Received: labels=\['a\\nb'\]", labels=["a\nb", *"cdef"])
    refuses(r"Received: agreement=2", quantize="dynamic", verify=X, agreement=2)
    refuses(r"Received: tolerance=-1", tolerance=-1)
    refuses(r"fills in. Received: description=\['proof'\]", description={"proof": 1})
    refuses(r"images of shape \(32, 40, 3\).*shape=\(8, 40, 32, 3\)", verify=X.transpose(0, 2, 1, 3))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_network_of_open_size_becomes_a_saved_model(tmp_path):
    model = kresnet.ResNet(**{**TINY, "input_shape": (None, None, 3)})
    np.testing.assert_allclose(serve(kresnet.export(model, tmp_path / "x"), X), model(X.astype("float32")), atol=1e-5)


def test_a_failed_write_keeps_the_old_files(tiny, tmp_path, monkeypatch):
    """As on a full disk."""
    file, about = tmp_path / "x.tflite", tmp_path / "x.json"
    file.write_bytes(b"old")
    about.write_text("old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    sync = os.fsync
    for full_at in range(2):  # of the description, of the file
        turns = iter(range(10))

        def some_full(descriptor, turns=turns, full_at=full_at):
            return full(descriptor) if next(turns) == full_at else sync(descriptor)

        monkeypatch.setattr(os, "fsync", some_full)
        with pytest.raises(OSError, match=r"No space left on device: '.*/x\.(json|tflite)'"):
            kresnet.export(tiny, file, latency=False)
        assert (file.read_bytes(), about.read_text()) == (b"old", "old")
        assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.slow
def test_a_saved_model_is_replaced_whole_and_nothing_else_is(tiny, tmp_path):
    folder = kresnet.export(tiny, tmp_path / "x")
    with pytest.raises(ValueError, match=r"differ by up to"):
        kresnet.export(kresnet.ResNet(**TINY), folder, tolerance=0.0)
    np.testing.assert_allclose(serve(folder, X), tiny(X.astype("float32")), atol=1e-5)
    kresnet.export(tiny, folder, io="float32")
    assert (
        tf.saved_model.load(folder).signatures["serving_default"].structured_input_signature[1]["image"].dtype
        == "float32"
    )
    assert list(tmp_path.iterdir()) == [folder]
    other = tmp_path / "photos"
    other.mkdir()
    (other / "holiday.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"something other than a SavedModel"):
        kresnet.export(tiny, other)


def test_onnx_agrees_with_keras(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'kresnet[onnx]'")
    pytest.importorskip("tf2onnx", reason="pip install 'kresnet[onnx]'")
    model = kresnet.ResNet(**TINY, groups=4, se_reduction=4)  # Keras's own grouped convolution makes an invalid file
    file = kresnet.export(model, tmp_path / "x.onnx")
    session = onnxruntime.InferenceSession(file)
    (image,) = session.get_inputs()
    assert (image.name, image.type) == ("image", "tensor(uint8)")
    np.testing.assert_allclose(session.run(None, {"image": X})[0], model(X.astype("float32")), atol=1e-5)
    assert json.loads((tmp_path / "x.onnx.json").read_text())["proof"]["outputs"]["largest_of_deviation"] < 1e-4


@pytest.mark.slow
def test_the_command_exports_a_file_and_prints_the_proof(digits, tmp_path, capsys):
    network, images, _ = digits
    keras_file, out = tmp_path / "digits.keras", tmp_path / "digits.tflite"
    network.save(keras_file)
    (tmp_path / "labels.txt").write_text("".join(f"digit {i}\n" for i in range(10)))
    command = ["export", str(keras_file), "--out", str(out), "--quantize", "int8", "--data", "digits"]
    assert cli.main([*command, "--labels", str(tmp_path / "labels.txt"), "--agreement", "0.5"]) == 0
    printed = capsys.readouterr().out
    assert "1 XNNPACK partition" in printed
    assert "(given)" in printed
    assert re.search(r"accuracy of file: \d+\.\d+% \(\d", printed)
    assert f"wrote {out} and {tmp_path / 'digits.json'}" in printed
    classify = TFLiteFile(out)
    assert classify.labels[3] == "digit 3"
    assert classify(images[:2]).shape == (2, 10)
    assert cli.main(["export", str(out), "--out", str(tmp_path / "again.tflite")]) == 2
    assert "Only a run or a .keras is exported" in capsys.readouterr().err
    assert cli.main(["export", str(keras_file), "--out", str(tmp_path / "x.tflite"), "--quantize", "int8"]) == 2
    assert "needs `calibration` images" in capsys.readouterr().err
