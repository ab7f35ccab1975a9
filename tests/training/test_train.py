"""Small training runs: what their folders hold, what survives an error, and whether a seed repeats a run."""

import csv
import json

import keras
import numpy as np
import pytest
from pictures import encoded, picture, write_folder
from PIL import Image
from processes import python

import kresnet
from kresnet import callbacks, cli, data, recipes
from kresnet.inference.predictors import predict, predictor

TINY = {"depths": (1, 1), "widths": (8, 16), "expansion": 1, "stem": "conv3"}


def tiny(classes=10, channels=1, size=16, **fields):
    return kresnet.ResNet(**TINY, input_shape=(size, size, channels), classes=classes, **fields)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of a tiny network, which learns something."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    history = kresnet.train(tiny(), "digits", "quick", out=folder, epochs=4, batch_size=32, seed=3, verbose=False)
    return folder, history


def test_contents_of_a_run_s_folder(run):
    folder, history = run
    assert {f.name for f in folder.iterdir()} == {
        "config.json", "history.csv", "tensorboard", "best.keras", "last.keras", "report.html",
    }  # fmt: skip
    with (folder / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["val_accuracy"]) for row in rows] == pytest.approx(history.history["val_accuracy"])
    assert len(rows) == 4
    assert rows[0].keys() >= {"epoch", "loss", "accuracy", "top5", "val_loss", "learning_rate", "images_per_second"}
    assert float(rows[-1]["learning_rate"]) == pytest.approx(0, abs=1e-6)
    config = json.loads((folder / "config.json").read_text())
    assert config["class_names"] == list("0123456789")
    assert config["recipe"]["name"] == "quick"
    assert config["recipe"]["epochs"] == 4
    assert config["versions"]["keras"] == keras.__version__
    assert list((folder / "tensorboard").rglob("events*"))
    assert max(history.history["val_accuracy"]) > 0.25  # chance is 0.1


def test_best_is_the_best(run):
    folder, history = run
    result = kresnet.evaluate(folder, "digits", verbose=False)
    assert result.class_names == tuple("0123456789")
    assert result.accuracy() == pytest.approx(max(history.history["val_accuracy"]), abs=1e-6)
    last = kresnet.evaluate(folder / "last.keras", "digits", verbose=False)
    assert last.accuracy() == pytest.approx(history.history["val_accuracy"][-1], abs=1e-6)


@pytest.mark.slow
def test_a_run_is_evaluated_on_what_it_held_out(tmp_path, run):
    """Seed 0 would hold out other images, four fifths of which it was trained on."""
    options = {"epochs": 1, "batch_size": 256, "split_seed": 7, "verbose": False, "with_report": False}
    history = kresnet.train(tiny(), "digits", "quick", out=tmp_path / "run", **options)
    held_out = [label for _, labels in data.load("digits", "validation", 16, 64, split_seed=7) for label in labels]
    for model in (tmp_path / "run", tmp_path / "run" / "last.keras"):
        found = kresnet.evaluate(model, "digits", verbose=False)
        assert (found.labels == np.asarray(held_out)).all()
        assert found.accuracy() == pytest.approx(history.history["val_accuracy"][-1], abs=1e-6)
    with pytest.raises(
        ValueError, match=r"held out different images: give `split_seed`. Received: split_seeds=\[0, 7\]"
    ):
        kresnet.evaluate([tmp_path / "run", run[0]], "digits", verbose=False)


def test_a_network_given_as_a_model_learns_its_labels(run):
    folder, _ = run
    for name in ("best.keras", "last.keras"):
        known = keras.saving.load_model(folder / name).kresnet_config
        assert known["labels"] == list("0123456789")
        assert (known["key"], known["weights"]) == ("resnet", None)
    assert json.loads((folder / "config.json").read_text())["model"] == "resnet"
    assert "arXiv:1512.03385" in (folder / "report.html").read_text()


@pytest.mark.slow
def test_a_network_of_one_channel_sees_grey_images(tmp_path):
    photos, out = write_folder(tmp_path / "photos"), tmp_path / "run"
    kresnet.train("lenet5", photos, "quick", out=out, epochs=1, batch_size=5, verbose=False)
    assert json.loads((out / "config.json").read_text())["input_shape"] == [32, 32, 1]
    page = (out / "report.html").read_text()
    assert '<a href="https://doi.org/10.1109/5.726791">doi:10.1109/5.726791</a>' in page
    result = kresnet.evaluate(out, photos, split="all", verbose=False)
    alone = {file: dict(found) for file, found in predict(out, [photos])}
    for file, probabilities in zip(result.file_paths, result.probabilities, strict=True):
        found = [alone[file][name] for name in result.class_names]
        np.testing.assert_allclose(found, probabilities, atol=0.02)  # resized by ours and by TensorFlow
    whole = kresnet.evaluate(tiny(3), photos, split="all", crops="full", scales=(32,), verbose=False)
    assert whole.probabilities.shape == (18, 3)


