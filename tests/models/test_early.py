"""The networks before VGG: every map's size and every layer's parameters, as the papers print them."""

import keras
import numpy as np
import pytest
from networks import without_weights
from safetensors.numpy import load_file, save_file

import kresnet
from kresnet.models.early import ONE_TOWER, TABLE_I, Conv

# Maps of each convolution and pooling, and parameters of each layer that has some.
LENET5_1998 = {  # figure 2 and section II.B
    **{"stage1_conv1": (28, 6, 156), "stage1_pool": (14, 6, 0), "stage1_pool_scale": (14, 6, 12)},
    **{"stage2_conv1": (10, 16, 1516), "stage2_pool": (5, 16, 0), "stage2_pool_scale": (5, 16, 32)},
    **{"head_dense1": (1, 120, 48_120), "head_dense2": (1, 84, 10_164), "predictions": (1, 10, 850)},
}
ALEXNET2012 = {  # section 3.5: kernels 11x11x3, 5x5x48, 3x3x256, 3x3x192, 3x3x192
    **{"stage1_conv1": (55, 96, 34_944), "stage1_norm": (55, 96, 0), "stage1_pool": (27, 96, 0)},
    **{"stage2_conv1": (27, 256, 307_456), "stage2_norm": (27, 256, 0), "stage2_pool": (13, 256, 0)},
    **{"stage3_conv1": (13, 384, 885_120), "stage3_conv2": (13, 384, 663_936), "stage3_conv3": (13, 256, 442_624)},
    **{"stage3_pool": (6, 256, 0), "head_dense1": (1, 4096, 37_752_832), "head_dense2": (1, 4096, 16_781_312)},
    "predictions": (1, 1000, 4_097_000),
}
ZFNET = {  # figure 3
    **{"stage1_conv1": (110, 96, 14_208), "stage1_pool": (55, 96, 0), "stage1_norm": (55, 96, 0)},
    **{"stage2_conv1": (26, 256, 614_656), "stage2_pool": (13, 256, 0), "stage2_norm": (13, 256, 0)},
    **{"stage3_conv1": (13, 384, 885_120), "stage3_conv2": (13, 384, 1_327_488), "stage3_conv3": (13, 256, 884_992)},
    **{"stage3_pool": (6, 256, 0), "head_dense1": (1, 4096, 37_752_832), "head_dense2": (1, 4096, 16_781_312)},
    "predictions": (1, 1000, 4_097_000),
}
NIN = {  # the authors' definition for Caffe
    **{"stage1_conv1": (54, 96, 34_944), "stage1_conv2": (54, 96, 9312), "stage1_conv3": (54, 96, 9312)},
    **{"stage1_pool": (27, 96, 0), "stage2_conv1": (27, 256, 614_656), "stage2_conv2": (27, 256, 65_792)},
    **{"stage2_conv3": (27, 256, 65_792), "stage2_pool": (13, 256, 0), "stage3_conv1": (13, 384, 885_120)},
    **{"stage3_conv2": (13, 384, 147_840), "stage3_conv3": (13, 384, 147_840), "stage3_pool": (6, 384, 0)},
    **{"stage4_conv1": (6, 1024, 3_539_968), "stage4_conv2": (6, 1024, 1_049_600), "predictions": (6, 1000, 1_025_000)},
}
NIN_CIFAR = {
    **{"stage1_conv1": (32, 192, 14_592), "stage1_conv2": (32, 160, 30_880), "stage1_conv3": (32, 96, 15_456)},
    **{"stage1_pool": (16, 96, 0), "stage2_conv1": (16, 192, 460_992), "stage2_conv2": (16, 192, 37_056)},
    **{"stage2_conv3": (16, 192, 37_056), "stage2_pool": (8, 192, 0), "stage3_conv1": (8, 192, 331_968)},
    **{"stage3_conv2": (8, 192, 37_056), "predictions": (8, 10, 1930)},
}
TABLES = {"lenet5_1998": LENET5_1998, "alexnet2012": ALEXNET2012, "zfnet": ZFNET, "nin": NIN, "nin_cifar": NIN_CIFAR}
FEW = tuple(row._replace(c=8) for row in ONE_TOWER)
SMALL = {"rows": FEW, "dense_widths": (16, 16), "classes": 3}
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("key", TABLES)
def test_maps_and_parameters_are_the_paper_s(key):
    with without_weights():
        rows = kresnet.cost(kresnet.create_model(key)).rows
    named = [row for row in rows if row.name in TABLES[key]]
    found = {
        row.name: (row.output_shape[0] if len(row.output_shape) == 3 else 1, row.output_shape[-1]) for row in named
    }
    assert {name: (*size, row.params) for (name, size), row in zip(found.items(), named, strict=True)} == TABLES[key]
    assert list(found) == list(TABLES[key])  # in that order
    assert sum(row.params for row in rows) == sum(params for *_, params in TABLES[key].values())


