"""A network is the same predictor in whatever form it is stored."""

import hashlib
import importlib.util
import json
import os
import re
import sys

import keras
import numpy as np
import pytest
from pictures import encoded, picture
from PIL import Image

import kresnet
from kresnet.cli import main
from kresnet.data import loading
from kresnet.graph.network import Network
from kresnet.inference.predictors import BEST, CONFIG, predict, predictor

NAMES = ("cat", "dog", "fish")
X = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), "uint8")


@pytest.fixture
def network():
    model = kresnet.ResNet(input_shape=(32, 32, 3), depths=(1, 1), widths=(8, 16), classes=3)
    model.describe(labels=NAMES)
    return model


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """A network, and what it is exported as, by suffix, "" being a SavedModel's."""
    folder = tmp_path_factory.mktemp("exports")
    model = kresnet.ResNet(input_shape=(32, 32, 3), depths=(1,), widths=(8,), classes=3, classifier_activation=None)
    model.describe(labels=NAMES)
    suffixes = [".tflite", ""] + ([".onnx"] if importlib.util.find_spec("tf2onnx") else [])
    return model, {suffix: kresnet.export(model, folder / f"x{suffix}", latency=False) for suffix in suffixes}


@pytest.mark.slow
def test_every_form_is_the_same_predictor(exports, tmp_path):
    """Of a network that gives logits, too."""
    model, files = exports
    model.save(tmp_path / "x.keras")
    expected = keras.ops.convert_to_numpy(keras.ops.softmax(model(X)))
    for form in (model, tmp_path / "x.keras", *files.values()):
        found = predictor(form)
        assert found.image_shape == (32, 32, 3)
        assert found.class_names == NAMES
        assert found.input_range == (0, 255)
        np.testing.assert_allclose(found.run(X), expected, atol=1e-5)


@pytest.mark.slow
def test_a_fixed_batch_takes_any_number_of_images(exports, tmp_path):
    model, files = exports
    expected = predictor(model).run(X)
    for suffix in files.keys() - {".tflite"}:
        four = kresnet.export(model, tmp_path / f"four{suffix}", batch_size=3)
        for count in (1, 3, 4):
            np.testing.assert_allclose(predictor(four).run(X[:count]), expected[:count], atol=1e-5)


def test_onnx_is_predicted_and_evaluated_with_its_labels(exports, tmp_path, photo, capsys, monkeypatch):
    if ".onnx" not in exports[1]:
        pytest.skip("pip install 'kresnet[onnx]'")
    file = str(exports[1][".onnx"])
    assert main(["predict", file, str(photo)]) == 0
    assert set(NAMES) <= set(capsys.readouterr().out.split())
    for name in NAMES:
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "x.png").write_bytes(photo.read_bytes())
    assert main(["evaluate", file, "--data", str(tmp_path / "photos"), "--split", "all"]) == 0
    assert "top-1 33.33% (1 of 3" in capsys.readouterr().out
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["predict", file, str(photo)]) == 2
    assert "pip install 'kresnet[onnx]'" in capsys.readouterr().err


