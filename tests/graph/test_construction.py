import contextlib
import gc

import keras
import numpy as np
import pytest

import kresnet
from kresnet.graph import construction


@pytest.mark.parametrize("collects", [True, False])
def test_the_collector_is_left_as_it_was_found(collects):
    (gc.enable if collects else gc.disable)()
    try:
        with construction.constructing():
            assert not gc.isenabled()
        assert gc.isenabled() is collects
        with pytest.raises(ValueError, match="classes"):
            kresnet.ResNet18(classes=0)
        assert gc.isenabled() is collects
    finally:
        gc.enable()


def names(model):
    return [weight.value.name for weight in model.weights]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the names of TensorFlow's variables")
def test_variables_have_the_names_that_keras_gives_them(tmp_path, monkeypatch):
    import tensorflow as tf

    model = kresnet.ResNet20(input_shape=(8, 8, 3))
    assert names(model) == [f"{weight.path}:0" for weight in model.weights]
    monkeypatch.setattr(construction, "_alike", contextlib.nullcontext)
    assert names(kresnet.ResNet20(input_shape=(8, 8, 3))) == names(model)
    model.export(tmp_path / "model")
    saved = tf.saved_model.load(tmp_path / "model").variables
    assert {variable.name for variable in saved} == set(names(model))


def test_what_a_file_sets_is_not_drawn(tmp_path, monkeypatch):
    original = kresnet.ResNet20(include_top=False, input_shape=(8, 8, 3))
    original.save_weights(tmp_path / "a.weights.h5")
    monkeypatch.setattr(np.random, "default_rng", lambda *args: pytest.fail("weights are drawn"))
    model = kresnet.ResNet20(include_top=False, input_shape=(8, 8, 3), weights=tmp_path / "a.weights.h5")
    for weight, other in zip(model.weights, original.weights, strict=True):
        np.testing.assert_array_equal(weight, other)
    with pytest.raises(pytest.fail.Exception):
        kresnet.ResNet20(include_top=False, input_shape=(8, 8, 3))


def test_what_a_file_does_not_set_is_drawn(tmp_path):
    kresnet.GoogLeNet(classes=2).save_weights(tmp_path / "a.weights.h5")
    model = kresnet.GoogLeNet(classes=2, auxiliary=True, weights=tmp_path / "a.weights.h5")
    assert all(np.any(weight) for weight in model.weights if weight.path.endswith("kernel"))