def test_one_tower_s_maps(no_weights):
    names = ("conv", "pool")
    rows = [row for row in kresnet.cost(kresnet.AlexNet()).rows if any(name in row.name for name in names)]
    assert [row.output_shape[0] for row in rows if "pad" not in row.name] == [55, 27, 27, 13, 13, 13, 13, 6]


def test_table_i_of_lenet():
    """Of the maps that a channel takes: six of three neighbours, six of four, three of two pairs, and one of all."""
    assert [len(row) for row in TABLE_I] == [3] * 6 + [4] * 9 + [6]
    assert len({*TABLE_I}) == 16
    assert sum(row.count(0) for row in TABLE_I) == sum(map(len, TABLE_I)) / 6 == 10  # each map is taken ten times
    model = kresnet.LeNet5_1998()
    s2, c3 = model.get_layer("stage1_pool_act").output, model.get_layer("stage2_conv1")
    part = keras.Model(model.input, s2)
    maps = np.array(part(RNG.integers(0, 256, (1, 32, 32, 1))))
    before = np.array(c3(maps))
    maps[..., 4] += 1
    moved = np.abs(np.array(c3(maps)) - before).max((0, 1, 2)) > 1e-6
    assert np.flatnonzero(moved).tolist() == [2, 3, 4, 7, 8, 9, 10, 12, 13, 15]  # column of the table's row 4


def test_lenet_1998_computes_what_the_paper_says():
    """C1 and S2 by hand: section II.B, appendix A."""
    model = kresnet.LeNet5_1998()
    names = ("stage1_act1", "stage1_pool_act")
    c1, s2 = keras.Model(model.input, [model.get_layer(name).output for name in names])(
        np.tile(np.arange(0, 256, 8, "float32"), (1, 32, 1))[..., None]
    )
    kernel, bias = (np.asarray(weight) for weight in model.get_layer("stage1_conv1").weights)
    pixels = -0.1 + 1.275 * np.arange(0, 256, 8)[:5] / 255  # paper is -0.1, ink 1.175
    total = (kernel[:, :, 0] * pixels[:, None]).sum((0, 1)) + bias
    np.testing.assert_allclose(c1[0, 3, 0], 1.7159 * np.tanh(2 / 3 * total), atol=1e-5)
    coefficient, offset = np.full(6, 0.2, "float32"), np.arange(6, dtype="float32")
    model.get_layer("stage1_pool_scale").set_weights([4 * coefficient.reshape(1, 1, 6, 1), offset])
    s2 = keras.Model(model.input, model.get_layer(names[1]).output)(np.zeros((1, 32, 32, 1)))
    c1 = keras.Model(model.input, model.get_layer(names[0]).output)(np.zeros((1, 32, 32, 1)))
    four = np.asarray(c1)[0, :2, :2].sum((0, 1))
    np.testing.assert_allclose(s2[0, 0, 0], 1.7159 * np.tanh(2 / 3 * (coefficient * four + offset)), atol=1e-5)