def test_what_is_no_network_or_a_damaged_one_is_named_in_one_line(exports, tmp_path, photo, capsys):
    def refused(path, words):
        assert main(["predict", str(path), str(photo)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert re.match(rf"kresnet: .*{words}", line), line
        assert str(path) in line

    kinds = r"\.keras, \.tflite or \.onnx file, or the folder of a run or of a SavedModel\. Received: model="
    (tmp_path / "model.pb").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "model.pb", kinds)
    refused(tmp_path / "empty", kinds)
    refused(tmp_path / "missing.tflite", "There is no such file")
    for suffix, path in exports[1].items():
        whole = (path if suffix else path / "saved_model.pb").read_bytes()
        for size in (0, 30, len(whole) // 2):
            broken = tmp_path / f"{size}{suffix}"
            if not suffix:
                broken.mkdir()
            (broken if suffix else broken / "saved_model.pb").write_bytes(whole[:size])
            refused(broken, "LiteRT cannot load" if suffix == ".tflite" else "is not a complete")
    (tmp_path / "no variables").mkdir()
    (tmp_path / "no variables" / "saved_model.pb").write_bytes((exports[1][""] / "saved_model.pb").read_bytes())
    refused(tmp_path / "no variables", "is not a complete SavedModel")


def test_pipes_are_not_waited_for(network, tmp_path):
    saved = kresnet.export(network, tmp_path / "x")
    (saved / "description.json").unlink()
    os.mkfifo(saved / "description.json")
    assert predictor(saved).class_names is None
    network.save(tmp_path / BEST)
    os.mkfifo(tmp_path / CONFIG)
    with pytest.raises(ValueError, match=r"config\.json is not a run's"):
        predictor(tmp_path)


def test_a_saved_model_that_writes_files_is_refused(tmp_path):
    import tensorflow as tf

    class Writing(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 3), tf.uint8)])
        def run(self, image):
            with tf.control_dependencies([tf.io.write_file(str(tmp_path / "ran"), "ran")]):
                return {"probs": tf.reduce_mean(tf.cast(image, tf.float32), (1, 2))}

    module = Writing()
    tf.saved_model.save(module, tmp_path / "x", signatures=module.run)
    with pytest.raises(ValueError, match=r"is not opened\. Received: operators=\['WriteFile'\], model='.*/x'"):
        predictor(tmp_path / "x")
    assert not (tmp_path / "ran").exists()


def test_class_names_are_those_that_the_model_knows_unless_a_run_names_them(network, tmp_path):
    network.save(tmp_path / BEST)
    assert predictor(network).class_names == predictor(tmp_path / BEST).class_names == NAMES
    for config, names in (({}, NAMES), ({"class_names": ["a", "b", "c"]}, ("a", "b", "c"))):
        (tmp_path / CONFIG).write_text(json.dumps(config))
        assert predictor(tmp_path).class_names == names
    assert predictor(keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()])).class_names is None


WANTED = {"crop_fraction": 0.5, "interpolation": "bicubic"}


def sensitive(**told):
    """Returns a network of 16 x 16 pixels in which every pixel counts."""
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
    return Network(image, keras.layers.Dense(3, "softmax")(x), kresnet_config=told)


def test_what_the_weights_authors_evaluated_with_travels_with_the_network(tmp_path):
    model = sensitive(**WANTED)
    model.save(tmp_path / "x.keras")
    model.save(tmp_path / BEST)
    (tmp_path / CONFIG).write_text("{}")
    lite = kresnet.export(model, tmp_path / "x.tflite", latency=False, description=WANTED)
    saved = kresnet.export(model, tmp_path / "x", description=WANTED)
    for form in (model, tmp_path / "x.keras", tmp_path, lite, saved):
        found = predictor(form)
        assert (found.crop_fraction, found.interpolation) == (0.5, "bicubic")


def without_description(path):
    """Makes a .tflite one of another program's, by leaving out the archive that `export` appends."""
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"PK\3\4")])
    return path


def test_a_file_is_read_by_what_it_carries_whatever_lies_beside_it(tmp_path, capsys):
    """A kill may have left the JSON of the file that was there before."""
    files = {"x.tflite": "x.json"} | ({"x.onnx": "x.onnx.json"} if importlib.util.find_spec("tf2onnx") else {})
    for name, beside in files.items():
        options = {"labels": NAMES, "description": WANTED, "latency": False}
        file, beside = kresnet.export(sensitive(), tmp_path / name, **options), tmp_path / beside
        other = {"labels": ["x", "y", "z"], "crop_fraction": 0.9, "sha256": "0" * 64}
        for text in (json.dumps(other), "{", None):
            beside.unlink() if text is None else beside.write_text(text)
            found = predictor(file)
            assert (found.class_names, found.crop_fraction, found.interpolation) == (NAMES, 0.5, "bicubic")
            assert found.input_range == (0, 255)
    assert not capsys.readouterr().err


