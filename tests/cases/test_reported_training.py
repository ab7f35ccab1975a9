"""Public reports on training: weights of classes, runs that go on, what a saved optimizer forgets, one output."""

import json
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import kresnet
from kresnet.training.losses import metrics

RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.integers(0, 256, (64, 8, 8, 1)).astype("uint8"), RNG.integers(0, 10, 64)
QUIET = {"verbose": False, "with_report": False}


def net(**fields):
    keras.utils.set_random_seed(0)
    arguments = {"classes": 10, "input_shape": (8, 8, 1)} | fields
    return kresnet.ResNet(depths=(1,), widths=(4,), stem="conv3", **arguments)


def batches(*arrays, size=16):
    return tf.data.Dataset.from_tensor_slices(arrays).batch(size)


def test_class_weights_in_fit_multiply_the_losses():
    """tensorflow#47032, #22275; keras#13732: `class_weight` with a tf.data set."""
    model = net()
    model.trainable = False
    model.compile("sgd", kresnet.recipes.QUICK.loss())
    weights = np.arange(10) + 1.0
    found = model.fit(batches(IMAGES, LABELS, size=64), class_weight=dict(enumerate(weights)), verbose=0)
    p = model.predict(IMAGES, verbose=0)[np.arange(64), LABELS]
    assert found.history["loss"][0] == pytest.approx(np.mean(weights[LABELS] * -np.log(p)), rel=1e-4)


def test_class_weights_of_mixed_images():
    """tensorflow#47032, #22275; keras#13732: each image has its largest class's, so that one alone may count."""
    data = kresnet.data.load("digits", "train", 8, 64, drop_remainder=True, mixup=0.2)
    model = net()
    model.compile("sgd", kresnet.recipes.QUICK.loss())
    only = {index: float(index == 3) for index in range(10)}
    found = model.fit(data.take(2), class_weight=only, verbose=0, shuffle=False).history["loss"][0]
    assert np.isfinite(found)
    assert found > 0


@pytest.mark.slow
def test_train_takes_weights_of_classes_and_of_images(tmp_path):
    """tensorflow#47032, #22275; keras#13732: what counts nothing moves nothing."""
    weights = dict.fromkeys(range(10), 0.0)
    for name, data, given in (
        ("classes", batches(IMAGES, LABELS), {"class_weight": weights}),
        ("images", batches(IMAGES, LABELS, np.zeros(64, "float32")), {}),
    ):
        model = net()
        before = model.get_layer("predictions").get_weights()
        still = {"epochs": 1, "weight_decay": 0.0, **QUIET}
        kresnet.train(model, data, out=tmp_path / name, **still, **given)
        for now, then in zip(model.get_layer("predictions").get_weights(), before, strict=True):
            np.testing.assert_array_equal(now, then)


class Stop(keras.callbacks.Callback):
    """Ctrl-C at the end of an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_an_interrupted_run_goes_on_with_its_learning_rate_and_its_best(tmp_path):
    """keras#22010, #17012: the command again says how, and with `resume=True` only what is left is trained."""
    out, options = tmp_path / "run", {"epochs": 4, "batch_size": 512, "image_size": 8, **QUIET}
    with pytest.raises(KeyboardInterrupt):
        kresnet.train(net(), "digits", out=out, callbacks=[Stop(1)], **options)
    assert (out / "last.keras").exists()
    with pytest.raises(ValueError, match=r"`resume=True` \(--resume\) goes on with it, .* \(--overwrite\) begins"):
        kresnet.train(net(), "digits", out=out, **options)
    begun = []
    spy = Stop(None)
    spy.on_epoch_begin = lambda epoch, logs=None: begun.append(epoch)
    history = kresnet.train(net(), "digits", out=out, resume=True, callbacks=[spy], **options)
    assert history.epoch == [0, 1, 2, 3]
    assert begun[0] >= 1
    rates = history.history["learning_rate"]
    assert rates[-1] < rates[1] / 5
    steps = json.loads((out / "config.json").read_text())["steps_per_epoch"]
    assert int(keras.saving.load_model(out / "last.keras").optimizer.iterations) == 4 * steps
    best = int(np.argmax(history.history["val_accuracy"]))
    assert int(keras.saving.load_model(out / "best.keras").optimizer.iterations) == (best + 1) * steps


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "lamb", "adamw"])
def test_what_is_spared_from_decay_is_spared_after_loading(name, tmp_path):
    """tensorflow/addons#2619: it was forgotten when the network was saved."""
    recipe = kresnet.recipes.QUICK.replace(
        optimizer=name, weight_decay=0.5, decay_norms_and_biases=False, learning_rate=0.1, warmup_epochs=0,
        schedule="constant",
    )  # fmt: skip
    model = net()
    model.compile(recipe.optimizer_for(10, 8), recipe.loss())
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "m.keras")
    for one in (model, keras.saving.load_model(tmp_path / "m.keras")):
        variables = one.trainable_variables
        before = [np.array(variable) for variable in variables]
        one.optimizer.apply([keras.ops.zeros(variable.shape) for variable in variables], variables)
        decayed = {
            variable.path for variable, old in zip(variables, before, strict=True) if not np.array_equal(variable, old)
        }
        assert decayed == {variable.path for variable in variables if variable.path.endswith("kernel")}


def test_one_output_behind_a_softmax_is_refused():
    """keras#10607, #6327, #1261: it is always 1, and training stands still."""
    with pytest.raises(ValueError, match=r'single class is always 1.*classifier_activation="sigmoid".* Received: '):
        net(classes=1)


def test_one_sigmoid_learns_two_classes():
    """keras#10607, #6327, #1261: labels are 0 and 1, and the metric tells them apart."""
    labels = (IMAGES.mean((1, 2, 3)) > np.median(IMAGES.mean((1, 2, 3)))).astype("int64")
    images = np.where(labels[:, None, None, None] == 1, IMAGES, IMAGES // 4).astype("uint8")
    model, recipe = net(classes=1, classifier_activation="sigmoid"), kresnet.recipes.QUICK
    recipe = recipe.replace(warmup_epochs=0, label_smoothing=0.0)
    model.compile(recipe.optimizer_for(4, 16), recipe.loss(), metrics=metrics(1))
    with pytest.warns(UserWarning, match="single output is taken for the probability of class 1"):
        history = model.fit(images, labels, batch_size=16, epochs=8, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = kresnet.evaluate(model, batches(images, labels), verbose=False)
    p = model.predict(images, verbose=0)[:, 0]
    assert found.accuracy() == pytest.approx(np.mean((p > 0.5) == labels))
    assert found.loss == pytest.approx(-np.mean(np.log(np.where(labels == 1, p, 1 - p))), rel=1e-3)


@pytest.mark.slow
def test_the_gate_of_int8_judges_one_sigmoid(tmp_path):
    """keras#10607, #6327, #1261: class 0 or 1, and not always the only output."""
    model = net(classes=1, classifier_activation="sigmoid")
    out = tmp_path / "x.tflite"
    kresnet.export(model, out, quantize="int8", calibration=IMAGES, latency=False)
    assert "top1_agreement" in json.loads(out.with_suffix(".json").read_text())["proof"]
