"""Public reports on exported files: of what range their images are, and where stride becomes dilation."""

import functools
import json
import warnings

import keras
import numpy as np
import pytest

import kresnet
from kresnet.inference.tflite_file import TFLiteFile

L = keras.layers
IMAGES = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 3)).astype("uint8")
UNIT = (IMAGES / 255).astype("float32")
TINY = {"depths": (1,), "widths": (4,), "stem": "conv3", "classes": 3}


def net(tensor=None, **fields):
    keras.utils.set_random_seed(0)
    image = {"input_shape": (16, 16, 3)} if tensor is None else {"input_tensor": tensor}
    return kresnet.ResNet(**TINY, **image, classifier_activation=None, **fields)


def about(model, tmp_path, **options):
    path = kresnet.export(model, tmp_path / "x.tflite", latency=False, **options)
    return TFLiteFile(path), json.loads(path.with_suffix(".json").read_text())["input"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, {"dtype": "uint8", "range": [0, 255]}),
        (
            {"include_preprocessing": False, "mean": (0.5,) * 3, "std": (0.25,) * 3},
            {"mean": [127.5] * 3, "std": [63.75] * 3},
        ),
    ],
)
def test_a_file_says_the_normalization_that_its_network_was_built_with(fields, said, tmp_path):
    """tensorflow#60072: right file, wrong accuracy, because the app normalizes otherwise than training did."""
    model = net(**fields)
    run, found = about(model, tmp_path)
    assert said.items() <= found.items()
    # An app that does what the description says gets the network's numbers.
    fed = IMAGES if "range" in found else (IMAGES - np.array(found["mean"])) / np.array(found["std"])
    expected = model.predict(((IMAGES / 255 - 0.5) / 0.25) if fields else IMAGES.astype("float32"), verbose=0)
    np.testing.assert_allclose(run(fed.astype(found["dtype"])), expected, atol=1e-3 * expected.std())


def rescaled(image):
    return net(L.Rescaling(255.0)(image))


def normalized(image):
    layer = L.Normalization()
    layer.adapt(UNIT)
    return net(layer(image), include_preprocessing=False)


@pytest.mark.slow
@pytest.mark.parametrize("build", [rescaled, normalized])
@pytest.mark.parametrize("quantize", [None, "int8"])
def test_a_network_of_0_to_1_is_not_exported_as_one_of_pixels(build, quantize, tmp_path):
    """google-coral/edgetpu#636, tensorflow#44289."""
    model = build(keras.Input((16, 16, 3)))
    calibrated = {"quantize": quantize, "calibration": UNIT, "agreement": 0.0} if quantize else {}
    run, said = about(model, tmp_path, **calibrated)
    assert (said["dtype"], said["range"]) == ("float32", [0, 1])
    expected = model.predict(UNIT, verbose=0)
    allowed = 0.5 if quantize else 1e-3
    assert np.abs(run(UNIT) - expected).max() < allowed * expected.std()
    with pytest.raises(ValueError, match=r"`verify` look like pixels, 0 to 255, .* made for 0 to 1\."):
        about(model, tmp_path, **calibrated, verify=IMAGES)


def test_images_of_another_range_than_the_network_s(tmp_path):
    """tensorflow#44289, #53278: calibrated with images scaled to 0 to 1, for a network of pixels."""
    import tensorflow as tf

    model = net()
    told = r"look like numbers scaled to 0 to 1, .* made for 0 to 255\. .* Received: {} from 0 to 1"
    with pytest.raises(ValueError, match=told.format("calibration")):
        kresnet.export(model, tmp_path / "x.tflite", quantize="int8", calibration=UNIT)
    with pytest.raises(ValueError, match=told.format("data")):
        kresnet.evaluate(model, tf.data.Dataset.from_tensor_slices((UNIT, np.arange(16) % 3)).batch(8), verbose=False)
    with pytest.warns(UserWarning, match=told.format("calibration")):
        kresnet.quantize_aware(model, UNIT)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        kresnet.quantize_aware(model, IMAGES)
    assert not list(tmp_path.iterdir())


# One of each kind, but for squeeze and excitation, whose means are of all of a map's places.
SHALLOW = {"depths": (1, 1, 1, 2), "widths": (8, 16, 24, 32)}
DILATED = {
    "basic": functools.partial(kresnet.ResNet18, **SHALLOW),
    "bottleneck": functools.partial(kresnet.ResNet50, **SHALLOW),
    "pre-activation": functools.partial(kresnet.ResNet18V2, **SHALLOW),
    "MobileNetV2": kresnet.MobileNetV2_035,
    "MobileNetV1": functools.partial(kresnet.MobileNetV1, alpha=0.25),
    "EfficientNet": kresnet.EfficientNetLite0,
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "build",
    [pytest.param(build, marks=[pytest.mark.thorough] * (name == "MobileNetV2")) for name, build in DILATED.items()],
    ids=DILATED,
)
def test_dilation_gives_what_strides_skip(build):
    """pytorch/vision#4801, tensorflow/models#2642, titu1994/MobileNetworks#11: the coarser map is in the finer one.

    DeepLab's convention, Chen et al. 2017, arXiv:1706.05587.
    """
    maps = {}
    arguments = {"features": True, "input_shape": (65, 65, 3), "include_preprocessing": False}
    images = np.random.default_rng(0).standard_normal((1, 65, 65, 3)).astype("float32")
    coarse = build(output_stride=32, **arguments)
    for stride in (32, 16, 8):
        model = build(output_stride=stride, **arguments)
        model.set_weights(coarse.get_weights())
        last, found = list(model(images).items())[-1]
        assert found.shape[1] == 64 // stride + 1
        assert model.feature_strides[last] == stride
        maps[stride] = np.asarray(found)
    for stride in (16, 8):
        step = 32 // stride
        np.testing.assert_allclose(maps[stride][:, ::step, ::step], maps[32], atol=1e-4 * maps[32].std())
    with pytest.raises(ValueError, match="`output_stride` must be one of 8, 16, 32"):
        build(output_stride=4)
