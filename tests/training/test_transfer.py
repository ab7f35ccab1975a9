"""Fine-tuning: which variables move, and how far."""

import csv
import json

import keras
import numpy as np
import pytest

import kresnet
from kresnet.training import optimizers, transfer

RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, 256, (64, 8, 8, 1), "uint8"), RNG.integers(0, 10, 64)


def tiny(**fields):
    keras.utils.set_random_seed(0)
    return kresnet.ResNet(
        depths=(1, 2), widths=(4, 8), expansion=1, stem="conv3", input_shape=(8, 8, 1), classes=10, **fields
    )


def values(model):
    return {variable.path: keras.ops.convert_to_numpy(variable).copy() for variable in model.weights}


def moved(model, before):
    return {path for path, value in values(model).items() if not np.array_equal(value, before[path])}


@pytest.mark.parametrize(
    ("until", "parts"),
    [("stem", ("stem",)), ("stage2", ("stem", "stage2")), ("head", ("stem", "stage2", "stage3"))],
)
def test_what_is_frozen_does_not_move(until, parts):
    model = tiny()
    trained = kresnet.freeze(model, until)
    assert trained == sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    before = values(model)
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(X, Y, 32, verbose=0)
    still = before.keys() - moved(model, before)
    assert still == {path for path in before if path.startswith(parts)}
    assert any("moving_mean" in path for path in still)  # frozen norms keep their statistics
    assert kresnet.freeze(model, False) == sum(int(np.prod(v.shape)) for v in model.trainable_variables) > trained


def test_layers_models_within_and_what_is_no_part(tmp_path):
    inner = tiny(include_top=False, pooling="avg")
    model = keras.Sequential([keras.Input((8, 8, 1)), inner, keras.layers.Dense(3, name="new")])
    rates = transfer.layer_rates(model, 0.5)
    assert (rates["new/kernel"], rates["stage3_block2_conv2/kernel"], rates["stem_conv/kernel"]) == (1, 0.5, 0.5**4)
    assert kresnet.freeze(model) == 8 * 3 + 3
    model.save(tmp_path / "m.keras")
    assert len(keras.saving.load_model(tmp_path / "m.keras").trainable_variables) == 2
    kresnet.freeze(model, "stage3_block1_conv2")
    assert not inner.get_layer("stage3_block1_conv1").trainable
    assert inner.get_layer("stage3_block2_conv1").trainable
    for whole in (inner.name, inner.layers[-1].name):  # a model, and a layer without weights
        assert kresnet.freeze(model, whole) == 8 * 3 + 3
    with pytest.raises(ValueError, match=r"stem, stage2, stage3, head, or a .* 'stage3'.*\? Received: until='stage4'"):
        kresnet.freeze(model, "stage4")


@pytest.mark.slow
@pytest.mark.parametrize("make", [optimizers.SGD, optimizers.AdamW, optimizers.Lamb, optimizers.RMSprop])
def test_layer_decay_is_exact(make, tmp_path):
    """After one step each variable has moved by its rate's share of what it moves without."""
    model, draws = tiny(), np.random.default_rng(0)
    rates = transfer.layer_rates(model, 0.5)
    variables = model.trainable_variables[::2]
    gradients = [keras.ops.convert_to_tensor(draws.standard_normal(v.shape).astype("float32")) for v in variables]
    drawn = [keras.ops.convert_to_numpy(variable).copy() for variable in variables]
    exponents = {"predictions": 0, "stage3_block2": 1, "stage3_block1": 2, "stage2_block1": 3, "stem": 4}
    # From zero the difference has no rounding error; from other values weight decay takes part.
    for start, tolerance in ((0, {"rtol": 1e-5}), (1, {"rtol": 2e-3, "atol": 3e-7})):
        steps = []
        for layer_rates in (None, rates):
            for variable, value in zip(variables, drawn, strict=True):
                variable.assign(start * value)
            optimizer = make(0.01, weight_decay=0.1, layer_rates=layer_rates)
            optimizer.apply(gradients, variables)
            steps.append([np.array(v) - start * value for v, value in zip(variables, drawn, strict=True)])
        for variable, whole, less in zip(variables, *steps, strict=True):
            exponent = next(e for part, e in exponents.items() if variable.path.startswith(part))
            assert np.abs(whole).max() > 1e-4
            np.testing.assert_allclose(less, whole * 0.5**exponent, **tolerance, err_msg=variable.path)
    model.compile(make(0.01, layer_rates=rates))
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras").optimizer
    assert (type(loaded), loaded.layer_rates) == (make, rates)
    for wrong in (0, 1.5, -1):
        with pytest.raises(ValueError, match=f"Received: layer_decay={wrong}"):
            transfer.layer_rates(model, wrong)


