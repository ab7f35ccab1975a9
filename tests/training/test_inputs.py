"""What a run is fed: labels are checked before each step, images looked at, and classes and images weighted."""

import gc
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from pictures import write_folder
from test_train import tiny

import kresnet
from kresnet import losses, recipes
from kresnet.training import inputs

IMAGES = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 1)).astype("uint8")
LABELS = np.arange(24) % 3


def batches(labels=LABELS, images=IMAGES, *more):
    return tf.data.Dataset.from_tensor_slices((images, np.asarray(labels), *more)).batch(8)


def changed(at, value, dtype="float32"):
    labels = LABELS.astype(dtype)
    labels[at] = value
    return labels


def soft(at, row):
    labels = keras.utils.to_categorical(LABELS, 3)
    labels[at] = row
    return labels


@pytest.mark.parametrize(
    ("labels", "several", "message"),
    [
        (changed(17, 3, "int64"), False, r"whole numbers in 0 to 2\. Received: label=3, batch=2"),
        (changed(9, -1, "int32"), False, "label=-1, batch=1"),
        (changed(0, 0.5), False, "label=0.5, batch=0"),
        (changed(20, np.nan), False, "label=nan, batch=2"),
        (changed(8, 2)[:, None] + 1, False, "label=3, batch="),
        (
            soft(12, (0.5, 0.2, 0.2)),
            False,
            r"that sum to 1\. Received: smallest=0\.2, largest=0\.5, sum=0\.8999.*batch=1",
        ),
        (soft(12, (1.5, -0.5, 0)), False, r"smallest=-0\.5, largest=1\.5, sum=1, batch=1"),
        (soft(12, (2, 1, 0)), True, r"shares in 0 to 1\. Received: smallest=0, largest=2"),
    ],
)
def test_a_wrong_label_is_named_before_its_step(labels, several, message):
    seen = []
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        seen.extend(inputs.with_checked_labels(batches(labels), 3, several, "data"))
    said = inputs.refused_labels(caught.value)
    assert said.startswith("Labels in `data` must be ")
    with pytest.raises(ValueError, match=message):
        raise ValueError(said)
    assert f"batch={len(seen)}," in said  # the batches before were given


@pytest.mark.parametrize(
    ("labels", "classes", "several"),
    [
        (LABELS.astype("uint8"), 3, False),
        (LABELS.astype("float32")[:, None], 3, False),
        (soft(3, (0.25, 0.25, 0.5)), 3, False),
        (soft(3, (1, 1, 0)), 3, True),
        (LABELS > 1, 1, False),
        (LABELS / 2, 1, False),  # of one sigmoid, a share
    ],
)
def test_right_labels_pass_unchanged(labels, classes, several):
    found = [y for _, y in inputs.with_checked_labels(batches(labels), classes, several, "data").as_numpy_iterator()]
    np.testing.assert_array_equal(np.concatenate(found), labels)


def train(out, data, model=None, **arguments):
    settings = {"epochs": 1, "verbose": False, "with_report": False} | arguments
    return kresnet.train(model or tiny(classes=3), data, out=out, **settings)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "validation", "message"),
    [
        (batches(changed(17, 3)), None, r"Labels in `data` .* label=3, batch=2"),
        (batches(), batches(changed(17, 7)), r"Labels in `validation_data` .* label=7, batch=2"),
        (batches(images=(IMAGES / 255).astype("float32")), None, "images in `data` look like numbers scaled to 0 to 1"),
        (batches(), batches(images=(IMAGES / 255).astype("float32")), "images in `validation_data` look like"),
        (batches(keras.utils.to_categorical(LABELS, 4)), None, "the same classes. Received: network=3, labels=4"),
        (batches(np.array(list("abc") * 8)), None, "Labels in `data` must be numbers"),
        (batches().unbatch(), None, "must hold batches of images"),
        ((IMAGES, LABELS), None, r"such as tf\.data\.Dataset\..*\. Received: data='tuple'"),
        (IMAGES, None, "Received: data='ndarray'"),
    ],
)
def test_a_run_is_refused_in_one_line(tmp_path, data, validation, message):
    with pytest.raises(ValueError, match=message) as caught:
        train(tmp_path / "run", data, validation_data=validation)
    assert "\n" not in str(caught.value)


def test_ranges_that_differ_are_noticed_where_none_is_known(tmp_path):
    model = tiny(classes=3, include_preprocessing=False)
    with pytest.raises(ValueError, match=r"different ranges; .* Received: data=255\.0, validation_data=1\.0"):
        train(tmp_path / "run", batches(), model, validation_data=batches(images=(IMAGES / 255).astype("float32")))


