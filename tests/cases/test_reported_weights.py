"""Public reports on weights: of other channels and classes, behind layers of one's own, under prefixed names."""

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import kresnet

L = keras.layers
SHORT = {"depths": (1, 1, 1, 1), "widths": (8, 8, 8, 8)}


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    """A short ResNet-18's weights under timm's names, as PyTorch holds them."""
    keras.utils.set_random_seed(0)
    model = kresnet.ResNet18(**SHORT, input_shape=(64, 64, 3), classes=7)
    kresnet.save_weights(model, tmp_path_factory.mktemp("timm") / "x.safetensors", layout="timm")
    return load_file(tmp_path_factory.getbasetemp() / "timm0" / "x.safetensors")


@pytest.fixture
def file(arrays, tmp_path):
    """A file that says nothing of itself."""
    save_file(arrays, tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def build(file, **arguments):
    return kresnet.ResNet18(**SHORT, weights=file, **arguments)


def first_kernel(arrays):
    return arrays["conv1.weight"].transpose(2, 3, 1, 0)


@pytest.mark.parametrize("mine", [L.Conv2D(3, 3, padding="same"), L.BatchNormalization()], ids=["convolution", "norm"])
def test_weights_behind_layers_of_one_s_own(mine, arrays, file, tmp_path):
    """keras#8998: they could not be loaded where `input_tensor` has layers before it."""
    image = keras.Input((64, 64, 1 if isinstance(mine, L.Conv2D) else 3))
    tensor = mine(image)
    before = mine.get_weights()
    model = build(file, include_top=False, input_tensor=tensor)
    np.testing.assert_array_equal(model.get_layer("stem_conv").kernel, first_kernel(arrays))
    kresnet.ResNet18(**SHORT, input_shape=(64, 64, 3)).save_weights(tmp_path / "w.weights.h5")
    build(tmp_path / "w.weights.h5", include_top=False, input_tensor=tensor)
    for now, then in zip(mine.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_weights_behind_augmentation(arrays, file):
    """keras#8998: layers without weights."""
    tensor = L.Resizing(64, 64)(L.RandomFlip()(keras.Input((80, 80, 3))))
    model = build(file, classes=7, input_tensor=tensor)
    np.testing.assert_array_equal(model.get_layer("stem_conv").kernel, first_kernel(arrays))


@pytest.mark.parametrize("channels", [1, 4])
def test_rgb_weights_for_other_channels(channels, arrays, file):
    """flyyufelix/cnn_finetune#44, keras#9739: a grey image is taken as one of three equal channels."""
    whole, kernel = first_kernel(arrays), build(file, classes=7, input_shape=(64, 64, channels)).get_layer("stem_conv")
    more = np.concatenate([whole, whole[:, :, :1]], 2) * 3 / 4
    expected = whole.sum(2, keepdims=True) if channels == 1 else more
    np.testing.assert_allclose(kernel.kernel, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_training_on_grey_images_from_rgb_weights(file, tmp_path):
    """flyyufelix/cnn_finetune#44, keras#9739."""
    history = kresnet.train(
        "resnet18", "digits", "fine-tune", weights=file, model_fields=SHORT, out=tmp_path / "run", epochs=0.05,
        image_size=32, batch_size=256, verbose=False, with_report=False,
    )  # fmt: skip
    assert np.isfinite(history.history["loss"]).all()


@pytest.mark.parametrize("kind", ["of other classes", "of a network without one", "of Keras"])
def test_weights_without_the_classifier_that_is_wanted(kind, arrays, file, tmp_path):
    """keras#8462, #11867: refused with the cure, which works."""
    if kind == "of a network without one":
        save_file({name: array for name, array in arrays.items() if not name.startswith("fc.")}, file)
    elif kind == "of Keras":
        file = tmp_path / "k.weights.h5"
        kresnet.ResNet18(**SHORT, input_shape=(64, 64, 3)).save_weights(file)
    with pytest.raises(ValueError, match=r"`include_top=False` to leave the classifier out.* Received: weights="):
        build(file, classes=5, input_shape=(64, 64, 3))
    body = build(file, include_top=False, input_shape=(64, 64, 3))
    if kind != "of Keras":
        np.testing.assert_array_equal(body.get_layer("stem_conv").kernel, first_kernel(arrays))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "backbone.", "module._orig_mod."])
def test_prefixed_names(prefix, arrays, tmp_path, capsys):
    """pytorch/pytorch#3805: of DataParallel, of torch.compile, or of both."""
    save_file({prefix + name: array for name, array in arrays.items()}, tmp_path / "w.safetensors")
    model = build(tmp_path / "w.safetensors", classes=7, input_shape=(64, 64, 3))
    np.testing.assert_array_equal(model.get_layer("stem_conv").kernel, first_kernel(arrays))
    assert f"begin with the prefix {prefix!r}" in capsys.readouterr().err


def test_an_unknown_prefix_is_named(arrays, tmp_path):
    """pytorch/pytorch#3805: the first names that are left over show it."""
    save_file({f"student.{name}": array for name, array in arrays.items()}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"left over: 'student\.[a-z0-9.]+'.* Received: weights="):
        build(tmp_path / "w.safetensors", classes=7, input_shape=(64, 64, 3))
