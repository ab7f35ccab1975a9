"""Training that is killed goes on as if it had not been."""

import os
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

import kresnet
from kresnet.training import states

EPOCHS, STEPS = 2, 22


class At(keras.callbacks.Callback):
    """Sends this process a signal, or raises an error, after a step; counts the steps that it is told of."""

    def __init__(self, step=None, what=None):
        super().__init__()
        self.step, self.what, self.steps = step, what, 0

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        if self.steps == self.step:
            if self.what is None:
                raise RuntimeError("killed")
            os.kill(os.getpid(), self.what)

    def get_state(self):
        return {"steps": self.steps, "list": [np.arange(3), None]}

    def set_state(self, state):
        assert state["list"][1] is None
        assert (state["list"][0] == np.arange(3)).all()
        self.steps = state["steps"]


def _fit(folder, *others, every="7 steps", data=None, delete=False):
    """Trains a network with much that is drawn and remembered, as a process does that begins anew."""
    keras.utils.set_random_seed(1)
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((8, 8, 1)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(8, 3, use_bias=False),
            layers.BatchNormalization(),
            layers.Dropout(0.3),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    optimizer = keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.9)
    model.compile(optimizer, "categorical_crossentropy", metrics=["accuracy"])
    data = data or kresnet.data.load("digits", "train", 8, 64, augment="cifar", mixup=0.2)
    validation = kresnet.data.load("digits", "validation", 8, 64).map(lambda x, y: (x, tf.one_hot(y, 10)))
    averages = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    plateau = keras.callbacks.ReduceLROnPlateau("val_loss", 0.5, 1)
    resume = kresnet.callbacks.Resume(folder, [averages, plateau, *others], data, every, delete)
    model.fit(data, validation_data=validation, epochs=EPOCHS, callbacks=[resume], verbose=0, shuffle=False)
    return model


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    model = _fit(tmp_path_factory.mktemp("whole"), At())
    assert model.history.epoch == [0, 1]
    return model.history.history, model.get_weights()


def _same(model, uninterrupted):
    history, weights = uninterrupted
    assert model.history.epoch == [0, 1]
    assert model.history.history == history
    assert all((a == b).all() for a, b in zip(model.get_weights(), weights, strict=True))


@pytest.mark.slow
def test_kills(tmp_path, uninterrupted):
    for step in (9, STEPS, STEPS + 15):  # within an epoch, at its end, and in the next
        with pytest.raises(RuntimeError, match="killed"):
            _fit(tmp_path, At(step))
    _same(_fit(tmp_path, At()), uninterrupted)
    again = _fit(tmp_path, At())  # nothing is left to do
    _same(again, uninterrupted)
    _fit(tmp_path, At(), delete=True)
    assert not tmp_path.exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals(number, tmp_path, uninterrupted, capfd):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt, match=signal.Signals(number).name) as interrupt:
        _fit(tmp_path, At(5, number), every="epoch")
    assert interrupt.value.signal == number
    assert signal.getsignal(number) == before
    assert states.place(tmp_path) == (0, 5)
    assert capfd.readouterr().err == ""
    _same(_fit(tmp_path, At()), uninterrupted)


@pytest.mark.slow
def test_validation_is_interrupted(tmp_path, uninterrupted):
    class InValidation(keras.callbacks.Callback):
        def on_test_batch_end(self, batch, logs=None):
            if batch == 1:
                os.kill(os.getpid(), signal.SIGTERM)

        def get_state(self):
            return None

        def set_state(self, state):
            assert state is None

    with pytest.raises(KeyboardInterrupt):
        _fit(tmp_path, At(), InValidation())
    assert states.place(tmp_path) == (0, STEPS)
    other = At()
    with pytest.raises(ValueError, match=r"of other callbacks: .*InValidation.* Received: callbacks="):
        _fit(tmp_path, other)


@pytest.mark.slow
def test_damage(tmp_path, uninterrupted, capfd):
    with pytest.raises(RuntimeError, match="killed"):
        _fit(tmp_path, At(17))
    last = sorted(tmp_path.iterdir())[-1]
    data = bytearray(last.read_bytes())
    data[len(data) // 2] ^= 1
    last.write_bytes(data)
    _same(_fit(tmp_path, At()), uninterrupted)
    said = capfd.readouterr().err
    assert f"{last} is damaged" in said
    assert "after 7 batches" in said


@pytest.mark.slow
def test_another_network(tmp_path):
    with pytest.raises(RuntimeError, match="killed"):
        _fit(tmp_path, At(3), every="1 step")
    model = keras.Sequential([keras.layers.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])
    model.compile("sgd", "mse")
    resume = kresnet.callbacks.Resume(tmp_path)
    with pytest.raises(ValueError, match=r"of another model, of \d+ variables. Received: variables=2"):
        model.fit(np.zeros((4, 8, 8, 1)), np.zeros((4, 10)), callbacks=[resume], verbose=0)


def test_states(tmp_path):
    arrays = {"a": np.arange(4.0), "b": tf.constant([1.5, 2], tf.bfloat16).numpy()}
    for batch in range(4):
        states.save(tmp_path, 3, batch, arrays, {"batch": batch})
    assert len([*tmp_path.iterdir()]) == states.KEPT
    assert states.place(tmp_path) == (3, 3)
    found, facts = states.newest(tmp_path)
    assert facts == {"batch": 3}
    assert found["b"].dtype == arrays["b"].dtype
    assert all((found[name] == arrays[name]).all() for name in arrays)
    with pytest.raises(states.NotFinite, match="a is infinite or NaN"):
        states.save(tmp_path, 3, 4, {"a": np.array([np.nan])}, {})
    assert states.place(tmp_path) == (3, 3)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-30])
    assert states.newest(tmp_path) is None


@pytest.mark.parametrize("every", ["", "5", "0 steps", "5 days", 3, "-1 minutes"])
def test_every(every):
    with pytest.raises(ValueError, match=r"`every` is written as .* Received: every="):
        kresnet.callbacks.Resume("x", every=every)
