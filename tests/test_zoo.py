"""Over every registered network: builds, parameters, a training step, saving. Registering one adds it."""

import keras
import numpy as np
import pytest
import readme_table

import kresnet
from kresnet.zoo import COSTS

PUBLISHED, COUNTED = readme_table.read(readme_table.TESTS / "published.csv"), readme_table.read(COSTS)

# More than 200 layers: too slow to train here, and before training their activations overflow with the initial
# statistics, so that only the batch's own give finite numbers.
DEEP = {"resnet1202", "resnetv2_1001"}


def outputs(model, images, training=False):
    return keras.ops.convert_to_numpy(model(images, training=training))


@pytest.mark.parametrize("key", kresnet.list_models())
def test_network(key, tmp_path):
    keras.utils.set_random_seed(0)
    builder, published = kresnet.get_builder(key), PUBLISHED.get(key)
    size, classes = (64, 1000) if builder.input_size > 32 else (16, 10)
    model = builder(input_shape=(size, size, 3))
    images = np.random.default_rng(0).integers(0, 256, (4, size, size, 3), "uint8")

    assert published, f"add {key} to tests/published.csv: its parameters, and where they are published"
    costs = kresnet.cost(model, input_shape=(builder.input_size, builder.input_size, 3))
    assert costs.trainable_params == int(published["parameters"])
    assert (str(costs.trainable_params), str(costs.macs)) == (COUNTED[key]["parameters"], COUNTED[key]["macs"])
    if published["gmacs"]:
        pixels = int(published["pixels"] or builder.input_size)
        macs = kresnet.cost(model, input_shape=(pixels, pixels, 3)).macs
        last_digit = 10.0 ** -len(published["gmacs"].partition(".")[2])
        assert macs / 1e9 == pytest.approx(float(published["gmacs"]), abs=last_digit)

    assert model.name == key
    assert model.output_shape == (None, classes)
    probabilities = outputs(model, images, training=key in DEEP)
    assert probabilities.shape == (4, classes)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-4)

    if key not in DEEP:
        before = [keras.ops.convert_to_numpy(variable).copy() for variable in model.trainable_variables]
        model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", run_eagerly=True)
        assert np.isfinite(model.train_on_batch(images, np.arange(4)))
        for variable, old in zip(model.trainable_variables, before, strict=True):
            new = keras.ops.convert_to_numpy(variable)
            assert np.isfinite(new).all(), variable.path
            assert not np.array_equal(new, old), variable.path

    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    (tmp_path / "model.keras").unlink()  # all of them together are 10 GB
    assert loaded.to_json() == model.to_json()
    np.testing.assert_array_equal(outputs(loaded, images), outputs(model, images))


def test_published_networks_are_registered():
    assert set(PUBLISHED) == set(COUNTED) == set(kresnet.list_models())
    assert sum(bool(row["gmacs"]) for row in PUBLISHED.values()) >= 20
