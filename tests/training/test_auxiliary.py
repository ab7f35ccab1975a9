"""Auxiliary classifiers train along with their own losses, and leave nothing behind."""

import keras
import numpy as np
import pytest

import kresnet
from kresnet.training.auxiliary import with_auxiliary_losses
from kresnet.training.losses import Crossentropy, metrics

X, Y = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 1)).astype("uint8"), np.arange(16) % 10


def two_outputs():
    """A network of ten classes with an auxiliary classifier halfway, and dropout before it."""
    image = keras.Input((16, 16, 1))
    x = keras.layers.Conv2D(4, 3, 2, activation="relu")(keras.layers.Rescaling(1 / 255)(image))
    pooled = keras.layers.Dropout(0.5)(keras.layers.GlobalAveragePooling2D()(x))
    x = keras.layers.Conv2D(8, 3, 2, activation="relu")(x)
    outputs = {
        "predictions": keras.layers.GlobalAveragePooling2D()(x),
        "auxiliary": keras.layers.Dense(10, activation="softmax", name="auxiliary")(pooled),
    }
    outputs["predictions"] = keras.layers.Dense(10, activation="softmax", name="predictions")(outputs["predictions"])
    return keras.Model(image, outputs, name="two_outputs")


def test_losses_are_added_and_nothing_else_sees_the_auxiliary():
    whole = two_outputs()
    model = with_auxiliary_losses(whole, weight=0.3)
    loss = Crossentropy()
    model.compile(keras.optimizers.SGD(0.0), loss=loss, metrics=metrics(10), run_eagerly=True)
    shares = np.linspace(0.5, 1.5, 16)
    keras.utils.set_random_seed(1)
    history = model.fit(X, Y, batch_size=16, sample_weight=shares, validation_data=(X, Y), verbose=0).history
    keras.utils.set_random_seed(1)
    outputs = whole(X, training=False)
    main, auxiliary = (float(loss(Y, outputs[name], shares)) for name in ("predictions", "auxiliary"))
    # What dropout does to the auxiliary loss is all that is not known here.
    assert main < history["loss"][0] != pytest.approx(main + 0.3 * auxiliary, abs=1e-6)
    for layer in whole.layers:
        layer.rate = 0.0
    again = model.fit(X, Y, batch_size=16, sample_weight=shares, verbose=0).history
    assert again["loss"][0] == pytest.approx(main + 0.3 * auxiliary, rel=1e-5)
    assert history["val_loss"][0] == pytest.approx(float(loss(Y, outputs["predictions"])), rel=1e-5)
    assert set(history) == {"accuracy", "top5", "loss", "val_accuracy", "val_top5", "val_loss"}
    np.testing.assert_allclose(model.predict(X, verbose=0), outputs["predictions"], atol=1e-6)


@pytest.mark.slow
def test_a_run_saves_the_network_alone_and_goes_on_exactly(tmp_path):
    def train(out, **options):
        keras.utils.set_random_seed(0)
        arguments = {"epochs": 2, "batch_size": 256, "auxiliary_weight": 0.4, "seed": 1, "verbose": False}
        return kresnet.train(two_outputs(), "digits", out=tmp_path / out, with_report=False, **arguments | options)

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    whole = train("whole").history
    with pytest.raises(KeyboardInterrupt):
        train("halves", callbacks=[Stop()])
    halves = train("halves", resume=True).history
    for name in ("loss", "accuracy", "val_loss"):
        assert halves[name] == whole[name]
    saved = keras.saving.load_model(tmp_path / "whole" / "best.keras")
    assert saved.output_shape == (None, 10)
    assert not [layer.name for layer in saved.layers if "aux" in layer.name]


def test_what_cannot_be(tmp_path):
    with pytest.raises(ValueError, match=r"the recipe must have an `auxiliary_weight`, .* auxiliary_weight=None$"):
        kresnet.train(two_outputs(), "digits", out=tmp_path / "run", verbose=False)
    image = keras.Input((2,))
    single = keras.Model(image, keras.layers.Dense(2)(image))
    with pytest.raises(ValueError, match=r"must have auxiliary outputs.*model='Functional', outputs="):
        with_auxiliary_losses(single)
    with pytest.raises(ValueError, match=r"`weight` must be a number of at least 0. Received: weight=-1"):
        with_auxiliary_losses(two_outputs(), weight=-1)
    with pytest.raises(ValueError, match=r"`loss` must be a keras.losses.Loss. Received: loss='mse'"):
        with_auxiliary_losses(two_outputs()).compile("sgd", loss="mse")
