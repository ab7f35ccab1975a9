"""Weights from files: what fits is loaded whole, and what does not is refused by name."""

import re
import zipfile

import h5py
import keras
import ml_dtypes
import numpy as np
import pytest
import reference
from safetensors.numpy import load_file, save_file

import kresnet

SMALL = {"input_shape": (64, 64, 3)}
X = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype("float32")


def weights_of(model):
    return [keras.ops.convert_to_numpy(weight) for weight in model.weights]


@pytest.fixture(scope="module")
def resnet18():
    keras.utils.set_random_seed(0)
    return kresnet.ResNet18(**SMALL)


@pytest.fixture(scope="module")
def torch_file(tmp_path_factory):
    return reference.checkpoint("torchvision:resnet18:224", tmp_path_factory.mktemp("torch") / "resnet18.safetensors")


@pytest.fixture
def edited(torch_file, tmp_path):
    """Returns a function that writes a copy of the checkpoint with some entries changed, or dropped where None."""

    def edit(**changes):
        entries = load_file(torch_file) | {name.replace("__", "."): value for name, value in changes.items()}
        file = tmp_path / "edited.safetensors"
        save_file({name: value for name, value in entries.items() if value is not None}, file)
        return file

    return edit


def test_every_weight_is_set_from_safetensors(torch_file):
    keras.utils.set_random_seed(1)
    first = kresnet.ResNet18(**SMALL, weights=torch_file)
    keras.utils.set_random_seed(2)
    second = kresnet.ResNet18(**SMALL, weights=str(torch_file))
    assert all(np.array_equal(a, b) for a, b in zip(weights_of(first), weights_of(second), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_keras_files(resnet18, tmp_path, suffix):
    file = tmp_path / f"model{suffix}"
    (resnet18.save_weights if suffix == ".weights.h5" else resnet18.save)(file)
    loaded = kresnet.ResNet18(**SMALL, weights=file)
    assert all(np.array_equal(a, b) for a, b in zip(weights_of(loaded), weights_of(resnet18), strict=True))
    features = kresnet.ResNet18(features=True, weights=file)(X)
    backbone = keras.Model(resnet18.input, resnet18.get_layer("stage5_block2_out").output)
    np.testing.assert_array_equal(features["stage5"], backbone(X))


@pytest.mark.slow
def test_keras_file_of_a_trained_model(tmp_path):
    """Its optimizer, metrics and dropout leave more in the file than the layers' weights."""
    small = {"depths": (1, 1, 1), "input_shape": (16, 16, 3)}
    network = kresnet.ResNet20(dropout_rate=0.2, drop_path_rate=0.1, **small)
    network.compile(keras.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy", metrics=["accuracy"])
    network.fit(np.zeros((8, 16, 16, 3)), np.arange(8), verbose=0)
    network.save(tmp_path / "trained.keras")
    loaded = kresnet.ResNet20(**small, weights=tmp_path / "trained.keras")
    np.testing.assert_array_equal(loaded(X[:, :16, :16]), network(X[:, :16, :16]))


def test_without_top_the_classifier_is_left_out(torch_file):
    whole = kresnet.ResNet18(**SMALL, weights=torch_file)
    pooled = kresnet.ResNet18(include_top=False, pooling="avg", weights=torch_file)
    np.testing.assert_allclose(pooled(X), keras.Model(whole.input, whole.get_layer("head_pool").output)(X), rtol=1e-5)


def test_half_precision_checkpoints(torch_file, tmp_path):
    for dtype in (np.float16, ml_dtypes.bfloat16):
        entries = {name: value.astype(dtype) for name, value in load_file(torch_file).items()}
        save_file(entries, tmp_path / "half.safetensors")
        model = kresnet.ResNet18(**SMALL, weights=tmp_path / "half.safetensors")
        kernel = entries["conv1.weight"].transpose(2, 3, 1, 0).astype("float32")
        np.testing.assert_array_equal(model.get_layer("stem_conv").get_weights()[0], kernel)


def test_missing_left_over_and_misshapen_entries_are_named(edited):
    file = edited(
        bn1__weight=None,
        layer9__conv1__weight=np.zeros(3, "float32"),
        layer1__0__conv1__weight=np.zeros((64, 64, 1, 1), "float32"),
    )
    message = (
        "The weights are not this network's; missing: 'bn1.weight'; left over: 'layer9.conv1.weight'; misshapen: "
        f"'layer1.0.conv1.weight' is (64, 64, 1, 1) and not (64, 64, 3, 3). Received: weights='{file}'"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        kresnet.ResNet18(**SMALL, weights=file)


def test_on_an_error_nothing_is_changed(resnet18, edited):
    before = weights_of(resnet18)
    bad = edited(fc__bias=np.full(1000, np.nan, "float32"))
    with pytest.raises(ValueError, match=r"NaN or infinity, in 'fc.bias'\. Received: weights="):
        kresnet.weights.load(resnet18, bad, kresnet.get_builder("resnet18").layouts)
    assert all(np.array_equal(a, b) for a, b in zip(before, weights_of(resnet18), strict=True))


def test_weights_of_other_classes(torch_file, resnet18, tmp_path):
    resnet18.save(tmp_path / "m.keras")
    for file in (torch_file, tmp_path / "m.keras"):
        with pytest.raises(ValueError, match=r"are of other classes \(.*1000.* `include_top=False`"):
            kresnet.ResNet18(**SMALL, classes=5, weights=file)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ResNet34", "ResNet50", "ResNet18V2", "SEResNet18", "ResNet18D", "PlainNet18"])
def test_weights_of_another_network(name, torch_file, resnet18, tmp_path):
    resnet18.save_weights(tmp_path / "m.weights.h5")
    for file in (torch_file, tmp_path / "m.weights.h5"):
        with pytest.raises(ValueError, match=r"not this network's; .*(missing|left over|misshapen): .* Received: w"):
            getattr(kresnet, name)(**SMALL, weights=file)


@pytest.mark.slow
def test_damaged_files(torch_file, resnet18, tmp_path):
    for suffix in (".safetensors", ".weights.h5", ".keras"):
        whole = tmp_path / f"whole{suffix}"
        if suffix == ".safetensors":
            whole = torch_file
        else:
            (resnet18.save_weights if suffix == ".weights.h5" else resnet18.save)(whole)
        content = whole.read_bytes()
        for cut in (0, 5, len(content) // 2, len(content) - 3):
            file = tmp_path / f"cut{suffix}"
            file.write_bytes(content[:cut])
            with pytest.raises(ValueError, match=r"The weights file is damaged .* Received: weights="):
                kresnet.weights.load(resnet18, file, kresnet.get_builder("resnet18").layouts)


def test_a_keras_file_that_points_elsewhere(resnet18, tmp_path):
    """A link to another file, or data kept in one, is not followed: its entry counts as missing."""
    resnet18.save_weights(tmp_path / "outside.weights.h5")
    resnet18.save_weights(tmp_path / "link.weights.h5")
    with h5py.File(tmp_path / "link.weights.h5", "a") as file:
        group = file["layers/dense/vars"]
        del group["0"], group["1"]
        group["0"] = h5py.ExternalLink(str(tmp_path / "outside.weights.h5"), "layers/dense/vars/0")
        group.create_dataset("1", (1000,), "float32", external=[(str(tmp_path / "raw"), 0, 4000)])
    (tmp_path / "raw").write_bytes(bytes(4000))
    with pytest.raises(ValueError, match="of a network without one"):
        kresnet.ResNet18(**SMALL, weights=tmp_path / "link.weights.h5")
    with h5py.File(tmp_path / "old.h5", "w") as file:  # as before Keras 3
        file.attrs["layer_names"] = ["conv1"]
        file.create_group("conv1").attrs["weight_names"] = ["conv1/kernel:0"]
        file["conv1"]["conv1"] = h5py.ExternalLink(str(tmp_path / "outside.weights.h5"), "layers/dense/vars")
    with pytest.raises(ValueError, match=r"damaged .*conv1/kernel:0 is not in it"):
        kresnet.ResNet18(**SMALL, weights=tmp_path / "old.h5")


def test_an_old_keras_file_whose_layers_are_numbers(tmp_path):
    with h5py.File(tmp_path / "old.h5", "w") as file:
        file.attrs["layer_names"] = [1, 2]
    with pytest.raises(ValueError, match="damaged"):
        kresnet.ResNet18(**SMALL, weights=tmp_path / "old.h5")


def test_a_keras_file_without_weights(tmp_path):
    with zipfile.ZipFile(tmp_path / "empty.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(ValueError, match="damaged"):
        kresnet.ResNet18(**SMALL, weights=tmp_path / "empty.keras")


@pytest.mark.slow
def test_a_network_that_no_layout_has(torch_file):
    with pytest.raises(ValueError, match=r"layers that the known layouts have not\. Received: layouts=.ResNet, "):
        kresnet.ResNet(preactivation=True, se_reduction=16, **SMALL, weights=torch_file)


@pytest.mark.parametrize("weights", ["a2", "model.onnx", "absent.safetensors", "", 3])
def test_no_weights_file(weights):
    with pytest.raises(ValueError, match=re.escape(f"Received: weights={weights!r}")):
        kresnet.ResNet18(**SMALL, weights=weights)
