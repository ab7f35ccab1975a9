"""Files of keras.applications' weights: ours with them computes what Keras's network computes, from the same pixels."""

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format

import kresnet

APPLICATIONS = keras.applications
NETWORKS = {
    "ResNet50": ("ResNet50", APPLICATIONS.resnet.preprocess_input),
    "ResNet50V2": ("ResNet50V2", APPLICATIONS.resnet_v2.preprocess_input),
    "MobileNet": ("MobileNetV1", APPLICATIONS.mobilenet.preprocess_input),
    "MobileNetV2": ("MobileNetV2", APPLICATIONS.mobilenet_v2.preprocess_input),
    "MobileNetV3Small": ("MobileNetV3Small", APPLICATIONS.mobilenet_v3.preprocess_input),
    "EfficientNetB0": ("EfficientNetB0", APPLICATIONS.efficientnet.preprocess_input),
    "EfficientNetV2B0": ("EfficientNetV2B0", APPLICATIONS.efficientnet_v2.preprocess_input),
}
X = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype("float32")


def randomised(name, **arguments):
    rng = np.random.default_rng(0)
    model = getattr(APPLICATIONS, name)(weights=None, input_shape=(64, 64, 3), **arguments)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
        elif getattr(layer, "use_bias", False):
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel, rng.standard_normal(bias.shape)])
        elif isinstance(layer, keras.layers.Normalization) and layer.weights:  # as in the published file
            mean, variance = [0.485, 0.456, 0.406], [0.229**2, 0.224**2, 0.225**2]
            layer.set_weights([np.array(mean), np.array(variance), np.array(1)])
            layer.finalize_state()
    return model


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name if name == "MobileNetV2" else pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS]
)
def test_the_same_function(name, tmp_path):
    builder, preprocess = NETWORKS[name]
    theirs = randomised(name, classifier_activation=None)
    expected = keras.ops.convert_to_numpy(theirs(preprocess(X.copy())))
    file = tmp_path / ("x.weights.h5" if name == "MobileNetV2" else "x.h5")
    if name == "MobileNetV2":
        theirs.save_weights(file)
    else:  # as the published files are
        with h5py.File(file, "w") as group:
            legacy_h5_format.save_weights_to_hdf5_group(group, theirs)
    ours = getattr(kresnet, builder)(input_shape=(64, 64, 3), weights=file, classifier_activation=None)
    assert np.abs(keras.ops.convert_to_numpy(ours(X)) - expected).max() <= 1e-4 * expected.std()
    assert ours.kresnet_config["spec"]["epsilon"] in (1e-3, 1.001e-5)


@pytest.fixture(scope="module")
def small_v2(tmp_path_factory):
    """A ResNet V2 of Keras's blocks, cut short, with its file and the fields that cut ours as short."""
    from keras.src.applications import resnet

    def stages(x):
        x = resnet.stack_residual_blocks_v2(x, 8, 2, name="conv2")
        x = resnet.stack_residual_blocks_v2(x, 12, 3, name="conv3")
        return resnet.stack_residual_blocks_v2(x, 16, 2, stride1=1, name="conv4")

    model = resnet.ResNet(
        stages, preact=True, use_bias=True, weights=None, input_shape=(None, None, 3), pooling="avg", include_top=False
    )
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
        elif getattr(layer, "use_bias", False):
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel, rng.standard_normal(bias.shape)])
    file = tmp_path_factory.mktemp("keras") / "x.weights.h5"
    model.save_weights(file)
    return model, file, {"depths": (2, 3, 2), "widths": (8, 12, 16), "stem_width": 64, "include_top": False}


@pytest.mark.slow
@pytest.mark.parametrize("size", [64, 75])
def test_v2_strides_at_the_ends_of_stages(small_v2, size):
    """The plain builder becomes that network: its stem's map may be negative, where zeros pad it, and has a bias."""
    theirs, file, cut = small_v2
    x = np.random.default_rng(1).integers(0, 256, (2, size, size, 3)).astype("float32")
    expected = np.asarray(theirs(APPLICATIONS.resnet_v2.preprocess_input(x.copy())))
    ours = kresnet.ResNet50V2(**cut, pooling="avg", weights=file)
    assert np.abs(np.asarray(ours(x)) - expected).max() <= 1e-4 * expected.std()
    plain = kresnet.ResNet50V2(**cut, pooling="avg")
    assert plain.count_params() < ours.count_params() == theirs.count_params()
    features = kresnet.ResNet50V2(**cut, features=("stage2", "stage4"), weights=file)
    assert features.feature_strides == {"stage2": 8, "stage4": 16}
    inner = keras.Model(theirs.input, theirs.get_layer("conv2_block2_out").output)
    scale = np.asarray(inner(APPLICATIONS.resnet_v2.preprocess_input(x.copy())))
    assert np.abs(np.asarray(features(x)["stage2"]) - scale).max() <= 1e-4 * scale.std()


@pytest.mark.slow
def test_what_a_file_of_v2_makes_is_said(small_v2, tmp_path):
    _, file, cut = small_v2
    model = kresnet.ResNet50V2(**cut, weights=file)
    changes = {"stride_at": "end", "stem_pool": "zeros", "biases": True, "epsilon": 1.001e-5}
    assert changes.items() <= model.kresnet_config["changes"].items()
    with pytest.raises(ValueError, match=r"need stride_at='end'\. Received: stride_at='start', weights="):
        kresnet.ResNet50V2(**cut, stride_at="start", weights=file)
    with pytest.raises(ValueError, match=r"another network's, .*biases=True, .* cannot: Striding .*Received: weights="):
        kresnet.ResNet50(**cut, weights=file)
    with pytest.raises(ValueError, match=r"another family's, .*'biases'.* Received: weights="):
        kresnet.VGG11(include_top=False, weights=file)
    with pytest.raises(ValueError, match=r"in these layouts: .* Received: layout='timm'"):
        kresnet.save_weights(model, tmp_path / "x.safetensors")  # timm has no such network
    model.save(tmp_path / "own.keras")
    with pytest.raises(ValueError, match=r"differs in `biases`: it is built with biases=True\. Received"):
        kresnet.ResNet50V2(**cut, weights=tmp_path / "own.keras")
    again = kresnet.ResNet50V2(**cut, biases=True, weights=tmp_path / "own.keras")
    np.testing.assert_array_equal(again(X), model(X))


@pytest.mark.slow
def test_without_the_top(tmp_path):
    theirs = randomised("MobileNet", alpha=0.25)
    theirs.save_weights(tmp_path / "x.weights.h5")
    body = kresnet.MobileNetV1(alpha=0.25, include_top=False, weights=tmp_path / "x.weights.h5")
    np.testing.assert_array_equal(body.get_layer("stem_conv").kernel, theirs.get_layer("conv1").kernel)


@pytest.mark.slow
def test_another_network_is_refused(tmp_path):
    theirs = keras.applications.MobileNetV2(weights=None, alpha=0.35, input_shape=(32, 32, 3), classes=3)
    theirs.save_weights(tmp_path / "x.weights.h5")
    with pytest.raises(ValueError, match=r"not this network's; misshapen: 'Conv1/0' is \(3, 3, 3, 16\)"):
        kresnet.MobileNetV2(input_shape=(32, 32, 3), classes=3, weights=tmp_path / "x.weights.h5")
    with pytest.raises(ValueError, match="not this network's; missing"):
        kresnet.MobileNetV1(input_shape=(32, 32, 3), classes=3, weights=tmp_path / "x.weights.h5")
