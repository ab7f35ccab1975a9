"""What every builder does with its arguments, and which it refuses."""

import inspect
import pickle
import re

import keras
import numpy as np
import pytest

import kresnet
from kresnet.layers.pixels import CIFAR, IMAGENET

PLAIN = {"shortcut": "none"}
TINY = {"depths": (1, 1, 1, 1), "widths": (8, 16, 24, 32)}
TWO = {"depths": (2, 1), "widths": (8, 16)}
X = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), "uint8")


def test_signature_is_keras_s():
    names = "include_top weights input_tensor input_shape pooling classes classifier_activation name".split()
    for key in kresnet.list_models():
        builder = kresnet.get_builder(key)
        parameters = list(inspect.signature(builder).parameters.values())
        assert [p.name for p in parameters[:8]] == names
        assert all(p.kind == p.POSITIONAL_OR_KEYWORD for p in parameters[:8])
        assert [p.name for p in parameters[8:10]] == ["include_preprocessing", "features"]
        assert all(p.kind == p.KEYWORD_ONLY for p in parameters[8:])
        assert getattr(kresnet, builder.__name__) is builder
        assert builder.__name__ in kresnet.__all__
        assert builder.paper in builder.__doc__


def test_list_and_create(no_weights):
    assert kresnet.list_models("resnet5?") == ["resnet50", "resnet56"]
    assert {"resnet18", "wrn_28_10", "senet154", "resnetv2_1001", "plainnet34"} <= set(kresnet.list_models())
    model = kresnet.create_model("resnet18", classes=7, **TINY)
    assert (model.name, model.input_shape, model.output_shape) == ("resnet18", (None, 224, 224, 3), (None, 7))
    assert kresnet.ResNet20().output_shape == (None, 10)
    with pytest.raises(ValueError, match=r"Did you mean .*'resnet50'.* Received: key='resnet5O'"):
        kresnet.create_model("resnet5O")


def test_scaling_by_one_changes_nothing():
    for key in kresnet.list_models():
        spec = kresnet.get_builder(key).spec
        assert spec.scaled(1.0, 1.0) == spec, key


def test_spec_fields_of_a_named_network_make_an_unnamed_one(no_weights):
    model = kresnet.ResNet50(stem="deep", shortcut="avg_conv", se_reduction=16)
    assert model.count_params() == kresnet.ResNet(stem="deep", shortcut="avg_conv", se_reduction=16).count_params()
    assert model.count_params() > kresnet.ResNet50D().count_params()
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'group'\. Did you mean 'groups'"):
        kresnet.ResNet50(group=2)


def test_public_names():
    builders = {kresnet.get_builder(key).__name__ for key in kresnet.list_models()} | {"ResNet", "EfficientNet"}
    others = {
        "CompoundScaling",
        "any_range",
        "compare",
        "cost",
        "create_model",
        "evaluate",
        "export",
        "get_builder",
        "grow",
        "list_models",
        "train",
    }
    others |= {
        "data",
        "quantize_aware",
        "recipes",
        "reparameterize",
        "scaling",
        "MobileNet",
        "freeze",
        "recalibrate_batch_norm",
    }
    others |= {
        "decode_predictions",
        "grad_cam",
        "list_weights",
        "on_devices",
        "predict",
        "preprocess_input",
        "save_weights",
        "search",
        "with_auxiliary_losses",
    }
    assert set(kresnet.__all__) == builders | others


def test_builders_pickle():
    assert pickle.loads(pickle.dumps(kresnet.ResNet50)) is kresnet.ResNet50


def test_preactresnet18_ends_without_norm_and_the_paper_s_networks_with_it(no_weights):
    def ends(model):
        return "head_norm" in {layer.name for layer in model.layers}

    conv3 = {"stem": "conv3", "input_shape": (32, 32, 3)}
    assert [ends(kresnet.ResNet18V2(**TINY, **extra)) for extra in ({}, conv3)] == [True, False]
    assert ends(kresnet.ResNet18V2(**TINY, **conv3, final_norm=True))
    assert ends(kresnet.ResNet(preactivation=True, **TINY, **conv3))
    assert ends(kresnet.WRN16_8())
    assert ends(kresnet.ResNet110V2(depths=(1, 1, 1)))


def test_layer_names(no_weights):
    names = {layer.name for layer in kresnet.ResNet50().layers}
    assert {"stem_conv", "stage3_block2_conv1", "stage3_block2_norm1", "stage3_block1_shortcut_conv"} <= names
    assert {"stage3_block2_add", "stage3_block2_out", "head_pool", "predictions", "preprocessing"} <= names


