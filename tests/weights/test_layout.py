"""Layouts give names and forms; a converter is chosen by the layer's class, and what is left over is named."""

import keras
import numpy as np
import pytest
import reference
from safetensors.numpy import load_file, save_file

import kresnet
from kresnet.weights import Layout, forms, load

RNG = np.random.default_rng(0)
BARE = {"classifier_activation": None, "include_preprocessing": False}


def test_each_class_has_its_form(tmp_path):
    """A Conv1D is no dense layer, and a depthwise convolution may give several channels for each."""
    maps, row = keras.Input((5, 6, 4)), keras.Input((9, 4))
    layers = {
        "conv": keras.layers.Conv2D(7, (3, 2), name="conv"),
        "depthwise": keras.layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise"),
    }
    line, dense = keras.layers.Conv1D(7, 3, name="line"), keras.layers.Dense(5, name="dense")
    model = keras.Model([maps, row], [layer(maps) for layer in layers.values()] + [dense(line(row))])
    shapes = {"conv": (7, 4, 3, 2), "depthwise": (8, 1, 3, 3), "line": (7, 4, 3), "dense": (5, 7)}
    state = {f"{name}.weight": RNG.standard_normal(shape).astype("float32") for name, shape in shapes.items()}
    state |= {f"{name}.bias": RNG.standard_normal(shape[0]).astype("float32") for name, shape in shapes.items()}
    save_file(state, tmp_path / "x.safetensors")
    load(model, tmp_path / "x.safetensors", [Layout("mine", {r"(?P<name>\w+)": "{name}"})])
    np.testing.assert_array_equal(model.get_layer("conv").kernel, state["conv.weight"].transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(model.get_layer("line").kernel, state["line.weight"].transpose(2, 1, 0))
    np.testing.assert_array_equal(model.get_layer("dense").kernel, state["dense.weight"].T)
    kernel = np.asarray(model.get_layer("depthwise").kernel)
    for channel in range(4):
        for filter_ in range(2):
            expected = state["depthwise.weight"][2 * channel + filter_, 0]
            np.testing.assert_array_equal(kernel[:, :, channel, filter_], expected)


def test_a_flattened_map_is_reordered():
    """(C, H, W) there, (H, W, C) here: the same numbers for the same map."""
    form, weight = forms.flattened(2, 3), RNG.standard_normal((5, 4 * 2 * 3))
    assert form.shapes((24, 5)) == ((5, 24),)
    kernel, maps = form.read(weight, (24, 5)), RNG.standard_normal((2, 3, 4))
    np.testing.assert_allclose(maps.reshape(-1) @ kernel, weight @ maps.transpose(2, 0, 1).reshape(-1))


def test_a_class_of_unknown_form_is_refused(tmp_path):
    image = keras.Input((8, 8, 4))
    model = keras.Model(image, keras.layers.Conv2DTranspose(3, 2, name="up")(image))
    save_file({"up.weight": np.zeros((4, 3, 2, 2), "float32")}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"not known how .* Received: layer='up', class=Conv2DTranspose"):
        load(model, tmp_path / "x.safetensors", [Layout("mine", {r"(?P<name>\w+)": "{name}"})])
    weightless = keras.Model(image, keras.layers.PReLU(name="act")(image))
    with pytest.raises(ValueError, match=r"no such weight\. Received: layer='act', class=PReLU, weight='alpha'"):
        load(weightless, tmp_path / "x.safetensors", [Layout("mine", {r"(?P<name>\w+)": "{name}"})])


def test_a_target_may_be_a_function():
    layout = Layout("mine", {r"conv(\d)": lambda match, layers: f"features.{layers.index(match.group())}"})
    assert layout.modules(["conv3", "conv1"]) == {"conv3": "features.0", "conv1": "features.1"}


@pytest.mark.parametrize("key", ["akamaster:resnet20:32", "kuangliu:preact_resnet18:32", "xternalz:wrn_16_8:32"])
def test_authors_checkpoints_load(key, tmp_path):
    """What users hold who trained on CIFAR with the authors' code; the logits are compared in test_parity."""
    name, fields = reference.NETWORKS[key]
    file = reference.checkpoint(key, tmp_path / "cifar.safetensors")
    classes = len(reference.LOGITS[key])
    model = kresnet.create_model(name, input_shape=(32, 32, 3), classes=classes, weights=file, **BARE, **fields)
    assert model.kresnet_config["weights"] == str(file)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "changes"),
    [("timm:resnet50d:224", {"stem": "deep"}), ("torchvision:resnet50:224", {"shortcut": "avg_conv"})],
)
def test_the_same_names_of_another_function_are_refused(key, changes, tmp_path):
    """D's averages have no weights: its names fit a network without them, which computes something else."""
    file = reference.checkpoint(key, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"not this network's; missing: .*downsample"):
        kresnet.ResNet50(input_shape=(64, 64, 3), weights=file, **changes)


def test_nothing_is_left_over_silently(tmp_path):
    file = reference.checkpoint("akamaster:resnet20:32", tmp_path / "x.safetensors")
    save_file(load_file(file) | {"aux.weight": np.zeros(3, "float32")}, file)
    with pytest.raises(ValueError, match=r"left over: 'aux\.weight'\. Received: weights="):
        kresnet.ResNet20(weights=file)