def test_the_description_beside_a_file_that_carries_none_must_not_be_another_file_s(tmp_path, capsys, photo):
    lite = without_description(kresnet.export(sensitive(), tmp_path / "x.tflite", labels=NAMES, latency=False))
    beside, own = tmp_path / "x.json", hashlib.sha256(lite.read_bytes()).hexdigest()
    for told, expected in (
        ({"labels": NAMES, **WANTED}, (NAMES, 0.5, "bicubic")),
        ({"labels": NAMES, **WANTED, "sha256": own}, (NAMES, 0.5, "bicubic")),
        ({"labels": {"cat": 1}, "input": {"range": "RGB"}}, (None, None, None)),
        ([1], (None, None, None)),
    ):
        beside.write_text(json.dumps(told))
        found = predictor(lite)
        assert (found.class_names, found.crop_fraction, found.interpolation) == expected
    assert not capsys.readouterr().err
    for other in ("0" * 64, None, 5):
        beside.write_text(json.dumps({"labels": NAMES, **WANTED, "sha256": other}))
        found = predictor(lite)
        assert (found.class_names, found.crop_fraction, found.interpolation) == (None, None, None)
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"{beside} is passed over: it is of another file than {lite}")
    assert main(["predict", str(lite), str(photo)]) == 0
    assert "is passed over" in capsys.readouterr().err
    beside.write_text('{"crop_fraction": 0.5,')
    with pytest.raises(ValueError, match=r"x.json is not a complete description: .* Received: '.*x.json'"):
        predictor(lite)
    beside.unlink()
    assert predictor(lite).class_names is None


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(picture("green", 90, 64), "png"))
    return path


def probabilities(model, path, columns, rows, resample):
    left, top = (columns - 16) // 2, (rows - 16) // 2
    image = Image.open(path).resize((columns, rows), resample).crop((left, top, left + 16, top + 16))
    return np.sort(model.predict(np.asarray(image)[None], verbose=0)[0])[::-1]


def test_predict_crops_and_resizes_as_the_network_wants_unless_it_is_told(photo, capsys):
    model = sensitive(**WANTED)
    for arguments, expected in [
        ({}, probabilities(model, photo, 32, 45, Image.BICUBIC)),
        ({"interpolation": "bilinear"}, probabilities(model, photo, 32, 45, Image.BILINEAR)),
        ({"crop_fraction": 0.8}, probabilities(model, photo, 20, 28, Image.BICUBIC)),
    ]:
        ((name, classes),) = predict(model, [photo], **arguments)
        assert name == str(photo)
        np.testing.assert_allclose([p for _, p in classes], expected, rtol=1e-5)
    ((_, plain),) = predict(sensitive(), [photo])
    file = photo.with_name("m.keras")
    model.save(file)
    assert main(["predict", str(file), str(photo), "--crop-fraction", "0.8", "--interpolation", "bicubic"]) == 0
    assert f"{expected[0]:7.2%}" in capsys.readouterr().out
    assert abs(plain[0][1] - expected[0]) > 1e-3
    for told, match in [
        ({"interpolation": "nearest"}, "Received: interpolation='nearest'"),
        ({"crop_fraction": 1.5}, r"a fraction in \(0, 1\]. Received: crop_fraction=1.5"),
    ]:
        with pytest.raises(ValueError, match=match):
            list(predict(sensitive(**told), [photo]))


def test_the_command_s_exports_are_made_with_images_as_the_network_wants_them(tmp_path, monkeypatch):
    for split in ("train", "validation"):
        for name in ("red", "green"):
            (tmp_path / "pictures" / split / name).mkdir(parents=True)
            (tmp_path / "pictures" / split / name / "x.png").write_bytes(encoded(picture(name, 90, 64), "png"))
    asked, load = [], loading.load
    monkeypatch.setattr(
        loading, "load", lambda *args, **kwargs: asked.append((args[1], kwargs)) or load(*args, **kwargs)
    )
    for told, wanted in (({}, {"crop_fraction": 1.0, "interpolation": None}), (WANTED, WANTED)):
        sensitive(**told).save(tmp_path / "m.keras")
        options = ["--quantize", "int8", "--agreement", "0", "--out", str(tmp_path / "m.tflite")]
        assert main(["export", str(tmp_path / "m.keras"), "--data", str(tmp_path / "pictures"), *options]) == 0
        asked_for = {**wanted, "grey": False}
        assert asked == [("validation", asked_for), ("train", {"drop_remainder": False, **asked_for})]
        asked.clear()