def test_a_run_is_not_overwritten(run):
    with pytest.raises(ValueError, match="holds a run already"):
        kresnet.train(tiny(), "digits", out=run[0])


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.parametrize("fields", [{"label_smoothing": 0.2}, {"binary": True, "label_smoothing": 0.1}])
def test_the_loss_of_validation_is_that_of_evaluation(fields, tmp_path):
    model = tiny(classifier_activation="sigmoid" if "binary" in fields else "softmax")
    options = {"epochs": 2, "batch_size": 128, "verbose": False, "with_report": False}
    history = kresnet.train(model, "digits", "quick", out=tmp_path / "run", **options, **fields).history
    last = kresnet.evaluate(tmp_path / "run" / "last.keras", "digits", verbose=False)
    assert last.loss == pytest.approx(history["val_loss"][-1], rel=1e-4)
    saved = keras.saving.load_model(tmp_path / "run" / "last.keras").loss
    assert (saved.label_smoothing, saved.binary) == (fields["label_smoothing"], "binary" in fields)


def test_predict(run, tmp_path):
    digits = data.load("digits", "validation", 16, 8)
    images, _ = next(iter(digits))
    file = tmp_path / "digit.png"
    Image.fromarray(np.asarray(images[0, ..., 0])).save(file)
    ((path, classes),) = predict(run[0], [file], top=3)
    assert path == str(file)
    expected = predictor(run[0]).run(np.asarray(images[:1]))[0]
    assert [name for name, _ in classes] == [str(i) for i in np.argsort(-expected)[:3]]
    assert classes[0][1] == pytest.approx(expected.max(), abs=1e-4)
    file.write_text("no image")
    with pytest.raises(ValueError, match=r"digit\.png: not a complete image"):
        list(predict(run[0], [file]))


