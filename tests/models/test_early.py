"""AlexNet's sizes: its convolutions', its poolings', and the smallest image."""

import numpy as np
import pytest
from networks import without_weights
from safetensors.numpy import load_file

import kresnet

SMALL = {"widths": (4, 8, 8, 8, 8), "dense_widths": (16, 16), "classes": 3}


def test_maps_are_the_paper_s():
    """Section 3.5: 55, 27 and 13 pixels, and 6 where the dense layers begin."""
    with without_weights():
        model = kresnet.AlexNet()
    sides = {
        layer.name: layer.output.shape[1] for layer in model.layers if "conv" in layer.name or "pool" in layer.name
    }
    del sides["stage1_conv1_pad"]
    assert list(sides.values()) == [55, 27, 27, 13, 13, 13, 13, 6]


def test_small_images_are_refused():
    assert kresnet.AlexNet(input_shape=(63, 63, 3), **SMALL).output_shape == (None, 3)
    with pytest.raises(ValueError, match=r"at least \(63, 63, channels\)\. Received: input_shape=\(62, 63, 3\)"):
        kresnet.AlexNet(input_shape=(62, 63, 3), **SMALL)
    maps = kresnet.AlexNet(features=("stem", "stage3"), **SMALL)
    assert maps.feature_strides == {"stem": 4, "stage3": 16}


def test_weights_go_out_and_come_back(tmp_path):
    model = kresnet.AlexNet(input_shape=(64, 64, 3), **SMALL)
    kresnet.save_weights(model, tmp_path / "x.safetensors", layout="torchvision")
    kernel = load_file(tmp_path / "x.safetensors")["classifier.1.weight"]
    ours = np.asarray(model.get_layer("head_dense1").kernel)
    np.testing.assert_array_equal(kernel.reshape(16, 8, 6, 6).transpose(2, 3, 1, 0).reshape(-1, 16), ours)
    again = kresnet.AlexNet(input_shape=(64, 64, 3), weights=tmp_path / "x.safetensors", **SMALL)
    for one, other in zip(again.weights, model.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match=r"`widths` are those of five convolutions\. Received: widths="):
        kresnet.AlexNet(widths=(4, 8))
