"""A network is the same predictor in whatever form it is stored."""

import json

import keras
import numpy as np
import pytest

import kresnet
from kresnet.inference.predictors import BEST, CONFIG, predictor

NAMES = ("cat", "dog", "fish")
X = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), "uint8")


@pytest.fixture
def network():
    model = kresnet.ResNet(input_shape=(32, 32, 3), depths=(1, 1), widths=(8, 16), classes=3)
    model.describe(labels=NAMES)
    return model


def test_every_form_gives_the_same_probabilities_and_shape(network, tmp_path):
    network.save(tmp_path / "x.keras")
    forms = [
        network,
        tmp_path / "x.keras",
        kresnet.export(network, tmp_path / "x.tflite", latency=False),
        kresnet.export(network, tmp_path / "x"),
    ]
    expected = keras.ops.convert_to_numpy(network(X))
    for form in forms:
        found = predictor(form)
        assert found.image_shape == (32, 32, 3)
        np.testing.assert_allclose(found.run(X), expected, atol=1e-5)


def test_class_names_are_those_that_the_model_knows_unless_a_run_names_them(network, tmp_path):
    network.save(tmp_path / BEST)
    assert predictor(network).class_names == predictor(tmp_path / BEST).class_names == NAMES
    for config, names in (({}, NAMES), ({"class_names": ["a", "b", "c"]}, ("a", "b", "c"))):
        (tmp_path / CONFIG).write_text(json.dumps(config))
        assert predictor(tmp_path).class_names == names
    assert predictor(keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()])).class_names is None