def test_pixels_of_a_source_are_not_what_a_network_of_0_to_1_takes(tmp_path):
    model = keras.Sequential([keras.Input((16, 16, 1)), keras.layers.Rescaling(255.0), tiny(classes=10)])
    with pytest.raises(ValueError, match=r"images in `data` look like pixels, 0 to 255, .* made for 0 to 1\."):
        train(tmp_path / "run", "digits", model)
    assert not (tmp_path / "run").exists()


def test_validation_images_are_looked_at_in_every_batch(tmp_path):
    late = np.concatenate([IMAGES[:16], IMAGES[16:] / 255]).astype("float32")
    with pytest.raises(ValueError, match=r"^The images in `validation_data` look like numbers scaled to 0 to 1"):
        train(tmp_path / "run", batches(), validation_data=batches(images=late))


def test_class_weights():
    counts = batches(np.repeat([0, 1, 2], (12, 8, 4)))
    assert inputs.class_weights("balanced", counts, 3) == pytest.approx({0: 2 / 3, 1: 1, 2: 2})
    assert inputs.class_weights({2: 5}, counts, 3) == {0: 1, 1: 1, 2: 5}
    assert inputs.class_weights(None, counts, 3) is None
    for wrong in ({3: 1}, {0: -1}, "even", [1, 2, 3]):
        with pytest.raises(ValueError, match=r"`class_weight` must be .* Received: class_weight="):
            inputs.class_weights(wrong, counts, 3)
    with pytest.raises(ValueError, match=r"images of every class\. Received: images=\[24, 0, 0\]"):
        inputs.class_weights("balanced", batches(0 * LABELS), 3)


@pytest.mark.slow
def test_weights_of_classes_and_images_count_alike(tmp_path):
    weights = {0: 0.0, 1: 1.0, 2: 5.0}
    found = []
    for name, data, arguments in (
        ("classes", batches(), {"class_weight": weights}),
        ("images", batches(LABELS, IMAGES, np.array([weights[label] for label in LABELS], "float32")), {}),
    ):
        keras.utils.set_random_seed(0)
        model = tiny(classes=3)
        train(tmp_path / name, data, model, validation_data=data, with_report=True, **arguments)
        found.append(model.get_weights())
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    with pytest.raises(ValueError, match="weights of its own"):
        train(tmp_path / "both", data, class_weight=weights)


@pytest.mark.slow
@pytest.mark.parametrize(("classes", "activation"), [(1, "sigmoid"), (1, None), (3, None)])
def test_one_output_and_logits_train_and_are_evaluated_as_what_they_are(tmp_path, classes, activation):
    labels = LABELS % max(2, classes)
    model = tiny(classes=classes, classifier_activation=activation)
    history = train(tmp_path / "run", batches(labels), model, validation_data=batches(labels), with_report=True)
    found = kresnet.evaluate(tmp_path / "run", batches(labels), verbose=False)
    assert found.probabilities.shape == (24, max(2, classes))
    np.testing.assert_allclose(found.probabilities.sum(1), 1, rtol=1e-5)
    assert found.accuracy() == pytest.approx(history.history["val_accuracy"][0], abs=1e-6)
    assert found.loss == pytest.approx(history.history["val_loss"][0], rel=1e-4)


def test_losses_agree_with_keras_s():
    rng = np.random.default_rng(0)
    logits, one = rng.standard_normal((6, 3)).astype("float32"), rng.standard_normal((6, 1)).astype("float32")
    labels, two = np.arange(6) % 3, np.arange(6) % 2
    expected = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, logits)
    np.testing.assert_allclose(recipes.QUICK.loss(from_logits=True)(labels, logits), expected, rtol=1e-6)
    expected = keras.losses.BinaryCrossentropy(from_logits=True)(two[:, None], one)
    np.testing.assert_allclose(losses.Crossentropy(from_logits=True)(two, one), expected, rtol=1e-6)
    np.testing.assert_allclose(losses.Crossentropy()(two, keras.ops.sigmoid(one)), expected, rtol=1e-5)
    (accuracy,) = losses.metrics(1, from_logits=True)
    accuracy.update_state(two, one)
    assert float(accuracy.result()) == pytest.approx(np.mean((one[:, 0] > 0) == two))


def test_evaluate_names_a_label_that_is_none():
    model = tiny(classes=3)
    for labels, message in (
        (changed(9, 0.5), r"must be whole numbers\. Received: label=0\.5"),
        (changed(9, np.nan), r"must be whole numbers\. Received: label=nan"),
        (soft(9, np.nan), r"must be finite numbers\. Received: label=\[\[nan, nan, nan\]\]"),
        (changed(9, 3), r"must be in 0 to 2\. Received: label=3"),
    ):
        with pytest.raises(ValueError, match=f"^Labels {message}"):
            kresnet.evaluate(model, batches(labels), verbose=False)


