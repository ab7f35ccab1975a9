"""MobileNets and EfficientNets: what their papers and their users' other package say."""

import dataclasses
import re

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import shallow

import kresnet
from kresnet.inference.tflite_file import TFLiteFile
from kresnet.models.mobile.engine import Row
from kresnet.models.scaling import make_divisible

X = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3)).astype("float32")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ours", "theirs", "pixels"),
    [
        # keras.applications' MobileNetV2 wants pixels in [-1, 1]; its EfficientNet has its own preprocessing inside.
        (kresnet.MobileNetV2, keras.applications.MobileNetV2, X / 127.5 - 1),
        (kresnet.EfficientNetB0, keras.applications.EfficientNetB0, None),
    ],
)
def test_keras_applications_weights_move(ours, theirs, pixels):
    shape = {"input_shape": (96, 96, 3), "weights": None, "classifier_activation": None}
    keras.utils.set_random_seed(0)
    theirs, rng = theirs(**shape), np.random.default_rng(0)
    ours = ours(**shape, padding="same", epsilon=1e-3, include_preprocessing=pixels is None)
    layers = [layer for layer in ours.layers if layer.weights]
    # By its class: its name has a number where the process has made one before.
    normalization = [layer for layer in theirs.layers if isinstance(layer, keras.layers.Normalization)]
    sources = [layer for layer in theirs.layers if layer.weights and layer not in normalization]
    for layer, source in zip(layers, sources, strict=True):
        weights = source.get_weights()
        if isinstance(layer, keras.layers.BatchNormalization):  # statistics that tell a wrong epsilon
            weights = [rng.uniform(0.5, 1.5, weight.shape) for weight in weights]
        layer.set_weights(weights)
        source.set_weights(weights)
    if pixels is None:  # (x / 255 - mean) / std, in variables of a layer of theirs
        (layer,) = normalization
        layer.mean = np.reshape((0.485, 0.456, 0.406), (1, 1, 1, 3)).astype("float32")
        layer.variance = np.square((0.229, 0.224, 0.225)).reshape(1, 1, 1, 3).astype("float32")
    inputs = X if pixels is None else pixels
    expected = keras.ops.convert_to_numpy(theirs(inputs))
    np.testing.assert_allclose(ours(inputs), expected, atol=1e-4 * expected.std())


@settings(deadline=None)
@given(st.integers(1, 2000), st.floats(0.1, 4))
def test_rounding_to_multiples_of_8_loses_at_most_a_tenth(width, multiplier):
    channels = make_divisible(width * multiplier, 8, keep=0.9)
    assert channels % 8 == 0
    assert channels >= max(8, 0.9 * width * multiplier)
    assert channels - width * multiplier <= 8


def test_the_head_never_shrinks_below_1280(no_weights):
    widths = {alpha: kresnet.MobileNetV2(alpha=alpha, include_top=False).output_shape[-1] for alpha in (0.35, 1, 1.4)}
    assert widths == {0.35: 1280, 1: 1280, 1.4: 1792}
    assert kresnet.EfficientNetB0(width_multiplier=0.5, include_top=False).output_shape[-1] == 640
    assert kresnet.EfficientNetLite4(include_top=False).output_shape[-1] == 1280


@pytest.mark.slow
@pytest.mark.parametrize(("alpha", "key"), [(0.35, "035"), (0.5, "050"), (0.75, "075"), (1.4, "140")])
def test_alpha_is_timm_s(alpha, key, no_weights):
    assert kresnet.MobileNetV2(alpha=alpha).count_params() == kresnet.create_model(f"mobilenetv2_{key}").count_params()


def test_alpha_is_checked_by_name():
    with pytest.raises(ValueError, match=r"`alpha` must be a width multiplier .* Received: alpha=0$"):
        kresnet.MobileNetV2(alpha=0)


def test_mobilenetv1_takes_any_alpha(no_weights):
    model = kresnet.MobileNetV1(alpha=0.25)
    assert model.get_layer("stem_conv").filters == 8
    assert model.count_params() < kresnet.MobileNetV1().count_params() / 8


def test_squeeze_excitation_is_a_fraction_of_the_block_s_input(no_weights):
    model = kresnet.EfficientNetB0()
    reduced = {f"stage{s}_block1_se_reduce": c for s, c in zip(range(2, 9), (8, 4, 6, 10, 20, 28, 48), strict=True)}
    assert {name: model.get_layer(name).filters for name in reduced} == reduced
    assert model.get_layer("stage3_block1_se_expand").filters == 96
    lite = {layer.name for layer in kresnet.EfficientNetLite0().layers}
    assert not any("_se_" in name for name in lite)


