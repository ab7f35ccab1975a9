"""A network knows what it is: saved, loaded, rewritten, named otherwise, or read where kresnet is not imported."""

import json
import pickle

import keras
import numpy as np
import pytest
from networks import every_kind, shallow, without_weights

import kresnet
from kresnet.graph.fold import fold_batch_norm
from kresnet.graph.network import Network, description

TINY = {"depths": (1, 1, 1), "input_shape": (16, 16, 3)}
X = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype("float32")


def reloaded(model, path):
    model.save(path / "model.keras")
    return keras.saving.load_model(path / "model.keras")


def test_what_it_tells():
    told = kresnet.ResNet20(**TINY, se_reduction=4, name="mine").kresnet_config
    assert (told["key"], told["builder"], told["paper"]) == ("resnet20", "ResNet20", "1512.03385")
    assert told["changes"] == {"depths": [1, 1, 1], "se_reduction": 4}
    assert told["spec"]["mean"] == list(kresnet.get_builder("resnet20").spec.mean)
    assert told["family"] == "residual"
    assert told["include_preprocessing"] is True
    assert told["weights"] is told["labels"] is None
    assert told["kresnet"] == kresnet.__version__
    assert kresnet.ResNet20().kresnet_config["changes"] == {}
    scaled = kresnet.MobileNetV2(phi=1, include_top=False, include_preprocessing=False).kresnet_config
    assert scaled["changes"].keys() == {"depth_multiplier", "width_multiplier"}
    assert scaled["include_preprocessing"] is False


def test_it_survives_saving_and_rewriting(tmp_path):
    model = kresnet.ResNet20(**TINY, name="mine")
    model.describe(labels=list("abcdefghij"))
    for other in (reloaded(model, tmp_path), fold_batch_norm(model), pickle.loads(pickle.dumps(model))):
        assert isinstance(other, Network)
        assert other.name == "mine"
        assert other.kresnet_config == model.kresnet_config
    assert model.kresnet_config["labels"] == list("abcdefghij")
    assert json.loads(model.to_json())["config"]["kresnet_config"] == model.kresnet_config


def test_what_it_tells_cannot_be_changed_by_accident():
    model = kresnet.ResNet20(**TINY)
    model.kresnet_config["key"] = "other"
    assert model.kresnet_config["key"] == "resnet20"
    with pytest.raises(TypeError, match="JSON"):
        model.describe(labels={"a"})


def test_feature_strides_survive_saving(tmp_path):
    model = kresnet.ResNet20(**TINY, features=True)
    loaded = reloaded(model, tmp_path)
    assert loaded.feature_strides == model.feature_strides == {"stage2": 1, "stage3": 2, "stage4": 4}
    assert not hasattr(kresnet.ResNet20(**TINY), "feature_strides")


def test_others_tell_nothing():
    image = keras.Input((16, 16, 3))
    dense = keras.layers.Dense(3)(keras.layers.Flatten()(image))
    assert description(keras.Model(image, dense, name="resnet50")) == {}
    backbone = kresnet.ResNet20(**TINY, include_top=False)
    assert description(keras.Model(backbone.input, keras.layers.Flatten()(backbone.output))) == {}


@pytest.mark.slow
def test_a_training_step_is_traced_once(monkeypatch):
    traced, step = [], keras.Model.train_step
    monkeypatch.setattr(keras.Model, "train_step", lambda self, data: traced.append(0) or step(self, data))
    model = kresnet.ResNet20(**TINY)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(X, np.arange(2), verbose=0)
    assert len(traced) == 1
    model.fit(X, np.arange(2), verbose=0)
    assert (len(traced), int(model.optimizer.iterations)) == (1, 2)


@pytest.mark.slow
def test_trains_and_copies_as_a_keras_model_does(tmp_path):
    model = kresnet.ResNet20(**TINY)
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(X, np.arange(2), verbose=0)
    loaded = reloaded(model, tmp_path)
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))
    assert loaded.optimizer.iterations == 1
    nested = keras.Sequential([keras.Input((16, 16, 3)), loaded, keras.layers.Dense(2)])
    assert reloaded(nested, tmp_path).layers[0].kresnet_config == model.kresnet_config


def classes_of(config):
    """Yields the names under which a config's objects are registered, those of Keras's own aside."""
    if isinstance(config, dict):
        if str(config.get("registered_name")).startswith("kresnet>"):
            yield config["registered_name"]
        config = config.values()
    if not isinstance(config, str | int | float | None):
        for item in config:
            yield from classes_of(item)


# Two that Keras reads as its own, and layers that it lacks.
LACKING = (
    *("BatchNormalization", "DepthwiseConv2D", "GroupedConv2D", "EdgePadding2D"),
    *("LocalResponseNormalization", "SparseConv2D", "ChannelShuffle"),
)


@pytest.mark.parametrize("key", every_kind())
def test_files_hold_keras_s_classes(key):
    """All but the model, the initializer, what Keras reads as its own, and the layers that it lacks."""
    with without_weights():
        config = json.loads(shallow(key, 64).to_json())
    own = {"kresnet>Network", "kresnet>VarianceScaling"}
    own |= {f"kresnet>{name}" for name in LACKING if f'"{name}"' in json.dumps(config)}
    assert set(classes_of(config)) == own
    assert (config["module"], config["class_name"]) == ("keras.src.models.functional", "Functional")