def test_evaluate_names_what_is_not_finite():
    images = IMAGES.astype("float32")
    images[10, 0, 0] = np.nan
    with pytest.raises(ValueError, match=r"finite numbers\. Received: image=10"):
        kresnet.evaluate(tiny(classes=3), batches(images=images), verbose=False)
    model = tiny(classes=3)
    model.layers[-1].set_weights([np.nan * weight for weight in model.layers[-1].get_weights()])
    with pytest.raises(ValueError, match=r"gives numbers that are not finite\. Received: image=0"):
        kresnet.evaluate(model, batches(), verbose=False)


@pytest.mark.slow
def test_a_folder_of_few_images_gets_smaller_batches(tmp_path, capsys):
    photos = write_folder(tmp_path / "photos", count=25)
    model = tiny(classes=3, channels=3)
    kresnet.train(model, photos, "fine-tune", out=tmp_path / "a", epochs=1, with_report=False)
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert (config["batch_size"], config["steps_per_epoch"]) == (8, 7)  # 60 images
    printed = capsys.readouterr()
    assert "Batches of 8 images and not of 256, with 60 to train on" in printed.err
    assert (
        f"on 60 images of 3 classes, 7 steps of 8 an epoch, 1 epochs; everything goes to {tmp_path}/a/" in printed.out
    )
    train(tmp_path / "b", photos, tiny(classes=3, channels=3), batch_size=32)  # as it is told
    assert json.loads((tmp_path / "b" / "config.json").read_text())["batch_size"] == 32
    assert "not of" not in capsys.readouterr().err
    assert inputs.fitting_batch_size("digits", 128, 0, None) == 128


@pytest.mark.slow
def test_a_run_that_failed_at_once_does_not_block_its_retry(tmp_path):
    class Fails(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        train(tmp_path / "run", batches(), callbacks=[Fails()])
    assert (tmp_path / "run" / "config.json").exists()
    train(tmp_path / "run", batches())
    assert (tmp_path / "run" / "last.keras").exists()
    assert len((tmp_path / "run" / "history.csv").read_text().splitlines()) == 2
    with pytest.raises(ValueError, match="holds a run already"):
        train(tmp_path / "run", batches())


@pytest.mark.slow
def test_a_broken_image_leaves_no_iterator_behind(tmp_path):
    """One that is left until Python ends waits for its threads, and they for Python: the process would not end."""
    photos = write_folder(tmp_path / "photos", count=5)
    whole = (photos / "red" / "0.jpg").read_bytes()
    for i in range(5):
        (photos / "red" / f"cut{i}.jpg").write_bytes(whole[:-300])

    def iterators():
        return sum(type(one).__name__ == "OwnedIterator" for one in gc.get_objects())

    gc.collect()
    before = iterators()
    with pytest.raises(ValueError, match="data end early") as caught:
        train(tmp_path / "run", photos, tiny(classes=3, channels=3), batch_size=4)
    assert iterators() == before
    with pytest.raises(ValueError, match="data end early"):
        kresnet.evaluate(tiny(classes=3, channels=3), photos, verbose=False)
    assert iterators() == before
    assert caught.value.__context__ is None


@pytest.mark.slow
def test_what_is_left_out_and_which_files_were_mistaken_is_said(tmp_path, capsys):
    photos = write_folder(tmp_path / "photos", count=10)
    (photos / "red" / "IMG_1.HEIC").write_bytes(b"x")
    train(tmp_path / "run", photos, tiny(classes=3, channels=3), batch_size=8, with_report=True)
    assert "1 .heic files (convert them: heif-convert" in capsys.readouterr().err
    page = (tmp_path / "run" / "report.html").read_text()
    assert "1 epoch, number 1 kept" in page
    assert f'file">{photos}/' in page


@pytest.mark.slow
def test_each_epoch_trains_on_what_can_be_read(tmp_path, recwarn):
    """Keras would say in each epoch that its input ran out of data, since it knows no length."""
    photos = write_folder(tmp_path / "photos", count=10)
    for name in ("red/0.jpg", "green/1.png", "blue/3.bmp"):
        (photos / name).write_bytes(b"no image")
    seen = []
    spy = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(batch),
        on_epoch_begin=lambda epoch, logs: seen.append("epoch"),
    )
    options = {"epochs": 3, "batch_size": 4, "on_error": "skip", "callbacks": [spy]}
    history = train(tmp_path / "run", photos, tiny(classes=3, channels=3), **options)
    assert len(history.history["val_loss"]) == 3
    data = kresnet.data.load(photos, "train", 16, 1, on_error="skip")
    readable = len(list(data))
    assert readable == data.examples - len(data.skipped) < data.examples
    assert seen == ["epoch", *range(readable // 4)] * 3
    assert not [warning for warning in recwarn if "ran out of data" in str(warning.message)]
