"""The network of a run: how it is built, and what it knows of itself afterwards."""

import json

import keras
import pytest
from pictures import write_folder
from test_train import tiny

import kresnet
from kresnet.training import network

SHORT = {"depths": (1, 1, 1)}


@pytest.mark.slow
def test_a_network_built_by_key_knows_its_labels_in_the_first_checkpoint(tmp_path):
    kresnet.ResNet20(**SHORT, input_shape=(16, 16, 1)).save_weights(tmp_path / "start.weights.h5")
    known = []
    spy = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: known.append(keras.saving.load_model(tmp_path / "a" / "best.keras"))
    )
    kresnet.train(
        "resnet20", "digits", "quick", out=tmp_path / "a", epochs=1, image_size=16, batch_size=512, callbacks=[spy],
        weights=tmp_path / "start.weights.h5", model_fields=SHORT, verbose=False, with_report=False,
    )  # fmt: skip
    for model in (known[0], keras.saving.load_model(tmp_path / "a" / "best.keras")):
        about = model.kresnet_config
        assert (about["key"], about["changes"]) == ("resnet20", {"depths": [1, 1, 1]})
        assert about["labels"] == list("0123456789")
        assert about["weights"] == str(tmp_path / "start.weights.h5")
    assert json.loads((tmp_path / "a" / "config.json").read_text())["model"] == "resnet20"


def test_the_key_names_a_network_however_the_model_is_named():
    """A model that does not know what it is goes by its own name, which claims nothing."""
    image = keras.Input((16, 16, 1))
    outputs = keras.layers.Dense(10, "softmax")(keras.layers.Flatten()(image))
    dense = keras.Model(image, outputs, name="dense")
    assert network.key_or_name(kresnet.ResNet20(input_shape=(16, 16, 1), name="mine")) == "resnet20"
    assert network.key_or_name(dense) == "dense"
    network.describe(dense, ("a", "b"), None)  # has nowhere to keep it
    assert not hasattr(dense, "kresnet_config")


def test_what_the_data_do_not_know_replaces_nothing():
    model = tiny()
    network.describe(model, None, None)
    assert model.kresnet_config["labels"] is None
    model.describe(labels=["a", "b"])
    network.describe(model, None, None)
    assert model.kresnet_config["labels"] == ["a", "b"]


def test_labels_must_be_the_classes_of_the_data(tmp_path):
    model, digits = tiny(), tuple("0123456789")
    model.describe(labels=list(digits))
    network.check(model, digits, None, None)
    network.check(model, None, None, None)
    model.describe(labels=list(reversed(digits)))
    with pytest.raises(ValueError, match=r"describe\(labels=None\)` removes them\. Received: network=\['9', '8'"):
        kresnet.train(model, "digits", out=tmp_path / "a", verbose=False)
    assert not (tmp_path / "a").exists()
    model.describe(labels=None)
    network.check(model, digits, None, None)


@pytest.mark.slow
def test_a_network_built_by_key_takes_the_fields_of_the_recipe(tmp_path):
    """Sigmoids, stochastic depth and soft labels for RSB; and the precision, except in the classifier."""
    seen = []
    photos = write_folder(tmp_path / "photos", count=10)
    spy = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: seen.append(spy.model))
    kresnet.train(
        "resnet20", photos, "rsb-a3", out=tmp_path / "a", epochs=1, image_size=16, batch_size=8, warmup_epochs=0,
        drop_path_rate=0.1, model_fields=SHORT, precision="mixed_bfloat16", callbacks=[spy], verbose=False,
    )  # fmt: skip
    (model,) = seen
    assert model.get_layer("predictions").activation is keras.activations.sigmoid
    assert model.get_layer("predictions").compute_dtype == "float32"
    assert model.get_layer("stem_conv").compute_dtype == "bfloat16"
    assert any("drop_path" in layer.name for layer in model.layers)
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.slow
def test_weights_to_start_from(tmp_path):
    """Of a checkpoint with other classes, all but the classifier is loaded."""
    start = kresnet.ResNet20(**SHORT, classes=7, input_shape=(16, 16, 1))
    start.save_weights(tmp_path / "start.weights.h5")
    seen = {}

    def compare(logs):
        for layer in spy.model.layers:
            if layer.weights and layer.name != "predictions":
                assert all(
                    (a == b).all()
                    for a, b in zip(layer.get_weights(), start.get_layer(layer.name).get_weights(), strict=True)
                )
                seen[layer.name] = True

    spy = keras.callbacks.LambdaCallback(on_train_begin=compare)
    kresnet.train(
        "resnet20", "digits", "fine-tune", out=tmp_path / "a", epochs=0.05, image_size=16, batch_size=512,
        weights=tmp_path / "start.weights.h5", model_fields=SHORT, callbacks=[spy], verbose=False, with_report=False,
    )  # fmt: skip
    assert len(seen) > 12
