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
    "MobileNet": ("MobileNetV1", APPLICATIONS.mobilenet.preprocess_input),
    "MobileNetV2": ("MobileNetV2", APPLICATIONS.mobilenet_v2.preprocess_input),
    "EfficientNetB0": ("EfficientNetB0", APPLICATIONS.efficientnet.preprocess_input),
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
        elif isinstance(layer, keras.layers.Normalization):  # as in the published file
            mean, variance = [0.485, 0.456, 0.406], [0.229**2, 0.224**2, 0.225**2]
            layer.set_weights([np.array(mean), np.array(variance), np.array(1)])
            layer.finalize_state()
    return model


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
    assert ours.kresnet_config["changes"]["epsilon"] in (1e-3, 1.001e-5)


def test_without_the_top(tmp_path):
    theirs = randomised("MobileNet", alpha=0.25)
    theirs.save_weights(tmp_path / "x.weights.h5")
    body = kresnet.MobileNetV1(alpha=0.25, include_top=False, weights=tmp_path / "x.weights.h5")
    np.testing.assert_array_equal(body.get_layer("stem_conv").kernel, theirs.get_layer("conv1").kernel)


def test_another_network_is_refused(tmp_path):
    theirs = keras.applications.MobileNetV2(weights=None, alpha=0.35, input_shape=(32, 32, 3), classes=3)
    theirs.save_weights(tmp_path / "x.weights.h5")
    with pytest.raises(ValueError, match=r"not this network's; misshapen: 'Conv1/0' is \(3, 3, 3, 16\)"):
        kresnet.MobileNetV2(input_shape=(32, 32, 3), classes=3, weights=tmp_path / "x.weights.h5")
    with pytest.raises(ValueError, match="not this network's; missing"):
        kresnet.MobileNetV1(input_shape=(32, 32, 3), classes=3, weights=tmp_path / "x.weights.h5")