def test_v1_as_printed_strides_in_the_1x1(no_weights):
    for stride_in, strides in (("1x1", [(2, 2), (1, 1)]), ("3x3", [(1, 1), (2, 2)])):
        model = kresnet.ResNet50(stride_in=stride_in)
        assert [model.get_layer(f"stage3_block1_conv{i}").strides for i in (1, 2)] == strides


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3, 4, 6])
def test_pixels_become_numbers_of_known_mean_and_deviation(channels):
    model = kresnet.ResNet18(input_shape=(64, 64, channels), **TINY)
    x = np.random.default_rng(0).integers(0, 256, (2, 64, 64, channels), "uint8")
    mean, std = (np.array(IMAGENET[name]) for name in ("mean", "std"))
    if channels != 3:
        mean, std = mean.mean(), std.mean()
    layer = keras.Model(model.input, model.get_layer("preprocessing").output)
    np.testing.assert_allclose(layer(x), (x / 255 - mean) / std, atol=1e-5)
    np.testing.assert_array_equal(model(x), model(x.astype("float32")))
    np.testing.assert_allclose(model.predict(x, verbose=0), model(x), atol=1e-5)
    bare = kresnet.ResNet18(input_shape=(64, 64, channels), include_preprocessing=False, **TINY)
    bare.set_weights(model.get_weights())
    np.testing.assert_allclose(bare(np.float32((x / 255 - mean) / std)), model(x), atol=1e-5)


def test_preprocessing_is_the_family_s():
    assert kresnet.get_builder("resnet20").spec.mean == CIFAR["mean"]
    assert kresnet.get_builder("resnetv2_50").spec.mean == (0.5, 0.5, 0.5)
    layer = kresnet.ResNet18(mean=(0.1, 0.2, 0.3), std=(1, 1, 1), **TINY).get_layer("preprocessing")
    np.testing.assert_allclose(layer(np.zeros((1, 1, 1, 3)))[0, 0, 0], [-0.1, -0.2, -0.3], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(None, None), (32, 32), (33, 47), (64, None)])