@pytest.fixture(scope="module")
def batches():
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(16, drop_remainder=True)


def run(model, data, out, **arguments):
    """Trains, and returns the history, and the weights and what the optimizer knows at the beginning of each epoch."""
    at = []

    def remember(epoch, logs):
        spy.model.optimizer.build(spy.model.trainable_variables)
        known = {v.path.partition("/")[2]: np.array(v) for v in spy.model.optimizer.variables}
        at.append((values(spy.model), known))

    spy = keras.callbacks.LambdaCallback(on_epoch_begin=remember)
    history = kresnet.train(
        model, data, "quick", validation_data=data, out=out, epochs=3, batch_size=16, ema=0.9, layer_decay=0.9,
        callbacks=[spy], verbose=False, with_report=False, **arguments,
    )  # fmt: skip
    return history, at


@pytest.mark.slow
def test_two_phases_are_one_run(tmp_path, batches):
    model = tiny()
    history, at = run(model, batches, tmp_path / "two", freeze="stage3", freeze_epochs=2)
    first, second, third = (weights for weights, _ in at)
    assert {path.split("/")[0] for path in first if not np.array_equal(first[path], second[path])} == {"predictions"}
    assert {path.split("/")[0] for path in second if not np.array_equal(second[path], third[path])} == {"predictions"}
    assert any(path.startswith("stem") for path in moved(model, third))
    # The seam does not show: without it, the third epoch begins with the same weights, averages, momenta and steps.
    _, whole = run(tiny(), batches, tmp_path / "one", freeze="stage3")
    for state, same in zip(at[2], whole[2], strict=True):
        assert same.keys() <= state.keys()
        for name, value in same.items():
            np.testing.assert_array_equal(state[name], value, err_msg=name)
    assert int(at[2][1]["iteration"]) == 8
    np.testing.assert_array_equal(at[2][1]["stem_conv_kernel_average"], third["stem_conv/kernel"])

    assert history.epoch == [0, 1, 2]
    assert len(history.history["val_loss"]) == 3
    with (tmp_path / "two" / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    rates = [float(row["learning_rate"]) for row in rows]
    assert rates == sorted(set(rates), reverse=True)
    config = json.loads((tmp_path / "two" / "config.json").read_text())
    assert (config["freeze"], config["freeze_epochs"], config["layer_decay"]) == ("stage3", 2, 0.9)
    saved = keras.saving.load_model(tmp_path / "two" / "last.keras")
    assert not moved(saved, values(model))
    assert saved.optimizer.layer_rates == transfer.layer_rates(model, 0.9)


@pytest.mark.slow
def test_callbacks_that_compare_epochs_go_on_across_the_seam(tmp_path, batches):
    """After the first epoch nothing counts as better: in the third both have waited long enough, seam or none."""

    def trained(**arguments):
        model, at = tiny(), []
        stop = keras.callbacks.EarlyStopping("val_loss", min_delta=10, patience=2, restore_best_weights=True)
        reduce = keras.callbacks.ReduceLROnPlateau("val_loss", 0.5, patience=2, min_delta=10)

        def remember(epoch, logs):
            at.append((values(model), stop.best, stop.wait, reduce.best, reduce.wait))

        spy = keras.callbacks.LambdaCallback(on_epoch_begin=remember)
        history = kresnet.train(
            model, batches, "quick", validation_data=batches, epochs=5, batch_size=16, schedule="plateau",
            plateau_epochs=9, warmup_epochs=0, callbacks=[spy, stop, reduce], verbose=False, with_report=False,
            freeze="stage2", **arguments,
        )  # fmt: skip
        assert history.epoch == [0, 1, 2]
        assert stop.stopped_epoch == 2
        return model, at, float(np.asarray(model.optimizer.learning_rate)) / history.history["learning_rate"][0]

    whole, without, _ = trained(out=tmp_path / "one")
    model, at, rate = trained(out=tmp_path / "two", freeze_epochs=2)
    assert rate == 0.5
    _, second, third = at
    assert third[1:] == (second[1], 1, second[1], 1) == without[2][1:]
    for name, value in third[0].items():  # the best weights are not put in at the seam, norms' statistics neither
        np.testing.assert_array_equal(value, without[2][0][name], err_msg=name)
    assert {name.split("_")[0] for name in second[0] if not np.array_equal(second[0][name], third[0][name])} == {
        "stage3",
        "predictions/kernel",
        "predictions/bias",
    }
    assert not moved(model, second[0])  # but at the end: those after the first epoch
    assert not moved(whole, without[1][0])


@pytest.mark.slow
def test_training_leaves_frozen_what_is_and_stops_when_told(tmp_path, batches):
    model = tiny()
    kresnet.freeze(model, "stem")
    stop = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: setattr(model, "stop_training", True))
    before = values(model)
    arguments = {"epochs": 3, "batch_size": 16, "verbose": False, "with_report": False, "callbacks": [stop]}
    assert kresnet.train(model, batches, "quick", out=tmp_path / "a", **arguments).epoch == [0]
    assert {path.split("/")[0] for path in before.keys() - moved(model, before)} == {"stem_conv", "stem_norm"}
    for wrong in ({"freeze_epochs": 1}, {"freeze": "stem", "freeze_epochs": 3}, {"layer_decay": 0}, {"freeze": "no"}):
        with pytest.raises(ValueError, match=r"(freeze|layer_decay|until).*Received"):
            kresnet.train(model, batches, "quick", out=tmp_path / "b", **arguments, **wrong)
    assert not (tmp_path / "b").exists()
    kresnet.freeze(model, False)
    history = kresnet.train(model, batches, "quick", out=tmp_path / "b", freeze=True, freeze_epochs=2, **arguments)
    assert history.epoch == [0]  # a callback that stops ends both phases