def test_predict_names_the_file_that_it_cannot_read(photo):
    broken, missing = photo.with_name("broken.jpg"), photo.with_name("missing.jpg")
    broken.write_bytes(encoded(picture("red"))[:300])
    for told in ({}, WANTED):
        for file, reason in [
            (missing, r" cannot be read: No such file or directory\. Received: '.*missing.jpg'"),
            (broken, ": not a complete image"),
        ]:
            found = predict(sensitive(**told), [photo, file])
            assert next(found)[0] == str(photo)
            with pytest.raises(ValueError, match=f"^{file}{reason}"):
                next(found)
    with pytest.raises(ValueError, match=r"must be a sequence of paths\. Received: files='photo.png'"):
        next(predict(sensitive(), "photo.png"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        *("", "[]", "[" * 100_000, '"text"', "{", '{"class_names": 3}', '{"class_names": [1]}', b"\xff\xfe"),
        *('{"split_seed": [[1]]}', '{"split_seed": -1}'),
    ],
)
def test_a_damaged_run_is_refused_in_a_line(network, tmp_path, config, capsys):
    network.save(tmp_path / BEST)
    (tmp_path / CONFIG).write_bytes(config if isinstance(config, bytes) else config.encode())
    assert main(["predict", str(tmp_path), "x.jpg"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{CONFIG} is not a run's" in line
    assert line.endswith(f"Received: model={str(tmp_path)!r}")


def test_a_run_that_lacks_its_network_or_has_another_is_refused(network, tmp_path):
    (tmp_path / CONFIG).write_text('{"class_names": ["a", "b"]}')
    with pytest.raises(ValueError, match=r"has no best\.keras: it ended before"):
        predictor(tmp_path)
    network.save(tmp_path / BEST)
    with pytest.raises(ValueError, match="names 2 classes, and the network has 3"):
        predictor(tmp_path)
    (tmp_path / BEST).write_bytes(b"no zip")
    with pytest.raises(ValueError, match="not a complete Keras model") as caught:
        predictor(tmp_path)
    assert "\n" not in str(caught.value)
    network.layers[-1].set_weights([np.full_like(weight, np.nan) for weight in network.layers[-1].get_weights()])
    network.save(tmp_path / BEST)
    with pytest.raises(ValueError, match=r"\d weights are infinite or NaN, first \['"):
        predictor(tmp_path / BEST)
    for odd in (3, None, [], {}):
        with pytest.raises(ValueError, match=r"must be a Keras model or a path\. Received: model='"):
            predictor(odd)


def test_folders_go_into_a_csv_and_broken_images_can_be_skipped(photo, capsys):
    folder = photo.parent / "photos"
    (folder / "more").mkdir(parents=True)
    for name in ("b.png", "a.png", "more/c.png"):
        (folder / name).write_bytes(photo.read_bytes())
    (folder / "notes.txt").write_text("no image")
    model, file = photo.with_name("m.keras"), photo.with_name("predictions.csv")
    sensitive(labels=NAMES).save(model)
    ((_, expected),) = predict(model, [photo], top=1)
    row = f"{expected[0][0]},{expected[0][1]:.6g}"
    assert main(["predict", str(model), str(photo), str(folder), "--csv", str(file)]) == 0
    assert capsys.readouterr().out == f"4 images in {file}\n"
    paths = [photo, *(folder / name for name in ("a.png", "b.png", "more/c.png"))]
    assert file.read_text().splitlines() == ["image,predicted,probability", *(f"{path},{row}" for path in paths)]
    (folder / "b.png").write_bytes(photo.read_bytes()[:60])
    before = file.read_text()
    assert main(["predict", str(model), str(folder), "--csv", str(file)]) == 2
    assert re.fullmatch(r"kresnet: .*b\.png: not a complete image.*\n", capsys.readouterr().err)
    assert file.read_text() == before
    assert main(["predict", str(model), str(folder), "--csv", str(file), "--on-error", "skip"]) == 0
    assert re.search(r"^Skipped .*b\.png: not a complete image", capsys.readouterr().err)
    assert len(file.read_text().splitlines()) == 3
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match=r"There is no image \(\.bmp, .*\) in the folder\. Received: '.*empty'"):
        next(predict(model, [folder / "empty"]))