def test_orders_of_norm_and_pooling(no_weights):
    """AlexNet normalizes before it pools (section 3.5), ZFNet after (figure 3); dropout follows the dense layers."""
    for builder, order in ((kresnet.AlexNet2012, ("act1", "norm", "pool")), (kresnet.ZFNet, ("act1", "pool", "norm"))):
        names = [layer.name for layer in builder().layers]
        places = [names.index(f"stage1_{name}") for name in order]
        assert places == sorted(places)
        assert names.index("head_act1") < names.index("head_dropout1") < names.index("head_dense2")
    names = [layer.name for layer in kresnet.AlexNet().layers]
    assert names.index("head_dropout1") < names.index("head_dense1")  # torchvision's one tower


def test_class_maps_are_averaged():
    """Network in Network, section 3.2: no dense layer; the maps' means go into the softmax."""
    rows = (Conv(8, 3, then=("max3", "dropout")), Conv(8, 1))
    model = kresnet.NiN_CIFAR(rows=rows, input_shape=(12, 12, 3), classes=4, classifier_activation=None)
    assert not any(isinstance(layer, keras.layers.Dense) for layer in model.layers)
    x = RNG.integers(0, 256, (2, 12, 12, 3))
    before = keras.Model(model.input, model.get_layer("stage2_act1").output)(x)
    kernel, bias = (np.asarray(weight) for weight in model.get_layer("predictions").weights)
    maps = np.maximum(np.asarray(before) @ kernel[0, 0] + bias, 0)
    np.testing.assert_allclose(model(x), maps.mean((1, 2)), rtol=1e-4, atol=1e-6)
    rates = [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert rates == [0.5]


def test_a_padded_average_leaves_out_what_is_not_there():
    """As Caffe's: at the edge over the pixels that a window has."""
    model = kresnet.NiN_CIFAR(rows=(Conv(2, 1, then=("average3",)),), input_shape=(6, 6, 3), include_top=False)
    x = RNG.integers(0, 256, (1, 6, 6, 3))
    maps = np.asarray(keras.Model(model.input, model.get_layer("stage1_act1").output)(x))
    expected = [[maps[:, i : i + 3, j : j + 3].mean((1, 2)) for j in (0, 2, 4)] for i in (0, 2, 4)]
    np.testing.assert_allclose(model(x), np.moveaxis(expected, 2, 0), rtol=1e-5)


@pytest.mark.parametrize(
    ("key", "smallest"), [("alexnet", 63), ("alexnet2012", 39), ("zfnet", 47), ("lenet5", 16), ("nin_cifar", 2)]
)
def test_small_images_are_refused(key, smallest):
    builder = kresnet.get_builder(key)
    assert builder.spec.smallest == smallest
    channels, stride = len(builder.spec.mean), builder.spec.stride
    rows = tuple(row if row.maps else row._replace(c=2) for row in builder.spec.rows)
    size = max(smallest, stride)
    body = builder(rows=rows, include_top=False, input_shape=(size, size, channels))
    assert min(body.output_shape[1:3]) >= 1
    if smallest > stride:
        with pytest.raises(
            ValueError, match=rf"at least \({smallest}, {smallest}, channels\)\. Received: input_shape="
        ):
            builder(rows=rows, include_top=False, input_shape=(size - 1, size, channels))


def test_features():
    maps = kresnet.AlexNet(features=("stem", "stage3"), **SMALL)
    assert maps.feature_strides == {"stem": 4, "stage3": 16}
    maps = kresnet.NiN(features=True, rows=tuple(row._replace(c=4) for row in kresnet.NiN.spec.rows))
    assert maps.feature_strides == {"stage2": 8, "stage3": 16, "stage4": 32}
    shapes = {name: found.shape[1:3] for name, found in maps(np.zeros((1, 224, 224, 3))).items()}
    assert shapes == {"stage2": (27, 27), "stage3": (13, 13), "stage4": (6, 6)}
    assert kresnet.LeNet5(features=True).feature_strides == {"stage2": 2}


def test_scaling_is_of_widths_and_leaves_tables_of_connections():
    wide = kresnet.AlexNet2012.spec.scaled(1.5, 1.5)
    assert [row.c for row in wide.rows] == [144, 384, 576, 576, 384]
    assert [row.g for row in wide.rows] == [1, 2, 1, 2, 2]
    lenet = kresnet.LeNet5_1998.spec
    assert lenet.scaled(2.0, 1.0) is lenet
    assert [(row.c, row.maps) for row in lenet.scaled(1.0, 2.0).rows] == [(16, ()), (32, ())]


def test_weights_go_out_and_come_back(tmp_path):
    model = kresnet.AlexNet(input_shape=(64, 64, 3), **SMALL)
    kresnet.save_weights(model, tmp_path / "x.safetensors", layout="torchvision")
    kernel = load_file(tmp_path / "x.safetensors")["classifier.1.weight"]
    ours = np.asarray(model.get_layer("head_dense1").kernel)
    np.testing.assert_array_equal(kernel.reshape(16, 8, 6, 6).transpose(2, 3, 1, 0).reshape(-1, 16), ours)
    again = kresnet.AlexNet(input_shape=(64, 64, 3), weights=tmp_path / "x.safetensors", **SMALL)
    for one, other in zip(again.weights, model.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_network_that_pytorch_never_had_has_keras_s_files_alone(tmp_path):
    model = kresnet.LeNet5_1998()
    model.save_weights(tmp_path / "x.weights.h5")
    again = kresnet.LeNet5_1998(weights=tmp_path / "x.weights.h5")
    for one, other in zip(again.weights, model.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="layout"):
        kresnet.save_weights(model, tmp_path / "x.safetensors", layout="torchvision")
    kresnet.save_weights(kresnet.AlexNet(input_shape=(64, 64, 3), **SMALL), tmp_path / "a.safetensors", "torchvision")
    with pytest.raises(ValueError, match="another network's, which differs in `rows`"):
        kresnet.LeNet5(weights=tmp_path / "a.safetensors")
    save_file({"conv1.weight": np.zeros((6, 1, 5, 5), "float32")}, tmp_path / "b.safetensors")
    with pytest.raises(ValueError, match="No PyTorch checkpoint can be of this network"):
        kresnet.LeNet5(weights=tmp_path / "b.safetensors")


@pytest.mark.parametrize(
    ("received", "arguments"),
    [
        ("rows=()", {"rows": ()}),
        ("rows=((1,),)", {"rows": ((1,),)}),
        ("head='rbf'", {"head": "rbf"}),
        ("head_size=0", {"head_size": 0}),
        ("activation='rleu'", {"activation": "rleu"}),
        ("ceil_pool=1", {"ceil_pool": 1}),
        ("dropout_rate=1", {"dropout_rate": 1}),
        ("rows='max'", {"rows": (Conv(8, 3, then=("max",)),)}),
        (f"row={Conv(8, 4)}", {"rows": (Conv(8, 4),)}),
        (f"row={Conv(8, 3, g=2)}", {"rows": (Conv(8, 3, g=2),)}),
        (f"row={Conv(9, 3, g=2)}", {"rows": (Conv(8, 3), Conv(9, 3, g=2))}),
        (f"row={Conv(8, 3, p=-1)}", {"rows": (Conv(8, 3, p=-1),)}),
        (f"row={Conv(8, 3, then=('max2', 'max3'))}", {"rows": (Conv(8, 3, then=("max2", "max3")),)}),
        (f"row={Conv(2, 3, maps=((0,), (8,)))}", {"rows": (Conv(8, 3), Conv(2, 3, maps=((0,), (8,))))}),
    ],
)
def test_nonsense_is_refused_by_name(received, arguments):
    with pytest.raises(ValueError, match="Received: ") as error:
        kresnet.AlexNet(**arguments)
    assert str(error.value).endswith(f"Received: {received}")