@pytest.mark.slow
def test_command(tmp_path, capsys):
    """Train, evaluate and predict on a folder of photos, as in the README."""
    photos, out = write_folder(tmp_path / "photos", count=10), tmp_path / "runs" / "a"
    arguments = (
        f"train resnet20 --data {photos} --image-size 16 --epochs 1 --batch-size 8 --set augment=flip-crop --out {out} "
        "--model depths=[1,1,1]"
    )
    assert cli.main(arguments.split()) == 0
    printed = capsys.readouterr().out
    assert "epoch 1/1" in printed
    assert "images_per_second" in printed
    config = json.loads((out / "config.json").read_text())
    assert (config["model"], config["batch_size"], config["recipe"]["augment"]) == ("resnet20", 8, "flip-crop")
    assert cli.main(["evaluate", str(out), "--data", str(photos)]) == 0
    printed = capsys.readouterr().out
    assert "top-1" in printed
    assert "of 6, 95 % interval" in printed
    assert cli.main(["predict", str(out), str(photos / "red" / "0.jpg")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(photos / "red" / "0.jpg")
    assert {line.split()[-1] for line in lines[1:]} == {"blue", "green", "red"}
    assert cli.main(["train", "resnet2O", "--data", str(photos), "--out", "x"]) == 2
    assert capsys.readouterr().err.strip().endswith("Received: key='resnet2O'")


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights(tmp_path):
    code = f"""
        import hashlib, keras, kresnet
        def digest(seed, name):
            keras.utils.set_random_seed(seed)
            fields = dict(depths=(2,), widths=(8,), expansion=1, stem="conv3", input_shape=(16, 16, 1), classes=10)
            model = kresnet.ResNet(**fields, drop_path_rate=0.2)
            kresnet.train(model, "digits", "quick", out={str(tmp_path)!r} + "/" + name, epochs=1, seed=seed,
                          batch_size=256, deterministic=True, augment="cutout", mixup=0.2, verbose=False,
                          with_report=False)
            return hashlib.sha256(b"".join(w.tobytes() for w in model.get_weights())).hexdigest()
        one, two, other = digest(1, "a"), digest(1, "b"), digest(2, "c")
        print(one == two, one == other)
    """
    assert python(code).split()[-2:] == ["True", "False"]


@pytest.mark.slow
def test_ema_is_what_is_saved(tmp_path):
    """If the average never moves, the saved network is that of before the training."""
    model = tiny()
    before = model.get_weights()
    kresnet.train(
        model,
        "digits",
        "quick",
        out=tmp_path / "a",
        epochs=2,
        batch_size=256,
        ema=0.9999999,
        verbose=False,
        with_report=False,
    )
    saved = keras.saving.load_model(tmp_path / "a" / "last.keras")
    moved = [np.abs(a - b).max() for a, b in zip(saved.trainable_variables, model.trainable_variables, strict=True)]
    for name, old, new in zip([w.path for w in model.weights], before, saved.get_weights(), strict=True):
        if "moving" not in name:
            np.testing.assert_allclose(old, new, atol=1e-4, err_msg=name)
    assert max(moved) < 1e-4  # fit leaves the average in the model too


@pytest.mark.slow
def test_broken_image_names_the_file(tmp_path):
    photos = write_folder(tmp_path / "photos", count=10)
    broken = photos / "red" / "broken.jpg"
    broken.write_bytes(encoded(picture("red"))[:-300])
    with pytest.raises(ValueError, match=f"^{broken}: not a complete image"):
        kresnet.train(tiny(3, 3), photos, out=tmp_path / "a", epochs=30, batch_size=8, verbose=False)
    history = kresnet.train(
        tiny(3, 3), photos, out=tmp_path / "b", epochs=1, batch_size=8, on_error="skip", verbose=False
    )
    assert np.isfinite(history.history["loss"]).all()


@pytest.mark.slow
def test_nan_stops_the_run_and_keeps_the_checkpoints(tmp_path):
    model = tiny()
    nan = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: epoch == 1 and model.get_layer("predictions").set_weights(
            [np.full_like(w, np.nan) for w in model.get_layer("predictions").get_weights()]
        )
    )  # fmt: skip
    with pytest.raises(RuntimeError, match="predictions/kernel is infinite or NaN after batch 0 of epoch 2"):
        kresnet.train(model, "digits", out=tmp_path / "a", epochs=3, batch_size=256, callbacks=[nan], verbose=False)
    kept = keras.saving.load_model(tmp_path / "a" / "last.keras")
    assert all(np.isfinite(w).all() for w in kept.get_weights())


def test_bad_arguments(tmp_path):
    import tensorflow as tf

    in_range = tf.data.Dataset.from_tensors((np.zeros((4, 16, 16, 1)), np.arange(4)))
    out_of_range = tf.data.Dataset.from_tensors((np.zeros((4, 16, 16, 1)), np.array([0, 1, 2, 10])))
    for arguments, match in [
        ({"model": tiny(7)}, r"as many classes as the images\. Received: network=7, images=10"),
        ({"data": out_of_range}, r"in 0 to 9\. Received: label=10"),
        ({"image_size": 24}, "Received: input_shape=.*image_size=24"),
        ({"precision": "float16"}, "Received: precision='float16'"),
        ({"precision": "mixed_bfloat16"}, "are for networks built here"),
        ({"momentun": 0.5}, "Did you mean 'momentum'"),
        ({"data": in_range.repeat()}, "must know its length"),
        ({"data": in_range, "batch_size": 3}, r"batches hold 4 images\. Received: batch_size=3"),
        ({"data": [1, 2]}, r"a source's name or a tf\.data\.Dataset"),
    ]:
        with pytest.raises(ValueError, match=match):
            kresnet.train(
                **{"model": tiny(), "data": "digits", "out": tmp_path / "never", "verbose": False} | arguments
            )
    assert not (tmp_path / "never").exists()


@pytest.mark.slow
def test_recipes_and_callbacks_work_without_train(tmp_path):
    recipe = recipes.BAG_OF_TRICKS.replace(epochs=1, warmup_epochs=0.5)
    training = data.load("digits", "train", 16, 64, mixup=0.2)
    model = tiny()
    model.compile(recipe.optimizer_for(len(training), 64), recipe.loss(), metrics=["categorical_accuracy"])
    checkpoint = callbacks.Checkpoint(tmp_path, monitor="categorical_accuracy")
    model.fit(
        training, epochs=2, callbacks=[callbacks.DatasetEpoch(training), callbacks.Meter(64), checkpoint], verbose=0
    )
    assert checkpoint.best is not None
    assert (tmp_path / "best.keras").exists()