def test_dropout_and_drop_connect_are_the_published(no_weights):
    model = kresnet.EfficientNetB0()
    rates = {layer.name: layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)}
    assert rates.pop("head_dropout") == 0.2
    # Blocks are counted from 0 of 16, and only those with a shortcut can be dropped.
    assert rates == pytest.approx(
        {
            f"stage{s}_block{b}_drop_path": 0.2 * i / 16
            for s, b, i in ((3, 2, 2), (4, 2, 4), (5, 2, 6), (5, 3, 7), (6, 2, 9), (6, 3, 10))
        }
        | {f"stage7_block{b}_drop_path": 0.2 * (10 + b) / 16 for b in (2, 3, 4)}
    )
    heads = [kresnet.get_builder(f"efficientnet_b{i}").spec.head_dropout_rate for i in range(8)]
    assert heads == [0.2, 0.2, 0.3, 0.3, 0.4, 0.4, 0.5, 0.5]


def test_default_sizes(no_weights):
    sizes = [kresnet.get_builder(f"efficientnet_b{i}").input_size for i in range(8)]
    assert sizes == [224, 240, 260, 300, 380, 456, 528, 600]
    assert [kresnet.get_builder(f"efficientnet_lite{i}").input_size for i in range(5)] == [224, 240, 260, 280, 300]
    assert kresnet.EfficientNetB1().input_shape == (None, 240, 240, 3)


def blocks(model):
    """Returns each block's expanded channels, output channels, kernel, stride, squeezed channels and activation."""
    found, layers = [], {layer.name: layer for layer in model.layers}
    for stage, block in sorted({tuple(map(int, re.findall(r"\d+", name)[:2])) for name in layers if "_block" in name}):
        name = f"stage{stage}_block{block}"
        parts = [f"{name}_{part}" for part in ("fused_conv", "conv1", "conv2", "conv3")]
        convs = [layers[part] for part in parts if part in layers]
        (windowed,) = [one for one in convs if one.kernel_size != (1, 1) or "fused" in one.name]
        reduced, act = layers.get(f"{name}_se_reduce"), layers.get(f"{name}_act1") or layers[f"{name}_fused_act"]
        function = {"relu": "RE", "hard_silu": "HS", "silu": "SW"}[act.activation.__name__]
        widths = windowed.output.shape[-1], convs[-1].filters
        found.append((*widths, windowed.kernel_size[0], windowed.strides[0], reduced and reduced.filters, function))
    return found


# The paper's tables 1 and 2: exp size, #out, k, s, SE (a quarter of exp size, to a multiple of 8), NL.
V3_LARGE = [
    *((16, 16, 3, 1, None, "RE"), (64, 24, 3, 2, None, "RE"), (72, 24, 3, 1, None, "RE"), (72, 40, 5, 2, 24, "RE")),
    *((120, 40, 5, 1, 32, "RE"), (120, 40, 5, 1, 32, "RE"), (240, 80, 3, 2, None, "HS"), (200, 80, 3, 1, None, "HS")),
    *((184, 80, 3, 1, None, "HS"), (184, 80, 3, 1, None, "HS"), (480, 112, 3, 1, 120, "HS")),
    *((672, 112, 3, 1, 168, "HS"), (672, 160, 5, 2, 168, "HS"), (960, 160, 5, 1, 240, "HS")),
    *((960, 160, 5, 1, 240, "HS"), (960, 960, 1, 1, None, "HS")),
]
V3_SMALL = [
    *((16, 16, 3, 2, 8, "RE"), (72, 24, 3, 2, None, "RE"), (88, 24, 3, 1, None, "RE"), (96, 40, 5, 2, 24, "HS")),
    *((240, 40, 5, 1, 64, "HS"), (240, 40, 5, 1, 64, "HS"), (120, 48, 5, 1, 32, "HS"), (144, 48, 5, 1, 40, "HS")),
    *((288, 96, 5, 2, 72, "HS"), (576, 96, 5, 1, 144, "HS"), (576, 96, 5, 1, 144, "HS"), (576, 576, 1, 1, None, "HS")),
]


