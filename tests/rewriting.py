"""Small networks of every kind, and comparisons of a rewritten network with its original."""

import keras
import numpy as np
from keras import ops

import kresnet

RNG = np.random.default_rng(0)
TINY = {"depths": (1, 2), "widths": (8, 16), "classes": 5, "input_shape": (32, 40, 3)}
# A table with every kind of block: without expansion, with a shortcut, and with a stride.
MOBILE = {"table": ((1, 8, 1, 1), (4, 16, 2, 2)), "stem_width": 8, "head_width": 32, "classes": 5}
SE = {**MOBILE, "table": ((1, 8, 1, 1, 3, 0.25), (4, 16, 2, 2, 5, 0.25))}
NETWORKS = {
    "post-activation": (kresnet.ResNet, TINY),
    "basic, option A": (kresnet.ResNet, {**TINY, "expansion": 1, "stem": "conv3", "shortcut": "pad"}),
    "D": (kresnet.ResNet, {**TINY, "stem": "deep", "shortcut": "avg_conv"}),
    "SE": (kresnet.ResNet, {**TINY, "se_reduction": 4}),
    "ResNeXt": (kresnet.ResNet, {**TINY, "groups": 4}),
    "V2": (kresnet.ResNet50V2, TINY),
    "WRN": (kresnet.WRN16_8, {"depths": (2,), "widths": (16,), "dropout_rate": 0.1, "input_shape": (16, 16, 3)}),
    "MobileNetV1": (kresnet.MobileNetV1, {"input_shape": (32, 32, 3), "alpha": 0.25, "classes": 5}),
    "MobileNetV2": (kresnet.MobileNetV2, {**MOBILE, "input_shape": (32, 32, 3)}),
    "EfficientNet": (kresnet.EfficientNetB0, {**SE, "input_shape": (32, 32, 3)}),
    "Lite": (kresnet.EfficientNetLite0, {**MOBILE, "input_shape": (32, 32, 3)}),
    "features": (kresnet.MobileNetV2, {**MOBILE, "input_shape": (32, 32, 3), "features": True}),
}


def randomise(model, rng=RNG):
    """Gives every norm statistics and parameters that an untrained one does not have: folding must use all of them."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            for weight in layer.weights:
                positive = weight.name in ("gamma", "moving_variance")
                values = rng.uniform(0.5, 1.5, weight.shape) if positive else 0.3 * rng.standard_normal(weight.shape)
                weight.assign(values)
    return model


def norms(model):
    return [layer.name for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


def outputs(model, images):
    return {str(key): ops.convert_to_numpy(y) for key, y in keras.tree.flatten_with_path(model(images, training=False))}


def assert_same_function(model, folded, tolerance=1e-5):
    images = RNG.integers(0, 256, (4, *model.inputs[0].shape[1:])).astype("float32")
    expected, got = outputs(model, images), outputs(folded, images)
    assert expected.keys() == got.keys()
    for key, y in expected.items():
        assert y.std() > 0
        assert np.abs(got[key] - y).max() <= tolerance * y.std(), key


def same_weights(before, after):
    return all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
