"""`kresnet.train` and its command go on after a kill."""

import csv
import json
import os
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf
from processes import QUICKEST, python
from test_resume import At

import kresnet
from kresnet import cli
from kresnet.training import run, states

OPTIONS = {
    "recipe": kresnet.recipes.QUICK.replace(
        epochs=3, schedule="plateau", plateau_epochs=1, warmup_epochs=0.0, ema=0.9, drop_path_rate=0.2, mixup=0.2,
        image_size=8,
    ),
    "model_fields": {"depths": (1, 1), "widths": (8, 8), "expansion": 1, "stem": "conv3"},
    "batch_size": 256,
    "freeze": "stem",
    "freeze_epochs": 1,
    "patience": 2,
    "verbose": False,
    "with_report": False,
}  # fmt: skip
STEPS = 5  # an epoch


def _train(out, *callbacks, **options):
    return kresnet.train("resnet20", "digits", out=out, callbacks=callbacks, **OPTIONS | options)


def _without_speed(history):
    return {name: values for name, values in history.items() if name != "images_per_second"}


def _weights(folder):
    return [keras.saving.load_model(folder / name).get_weights() for name in ("best.keras", "last.keras")]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return folder, _train(folder, At())


@pytest.mark.thorough
def test_kills_of_a_run_of_two_phases(tmp_path, uninterrupted, capfd):
    whole, history = uninterrupted
    out = tmp_path / "run"
    for step in (3, STEPS, 2 * STEPS + 4):  # within both phases, and at the seam
        with pytest.raises(RuntimeError, match="killed"):
            _train(out, At(step), resume=True, checkpoint_every="2 steps")
        assert (out / "state" / "network.json").exists()
    found = _train(out, At(), resume=True)
    assert found.epoch == [0, 1, 2]
    assert _without_speed(found.history) == _without_speed(history.history)
    for ours, theirs in zip(_weights(out), _weights(whole), strict=True):
        assert all((a == b).all() for a, b in zip(ours, theirs, strict=True))
    with (out / "history.csv").open() as file:
        assert [float(row["loss"]) for row in csv.DictReader(file)] == history.history["loss"]
    assert {path.name for path in out.iterdir()} == {path.name for path in whole.iterdir()}
    assert "Going on in epoch 3 after 3 batches" in capfd.readouterr().err
    assert _without_speed(_train(out, resume=True).history) == _without_speed(history.history)
    assert "run has ended, after 3 epochs: nothing is left to do" in capfd.readouterr().err
    assert kresnet.train(out=out, resume=True).epoch == [0, 1, 2]


@pytest.mark.slow
def test_a_run_is_neither_overwritten_nor_mixed_up_with_another(tmp_path, uninterrupted):
    whole, _ = uninterrupted
    with pytest.raises(ValueError, match=r"holds a run already: `resume=True` \(--resume\) goes on .*Received: out="):
        _train(whole)
    with pytest.raises(ValueError, match=r"Only one can be True. Received: resume=True, overwrite=True"):
        _train(whole, resume=True, overwrite=True)
    out = tmp_path / "run"
    with pytest.raises(RuntimeError, match="killed"):
        _train(out, At(STEPS + 1))
    with pytest.raises(
        ValueError,
        match=r"run was begun with seed=0, epochs=3, mixup=0.2; go on .*Received: seed=1, epochs=4, mixup=0.1",
    ):
        _train(out, At(), resume=True, seed=1, epochs=4, mixup=0.1)
    with pytest.raises(ValueError, match=r"was begun with seed=0; .*Received: seed=2"):
        kresnet.train(out=out, resume=True, seed=2)
    with pytest.raises(RuntimeError, match="killed"):
        _train(out, At(STEPS + 1), overwrite=True, seed=5)
    assert json.loads((out / "config.json").read_text())["seed"] == 5
    (out / "state" / "network.json").write_text("{")
    with pytest.raises(ValueError, match=r"network.json is damaged"):
        _train(out, At(), resume=True, seed=5)
    config = json.loads((out / "config.json").read_text())
    for wrong in ({"model_fields": 5}, {"recipe": [1]}, {"data": None}):
        (out / "config.json").write_text(json.dumps(config | wrong))
        with pytest.raises(ValueError, match=r"No run of a network's key .*: give `model` and `data`. Received: out="):
            kresnet.train(out=out, resume=True)
    with pytest.raises(ValueError, match=r"No run of a network's key .*: give `model` and `data`. Received: out="):
        kresnet.train(out=tmp_path / "none", resume=True)