@pytest.mark.parametrize(
    ("build", "table", "dense"),
    [(kresnet.MobileNetV3Large, V3_LARGE, 1280), (kresnet.MobileNetV3Small, V3_SMALL, 1024)],
)
def test_mobilenetv3_is_its_paper_s_table(build, table, dense, no_weights):
    model = build()
    assert blocks(model) == table
    assert model.get_layer("head_dense1").units == dense
    assert model.get_layer("stage6_block1_se_expand").activation is keras.activations.hard_sigmoid
    body = build(features=True)
    assert list(body.feature_strides.values()) == [2, 4, 8, 16, 16, 32, 32] if dense == 1280 else [4, 8, 16, 16, 32, 32]


def test_mobilenetv3_keeps_its_ends(no_weights):
    """As in timm's mobilenetv3_small_050: what the stem and the dense layer give does not become narrower."""
    half = kresnet.MobileNetV3Small(alpha=0.5)
    assert half.count_params() == kresnet.MobileNetV3Small_050().count_params()
    assert (half.get_layer("stem_conv").filters, half.get_layer("head_dense1").units) == (16, 1024)
    assert half.get_layer("stage7_block1_fused_conv").filters == 288


def test_the_minimalistic_has_nothing_slow(no_weights):
    found = blocks(kresnet.create_model("tf_mobilenetv3_large_minimal_100"))
    assert [(row[0], row[1], row[3]) for row in found] == [(row[0], row[1], row[3]) for row in V3_LARGE]
    assert {row[2] for row in found} == {1, 3}
    assert {row[4:] for row in found} == {(None, "RE")}