def test_momenta_are_carried_over():
    model = tiny()
    kresnet.freeze(model, "head")
    model.compile(optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy")
    model.fit(X, Y, 32, verbose=0)
    kresnet.freeze(model, False)
    new = optimizers.SGD(0.1, momentum=0.9)
    new.build(model.trainable_variables)
    new.go_on_from(model.optimizer)
    assert int(new.iterations) == 2
    momenta = {v.path.split("/")[-1]: float(np.abs(v).max()) for v in new.variables if "momentum" in v.path}
    assert {name for name, largest in momenta.items() if largest > 0} == {
        name for name in momenta if name.startswith("predictions")
    }


def test_recalibrated_norms_have_the_means_of_the_batches():
    model = tiny(dropout_rate=0.5)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([weight + 3 for weight in layer.get_weights()])
    frozen = model.get_layer("stage2_block1_norm1")
    frozen.trainable = False
    still = frozen.get_weights()
    stem = keras.Model(model.input, model.get_layer("stem_conv").output)
    kresnet.recalibrate_batch_norm(model, X)
    maps = [np.asarray(stem(X[i : i + 32])) for i in (0, 32)]
    _, _, mean, variance = model.get_layer("stem_norm").get_weights()
    np.testing.assert_allclose(mean, np.mean([m.mean((0, 1, 2)) for m in maps], 0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(variance, np.mean([m.var((0, 1, 2)) for m in maps], 0), rtol=1e-4)
    assert all(np.array_equal(a, b) for a, b in zip(still, frozen.get_weights(), strict=True))
    norm = model.get_layer("stem_norm")
    assert (norm.momentum, "call" in vars(norm)) == (0.9, False)
    before = values(model)
    with pytest.raises(ValueError, match="not finite, first in"):
        kresnet.recalibrate_batch_norm(model, [np.full((2, 8, 8, 1), np.nan)])
    with pytest.raises(ValueError, match="no images"):
        kresnet.recalibrate_batch_norm(model, [])
    assert not moved(model, before)


def test_recalibrated_networks_compute_what_they_do_in_training():
    model = tiny()
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([weight + 3 for weight in layer.get_weights()])
    expected = np.array(model(X[:32], training=True))  # by the statistics of the batch itself
    assert np.abs(model(X[:32]) - expected).max() > 0.01
    kresnet.recalibrate_batch_norm(model, X, batches=1)
    np.testing.assert_allclose(np.array(model(X[:32])), expected, rtol=1e-4, atol=1e-6)