def test_a_history_that_is_damaged_or_not_there_is_named(tmp_path):
    for name in ("config.json", "best.keras"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(ValueError, match=r"history\.csv: No such file or directory\. Received: out="):
        kresnet.train(out=tmp_path, resume=True)
    for text in ("epoch,loss\n0,x\n", "loss\n1\n"):
        (tmp_path / "history.csv").write_text(text)
        with pytest.raises(ValueError, match=r"history\.csv: it is damaged\. Received: out="):
            kresnet.train(out=tmp_path, resume=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGHUP, marks=pytest.mark.thorough), pytest.param(signal.SIGINT)]
)
def test_the_command_ends_with_the_status_of_its_signal_and_goes_on(number, tmp_path, capfd, monkeypatch):
    out, batches = tmp_path / "run", []
    save = states.save

    def save_and_signal(folder, epoch, batch, *rest):
        save(folder, epoch, batch, *rest)
        batches.append(batch)
        if len(batches) == 1:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(states, "save", save_and_signal)
    fields = "--model depths=[1,1] widths=[8,8] expansion=1 stem=conv3 --epochs 1 --batch-size 256 --image-size 8"
    assert cli.main(["train", "resnet20", "--data", "digits", "--out", str(out), *fields.split()]) == 128 + number
    said = capfd.readouterr().err.strip().splitlines()
    assert said == [f"kresnet: {number.name}: training has ended early; its state is saved in {out}"]
    assert cli.main(["train", "--out", str(out), "--resume"]) == 0
    assert len(list(csv.DictReader((out / "history.csv").open()))) == 1
    assert (out / "report.html").exists()
    assert cli.main(["train", "--out", str(out)]) == 2
    assert "`KEY` and `--data` are needed" in capfd.readouterr().err


@pytest.mark.slow
def test_another_process_is_kept_off(tmp_path):
    code = f"""
    import pathlib
    from kresnet.training import run
    try:
        run.hold(pathlib.Path({str(tmp_path)!r}))
        print("held")
    except ValueError as error:
        print(error)
    """
    mine = [run.hold(tmp_path), run.hold(tmp_path)]  # this process may go on with what failed in it
    assert python(code, KERAS_BACKEND=QUICKEST).strip().endswith(f"Received: out={str(tmp_path)!r}")
    for lock in mine:
        lock.close()
    assert python(code, KERAS_BACKEND=QUICKEST).strip() == "held"


@pytest.mark.slow
def test_a_dataset_of_one_s_own_goes_on_in_its_order(tmp_path):
    """`shuffle` draws a new order in each epoch, the first one in a new process again."""

    def fit(out, *callbacks, **options):
        keras.backend.clear_session()  # as in a new process, where names are given anew
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(3, "softmax")]
        images = np.random.default_rng(0).integers(0, 256, (40, 2, 2, 1)).astype("float32")
        own = tf.data.Dataset.from_tensor_slices((images, np.arange(40) % 3)).shuffle(40, seed=1).batch(4)
        model = keras.Sequential(layers)
        recipe = {"epochs": 3, "batch_size": 4, "learning_rate": 1e-4, "verbose": False}
        kresnet.train(model, own, "quick", out=out, callbacks=callbacks, **recipe, **options)
        return model.get_weights()

    whole = fit(tmp_path / "whole", At())
    with pytest.raises(RuntimeError, match="killed"):
        fit(tmp_path / "run", At(27), checkpoint_every="5 steps")
    assert all((a == b).all() for a, b in zip(fit(tmp_path / "run", At(), resume=True), whole, strict=True))
    with pytest.raises(RuntimeError, match="killed"):
        fit(tmp_path / "other", At(17))
    with pytest.raises(ValueError, match="give `model` and `data`"):
        kresnet.train(out=tmp_path / "other", resume=True)


@pytest.mark.slow
def test_patience_ends_a_run(tmp_path, capsys):
    """At a learning rate of nearly 0 nothing gets better."""
    options = {"schedule": "constant", "learning_rate": 1e-9, "freeze": False, "freeze_epochs": None, "ema": None}
    history = _train(tmp_path / "run", patience=1, epochs=9, **options)
    assert len(history.epoch) < 9
    assert "early stopping" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"`patience` must be an integer of at least 1.* Received: patience=0"):
        _train(tmp_path / "other", patience=0)