def test_input_sizes(size):
    model = kresnet.ResNet(input_shape=(*size, 3), include_top=False, **TINY)
    height, width = size[0] or 32, size[1] or 47
    assert model(np.zeros((1, height, width, 3))).shape == (1, -(-height // 32), -(-width // 32), 128)


def test_tops():
    assert kresnet.ResNet18(include_top=False, **TINY).output_shape == (None, None, None, 32)
    for pooling in ("avg", "max"):
        model = kresnet.ResNet18(include_top=False, pooling=pooling, **TINY)
        features = kresnet.ResNet18(include_top=False, **TINY)
        features.set_weights(model.get_weights())
        pooled = getattr(np, {"avg": "mean", "max": "max"}[pooling])(features(X), (1, 2))
        np.testing.assert_allclose(model(X), pooled, rtol=1e-5, atol=1e-6)
    logits = kresnet.ResNet18(classifier_activation=None, input_shape=(64, 64, 3), **TINY)
    assert not np.allclose(np.sum(logits(X), 1), 1)


def test_input_tensor():
    image = keras.Input((64, 64, 3))
    model = kresnet.ResNet18(input_tensor=keras.layers.RandomFlip()(image), **TINY)
    assert model.inputs[0] is image
    assert model(X).shape == (2, 1000)
    with pytest.raises(ValueError, match=r"Received: input_tensor=3"):
        kresnet.ResNet18(input_tensor=3)
    with pytest.raises(ValueError, match=r"Received: input_shape=\(32, 32, 3\), input_tensor=\(64, 64, 3\)"):
        kresnet.ResNet18(input_tensor=image, input_shape=(32, 32, 3))


def test_features():
    model = kresnet.ResNet50(depths=(1, 1, 1, 1), features=("stage2", "stage3", "stage4", "stage5"))
    assert model.feature_strides == {"stage2": 4, "stage3": 8, "stage4": 16, "stage5": 32}
    maps = model(X)
    assert {name: m.shape for name, m in maps.items()} == {
        name: (2, 64 // stride, 64 // stride, 64 * stride) for name, stride in model.feature_strides.items()
    }
    everything = kresnet.ResNet50V2(depths=(1, 1, 1, 1), features=True, output_stride=8)
    assert everything.feature_strides == {"stage2": 4, "stage3": 8, "stage4": 8, "stage5": 8}
    assert kresnet.WRN16_8(features=["stem", "stage4"]).feature_strides == {"stem": 1, "stage4": 4}
    with pytest.raises(ValueError, match=r"`features` must be one of 'stem', 'stage2', .* Received: features='stage1'"):
        kresnet.ResNet50(features=("stage1",))


def test_dilation_keeps_the_parameters_and_the_resolution(no_weights):
    parameters = kresnet.ResNet50(include_top=False).count_params()
    for output_stride in (8, 16, 32):
        model = kresnet.ResNet50(include_top=False, output_stride=output_stride, input_shape=(64, 64, 3))
        assert model.output_shape == (None, *[64 // output_stride] * 2, 2048)
        assert model.count_params() == parameters


def test_zero_init_residual_starts_as_identities():
    for preactivation in (False, True):
        model = kresnet.ResNet(**TWO, zero_init_residual=True, preactivation=preactivation, features=True)
        inputs = model.get_layer("stage2_block2_add").input
        block = keras.Model(model.input, {"in": inputs[0], "out": model.get_layer("stage2_block2_add").output})(X)
        np.testing.assert_array_equal(block["in"], block["out"])


def test_drop_path_rises_linearly_to_the_last_block(no_weights):
    model = kresnet.ResNet18(drop_path_rate=0.2)
    rates = [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    np.testing.assert_allclose(rates, 0.2 * np.arange(1, 9) / 8)
    wide = kresnet.WRN16_8(dropout_rate=0.3)
    assert [layer.rate for layer in wide.layers if isinstance(layer, keras.layers.Dropout)] == [0.3] * 6


def test_mixed_precision_keeps_preprocessing_and_classifier_in_float32():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = kresnet.ResNet18(input_shape=(64, 64, 3), **TINY)
    finally:
        keras.config.set_dtype_policy("float32")
    dtypes = {layer.name: layer.compute_dtype for layer in model.layers}
    assert dtypes["preprocessing"] == dtypes["predictions"] == "float32"
    assert dtypes["stem_conv"] == dtypes["stage5_block1_conv2"] == "bfloat16"
    assert model(X).dtype == "float32"


@pytest.mark.parametrize(
    ("received", "arguments"),
    [
        ("stem='conv9'", {"stem": "conv9"}),
        ("shortcut='identity'", {"shortcut": "identity"}),
        ("pooling='mean'", {"pooling": "mean"}),
        ("activation='rleu'", {"activation": "rleu"}),
        ("classifier_activation='sofmax'", {"classifier_activation": "sofmax"}),
        ("classes=0", {"classes": 0}),
        ("classes=-3", {"classes": -3}),
        ("classes=2.5", {"classes": 2.5}),
        ("widths=(64, 0, 256, 512)", {"widths": (64, 0, 256, 512)}),
        ("widths=64", {"widths": 64}),
        ("depths=(3, -4, 6, 3)", {"depths": (3, -4, 6, 3)}),
        ("depths=()", {"depths": ()}),
        ("depths=(3, 4), widths=(64, 128, 256, 512)", {"depths": (3, 4)}),
        ("groups=0", {"groups": 0}),
        ("groups=3, entry_divisor=1, widths=(64, 128, 256, 512)", {"groups": 3}),
        ("groups=2, group_width=None, entry_divisor=1", {"groups": 2, "expansion": 1}),
        ("se_reduction=0", {"se_reduction": 0}),
        ("output_stride=4", {"output_stride": 4}),
        ("stride_in='first'", {"stride_in": "first"}),
        ("stem='deep', stem_width=7", {"stem": "deep", "stem_width": 7}),
        ("drop_path_rate=1.0", {"drop_path_rate": 1.0}),
        ("dropout_rate=-0.1", {"dropout_rate": -0.1}),
        ("epsilon=0", {"epsilon": 0}),
        ("preactivation=1", {"preactivation": 1}),
        ("shortcut='none', zero_init_residual=True, drop_path_rate=0.0", PLAIN | {"zero_init_residual": True}),
        ("shortcut='pad', channels=(32, 128, 64)", {"shortcut": "pad", "depths": (1, 1), "widths": (32, 16)}),
        ("input_shape=(31, 32, 3)", {"input_shape": (31, 32, 3)}),
        ("input_shape=(32, 32)", {"input_shape": (32, 32)}),
        ("input_shape=(32, 32, None)", {"input_shape": (32, 32, None)}),
        ("mean=(0.5,), std=(0.229, 0.224, 0.225)", {"mean": (0.5,)}),
        ("std=(0, 1, 1)", {"std": (0, 1, 1)}),
    ],
)
def test_nonsense_is_refused_by_name(received, arguments):
    with pytest.raises(ValueError, match=re.escape(f"Received: {received}") + "$"):
        kresnet.ResNet50(**arguments)


def test_channels_first_is_refused():
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(ValueError, match=r"channels-last.* Received: image_data_format='channels_first'"):
            kresnet.ResNet18()
    finally:
        keras.config.set_image_data_format("channels_last")
