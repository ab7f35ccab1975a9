"""VGG: its dense head, and what a family with a head of its own does with the builders' arguments."""

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import kresnet

SMALL = {"widths": (4, 8, 8, 8, 8), "dense_widths": (16, 16), "classes": 3}
RNG = np.random.default_rng(0)


def test_convolutions_are_the_paper_s():
    """Weight layers in configurations A, B, D and E: table 1. What parameters they have, `test_networks` counts."""
    lengths = {"vgg11": 11, "vgg11_lrn": 11, "vgg13": 13, "vgg16_c": 16, "vgg16_bn": 16, "vgg19_bn": 19}
    for key, layers in lengths.items():
        model = kresnet.create_model(key, **SMALL)
        kinds = keras.layers.Conv2D, keras.layers.Dense
        assert sum(isinstance(layer, kinds) for layer in model.layers) == layers


def test_configurations_a_lrn_and_c_are_table_1_s(no_weights):
    names = [layer.name for layer in kresnet.VGG11_LRN().layers]
    place = names.index("stage1_lrn")
    assert names[place - 1 : place + 2] == ["stage1_act1", "stage1_lrn", "stage1_pool"]
    assert sum(name.endswith("lrn") for name in names) == 1
    convs = [layer for layer in kresnet.VGG16_C().layers if isinstance(layer, keras.layers.Conv2D)]
    ones = [layer.name for layer in convs if layer.kernel_size == (1, 1)]
    assert ones == ["stage3_conv3", "stage4_conv3", "stage5_conv3"]
    assert [layer.filters for layer in convs] == [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6


def test_weights_of_a_network_without_lrn_are_not_its(tmp_path):
    file = tmp_path / "vgg11.safetensors"
    kresnet.save_weights(kresnet.VGG11(input_shape=(32, 32, 3), **SMALL), file, layout="torchvision")
    with pytest.raises(ValueError, match="differs in `local_response_norm`"):
        kresnet.VGG11_LRN(input_shape=(32, 32, 3), weights=file, **SMALL)
    save_file(load_file(file), file)  # without what the file said of itself
    with pytest.raises(ValueError, match="No PyTorch checkpoint can be of this network"):
        kresnet.VGG11_LRN(input_shape=(32, 32, 3), weights=file, **SMALL)


@pytest.mark.parametrize("size", [(224, 224), (448, 224), (64, 96), (250, 300)])
def test_any_size_is_averaged_to_7x7_as_torchvision_does(size):
    model = kresnet.VGG11(input_shape=(*size, 3), **SMALL)
    body = keras.Model(model.input, model.get_layer("stage5_pool").output)
    pooled = keras.Model(model.input, model.get_layer("head_flatten").output)
    x = RNG.integers(0, 256, (1, *size, 3)).astype("float32")
    maps = keras.ops.convert_to_numpy(body(x))
    height, width = maps.shape[1:3]

    def window(i, side):
        return slice(i * side // 7, -(-(i + 1) * side // 7))

    expected = [[maps[:, window(i, height), window(j, width)].mean((1, 2)) for j in range(7)] for i in range(7)]
    expected = np.moveaxis(expected, 2, 0).reshape(1, -1)
    np.testing.assert_allclose(pooled(x), expected, rtol=1e-5, atol=1e-6)


def test_dense_layers_need_a_size():
    with pytest.raises(ValueError, match=r"a whole `input_shape`\. Received: feature_map=\(None, None, 8\)"):
        kresnet.VGG11(input_shape=(None, None, 3), **SMALL)
    assert kresnet.VGG11(include_top=False, **SMALL).output_shape == (None, None, None, 8)


def test_dropout_after_each_dense_layer():
    model = kresnet.VGG16(input_shape=(64, 64, 3), **SMALL)
    rates = {layer.name: layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)}
    assert rates == {"head_dropout1": 0.5, "head_dropout2": 0.5}
    assert not [
        layer
        for layer in kresnet.VGG16(head_dropout_rate=0.0, input_shape=(64, 64, 3), **SMALL).layers
        if isinstance(layer, keras.layers.Dropout)
    ]


def test_features_are_what_each_pooling_takes():
    model = kresnet.VGG16(features=True, **SMALL)
    assert model.feature_strides == {"stage2": 2, "stage3": 4, "stage4": 8, "stage5": 16}
    maps = model(np.zeros((1, 64, 64, 3)))
    assert {name: m.shape[1] for name, m in maps.items()} == {"stage2": 32, "stage3": 16, "stage4": 8, "stage5": 4}


def test_images_of_which_one_pixel_is_left_train():
    model = kresnet.VGG11(input_shape=(32, 32, 3), **SMALL)
    model.compile("sgd", "sparse_categorical_crossentropy")
    assert np.isfinite(model.train_on_batch(np.ones((2, 32, 32, 3)), np.zeros(2)))


def test_timm_s_files_without_the_top_leave_all_of_the_head(tmp_path):
    file = tmp_path / "vgg11.safetensors"
    kresnet.save_weights(kresnet.VGG11(**SMALL), file, layout="timm")
    kresnet.VGG11(include_top=False, weights=file, **SMALL)


def test_weights_without_the_top_leave_all_of_the_head(tmp_path):
    file = tmp_path / "vgg11.safetensors"
    kresnet.save_weights(kresnet.VGG11(**SMALL), file, layout="torchvision")
    body = kresnet.VGG11(include_top=False, weights=file, **SMALL)
    np.testing.assert_array_equal(
        body.get_layer("stage1_conv1").kernel, load_file(file)["features.0.weight"].transpose(2, 3, 1, 0)
    )
    with pytest.raises(ValueError, match=r"of other classes \('classifier\.6\.weight' is \(3, 16\) and not \(5, 16\)"):
        kresnet.VGG11(weights=file, **SMALL | {"classes": 5})


def test_without_dense_layers_the_classifier_takes_the_flattened_map(tmp_path):
    """(C, H, W) in the file: the logits are those of the arithmetic in that order."""
    small = {"depths": (1,), "widths": (8,), "dense_widths": (), "input_shape": (14, 14, 3), "classes": 3}
    shapes = {"features.0.weight": (8, 3, 3, 3), "features.0.bias": (8,)}
    shapes |= {"classifier.0.weight": (3, 8 * 49), "classifier.0.bias": (3,)}
    state = {name: RNG.standard_normal(shape).astype("float32") for name, shape in shapes.items()}
    save_file(state, tmp_path / "x.safetensors")
    bare = {"classifier_activation": None, "include_preprocessing": False}
    model = kresnet.VGG11(weights=tmp_path / "x.safetensors", **small, **bare)
    x = RNG.standard_normal((1, 14, 14, 3)).astype("float32")
    maps = keras.ops.convert_to_numpy(keras.Model(model.input, model.get_layer("stage1_pool").output)(x))
    expected = state["classifier.0.weight"] @ maps[0].transpose(2, 0, 1).reshape(-1) + state["classifier.0.bias"]
    np.testing.assert_allclose(model(x)[0], expected, rtol=1e-4)


def test_other_dense_widths_are_not_called_other_classes(tmp_path):
    kresnet.VGG11(input_shape=(64, 64, 3), **SMALL).save_weights(tmp_path / "vgg.weights.h5")
    with pytest.raises(ValueError, match=r"not this network's; misshapen: 'head_dense2/0' is"):
        kresnet.VGG11(input_shape=(64, 64, 3), weights=tmp_path / "vgg.weights.h5", **SMALL | {"dense_widths": (16, 8)})


def test_keras_files_without_the_top(tmp_path):
    whole = kresnet.VGG11(input_shape=(64, 64, 3), **SMALL)
    whole.save_weights(tmp_path / "vgg.weights.h5")
    body = kresnet.VGG11(include_top=False, weights=tmp_path / "vgg.weights.h5", **SMALL)
    np.testing.assert_array_equal(body.get_layer("stage5_conv2").kernel, whole.get_layer("stage5_conv2").kernel)


def test_scaling_leaves_the_dense_layers():
    model = kresnet.VGG11(phi=1, **SMALL)
    changes = model.kresnet_config["changes"]
    assert changes["depths"] == [2, 2, 3, 3, 3]
    assert model.get_layer("head_dense1").units == 16
    assert model.input_shape == (None, 256, 256, 3)


@pytest.mark.parametrize(
    ("received", "arguments"),
    [
        ("depths=(1, 1), widths=(64, 128, 256, 512, 512)", {"depths": (1, 1)}),
        ("dense_widths=(64, 0)", {"dense_widths": (64, 0)}),
        ("batch_norm=1", {"batch_norm": 1}),
        ("local_response_norm=1", {"local_response_norm": 1}),
        ("last_kernel=5", {"last_kernel": 5}),
        ("activation='rleu'", {"activation": "rleu"}),
        ("input_shape=(31, 32, 3)", {"input_shape": (31, 32, 3)}),
    ],
)
def test_nonsense_is_refused_by_name(received, arguments):
    with pytest.raises(ValueError, match="Received: ") as error:
        kresnet.VGG11(**arguments)
    assert str(error.value).endswith(f"Received: {received}")
