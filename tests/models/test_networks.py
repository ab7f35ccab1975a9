"""Over every registered network: builds, parameters, a training step, saving. Registering one adds it."""

import keras
import network_tables
import numpy as np
import pytest
from networks import every_kind, marked, shallow, without_weights

import kresnet
from kresnet.models import catalogue

PUBLISHED, COUNTED = network_tables.published(), {row["key"]: row for row in catalogue.rows()}


def outputs(model, images):
    return keras.ops.convert_to_numpy(model(images, training=False))


# Each takes as long as twenty others, and is made of the same blocks as networks of a hundred layers.
@pytest.mark.parametrize("key", marked(kresnet.list_models(), thorough={"resnetv2_1001", "resnet1202"}))
def test_network(key):
    """As published: parameters, MACs, classes. Nothing is computed, so the weights are not drawn."""
    builder, published = kresnet.get_builder(key), PUBLISHED.get(key)
    assert published, f"add {key} to tests/published.csv: its parameters, and where they are published"
    with without_weights():
        model = builder()
        counted = network_tables.counted(key, model)
        pixels = int(published["pixels"] or builder.input_size)
        elsewhere = pixels != builder.input_size
        channels = len(builder.spec.mean)
        macs = kresnet.cost(model, input_shape=(pixels, pixels, channels)).macs if elsewhere else int(counted["macs"])
    assert model.name == key
    assert model.input_shape == (None, builder.input_size, builder.input_size, channels)
    assert model.output_shape == (None, 1000 if builder.input_size > 32 else 10)
    assert counted["parameters"] == published["parameters"]
    assert counted == COUNTED[key], "run `make table`"
    if published["gmacs"]:
        last_digit = 10.0 ** -len(published["gmacs"].partition(".")[2])
        assert macs / 1e9 == pytest.approx(float(published["gmacs"]), abs=last_digit)


@pytest.mark.slow
@pytest.mark.parametrize("key", every_kind())
def test_network_trains_and_saves(key, tmp_path):
    """Cut short: probabilities; a training step moves every variable; and the saved file is the model."""
    keras.utils.set_random_seed(0)
    size = 64 if kresnet.get_builder(key).input_size > 32 else 16
    model = shallow(key, size)
    images = np.random.default_rng(0).integers(0, 256, (4, *model.input_shape[1:]), "uint8")
    np.testing.assert_allclose(outputs(model, images).sum(1), 1, rtol=1e-4)
    before = [keras.ops.convert_to_numpy(variable).copy() for variable in model.trainable_variables]
    model.compile(keras.optimizers.SGD(10.0), "sparse_categorical_crossentropy", run_eagerly=True)
    assert np.isfinite(model.train_on_batch(images, np.arange(4)))
    for variable, old in zip(model.trainable_variables, before, strict=True):
        new = keras.ops.convert_to_numpy(variable)
        assert np.isfinite(new).all(), variable.path
        assert not np.array_equal(new, old), variable.path

    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    (tmp_path / "model.keras").unlink()  # all of them together are gigabytes
    assert loaded.to_json() == model.to_json()
    np.testing.assert_array_equal(outputs(loaded, images), outputs(model, images))


def test_published_networks_are_registered():
    assert set(PUBLISHED) == set(kresnet.list_models()), "its row in tests/published.csv"
    assert set(COUNTED) == set(kresnet.list_models()), "run `make table`"
    assert [key for key, row in COUNTED.items() if row["parameters"] != PUBLISHED[key]["parameters"]] == []
    assert sum(bool(row["gmacs"]) for row in PUBLISHED.values()) >= 20