def test_efficientnetv2_s_is_its_paper_s_table(no_weights):
    """Table 4: a row's operator, its stride, channels and layers; squeeze-and-excitation is of the block's input."""
    found, rows = blocks(kresnet.EfficientNetV2S(input_shape=(64, 64, 3))), []
    for fused, t, s, c, n in (
        *((True, 1, 1, 24, 2), (True, 4, 2, 48, 4), (True, 4, 2, 64, 4)),
        *((False, 4, 2, 128, 6), (False, 6, 1, 160, 9), (False, 6, 2, 256, 15)),
    ):
        for i in range(n):
            before = rows[-1][1] if rows else 24
            rows.append((before * t, c, 3, 1 if i else s, None if fused else before // 4, "SW"))
    assert found == rows


@pytest.mark.parametrize(
    ("key", "depths", "widths"),
    [
        ("b0", (1, 2, 2, 3, 5, 8), (32, 16, 32, 48, 96, 112, 192, 1280)),
        ("b1", (2, 3, 3, 4, 6, 9), (32, 16, 32, 48, 96, 112, 192, 1280)),
        ("b2", (2, 3, 3, 4, 6, 10), (32, 16, 32, 56, 104, 120, 208, 1408)),
        # Of 19.2 channels 16 remain, a sixth less: EfficientNet's rounding would make 24 of them.
        ("b3", (2, 3, 3, 5, 7, 12), (40, 16, 40, 56, 112, 136, 232, 1536)),
        ("m", (3, 5, 5, 7, 14, 18, 5), (24, 24, 48, 80, 160, 176, 304, 512, 1280)),
        ("l", (4, 7, 7, 10, 19, 25, 7), (32, 32, 64, 96, 192, 224, 384, 640, 1280)),
    ],
)
def test_efficientnetv2_s_depths_and_widths(key, depths, widths):
    """As in its authors' code, efficientnetv2/effnetv2_configs.py and its rounding in effnetv2_model.py."""
    spec = kresnet.get_builder(f"efficientnetv2_{key}").spec
    assert tuple(row.n for row in spec.stages()) == depths
    assert (spec.stem_channels, *(row.c for row in spec.stages()), spec.head_channels) == widths


def test_efficientnetv2_s_dropout_and_sizes(no_weights):
    model = kresnet.EfficientNetV2B0()
    rates = {layer.name: layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)}
    assert rates.pop("head_dropout") == 0.2
    assert rates["stage3_block2_drop_path"] == pytest.approx(0.2 * 2 / 21)
    assert rates["stage7_block8_drop_path"] == pytest.approx(0.2 * 20 / 21)
    heads = [kresnet.get_builder(f"efficientnetv2_{size}").spec.head_dropout_rate for size in ("s", "m", "l", "b3")]
    assert heads == [0.2, 0.3, 0.4, 0.3]
    sizes = {key: kresnet.get_builder(key).input_size for key in kresnet.list_models("efficientnetv2_*")}
    assert list(sizes.values()) == [224, 240, 260, 300, 480, 480, 384]  # B0 to B3, L, M, S


def test_a_stage_s_expansions_are_its_blocks_and_the_last_one_s_stay(no_weights):
    fields = {"table": [((2, 3.5), 16, 3, 2)], "stem_width": 8, "head_width": None, "input_shape": (32, 32, 3)}
    model = kresnet.MobileNetV2(**fields, depth_multiplier=4 / 3, include_top=False)
    assert [model.get_layer(f"stage2_block{i}_conv1").filters for i in (1, 2, 3, 4)] == [16, 56, 56, 56]
    odd = kresnet.MobileNetV2(**fields | {"table": [(2.3, 16, 2, 2)]}, include_top=False)
    assert odd.get_layer("stage2_block1_conv1").filters == 24  # of 18.4, 16 would be less than nine tenths
    published = kresnet.MobileNetV3Small.spec
    as_json = [[list(value) if isinstance(value, tuple) else value for value in row] for row in published.table]
    assert dataclasses.replace(published, table=as_json) == published


@pytest.mark.slow
@pytest.mark.parametrize("key", ["mobilenetv1_100", "mobilenetv2_100", "efficientnet_b0"])
def test_tflite_agrees_and_has_no_operator_that_moves_shapes(key, tmp_path):
    """Random statistics, or the signal would be gone in the last layers."""
    rng, model = np.random.default_rng(0), shallow(key, 96)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    file = kresnet.export(model, tmp_path / "model.tflite", verify=X, latency=False)
    lite = TFLiteFile(file)
    operators = [op["op_name"] for op in lite.interpreter._get_ops_details()]
    assert not {"SHAPE", "PACK", "RESHAPE", "STRIDED_SLICE"} & set(operators)
    assert operators.count("DEPTHWISE_CONV_2D") == sum(
        isinstance(layer, keras.layers.DepthwiseConv2D) for layer in model.layers
    )
    np.testing.assert_allclose(lite(X), model(X), atol=1e-5)


def test_same_padding_and_odd_sizes_need_no_padding_layer(no_weights):
    def pads(model):
        return sum(isinstance(layer, keras.layers.ZeroPadding2D) for layer in model.layers)

    assert pads(kresnet.MobileNetV2(input_shape=(224, 224, 3))) == 5
    assert pads(kresnet.MobileNetV2(input_shape=(225, 225, 3))) == 0  # 225, 113, 57, 29, 15
    assert pads(kresnet.MobileNetV2(input_shape=(224, 224, 3), padding="same")) == 0


def test_a_table_of_one_s_own():
    model = kresnet.EfficientNet(table=[(1, 8, 1, 1), (4, 16, 2, 2, 5, 0.5)], head_width=32, classes=3)
    assert model.get_layer("stage3_block2_conv2").kernel_size == (5, 5)
    assert model.output_shape == (None, 3)


@pytest.mark.parametrize(
    ("received", "arguments"),
    [
        ("table=()", {"table": ()}),
        ("table=3", {"table": 3}),
        (f"row={Row(1, 16, 0, 1)}", {"table": [(1, 16, 0, 1)]}),
        (f"row={Row(1, 16, 1, 3)}", {"table": [(1, 16, 1, 3)]}),
        (f"row={Row(0.5, 16, 1, 1)}", {"table": [(0.5, 16, 1, 1)]}),
        (f"row={Row((), 16, 1, 1)}", {"table": [((), 16, 1, 1)]}),
        ("se=2", {"table": [(1, 16, 1, 1, 3, 2)]}),
        ("fused=1", {"table": [(1, 16, 1, 1, 3, 0, 1)]}),
        ("activation='RE'", {"table": [(1, 16, 1, 1, 3, 0, False, "RE")]}),
        ("se_of='output'", {"se_of": "output"}),
        ("se_gate='tanh'", {"se_gate": "tanh"}),
        ("dense_width=0", {"dense_width": 0}),
        ("kept_width=1", {"kept_width": 1}),
        ("width_multiplier=0", {"width_multiplier": 0}),
        ("padding='valid'", {"padding": "valid"}),
        ("activation='swich'", {"activation": "swich"}),
        ("input_shape=(31, 31, 3)", {"input_shape": (31, 31, 3)}),
        ("alpha=1.1", {"alpha": 1.1}),
    ],
)
def test_nonsense_is_refused_by_name(received, arguments):
    with pytest.raises(ValueError, match="Received: ") as error:
        kresnet.EfficientNetB0(**arguments)
    assert str(error.value).endswith(f"Received: {received}")
