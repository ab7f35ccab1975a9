"""A deep network starts from a shallow one's layers (arXiv:1409.1556, section 3.1)."""

import numpy as np
import pytest

import kresnet

SMALL = {"input_shape": (32, 32, 3), "widths": (4, 8, 8, 8, 8), "dense_widths": (8, 8)}


def test_vgg16_starts_from_vgg11_as_in_the_paper():
    small, large = kresnet.VGG11(classes=5, **SMALL), kresnet.VGG16(classes=5, **SMALL)
    before = {layer.name: layer.get_weights() for layer in large.layers if layer.weights}
    copied = kresnet.grow(small, large, ("stage1", "stage2", "stage3", "head"))
    # The first four convolutions of network A, and the three dense layers.
    convolutions = ["stage1_conv1", "stage2_conv1", "stage3_conv1", "stage3_conv2"]
    assert copied == [*convolutions, "head_dense1", "head_dense2", "predictions"]
    for name, weights in before.items():
        expected = small.get_layer(name).get_weights() if name in copied else weights
        for found, wanted in zip(large.get_layer(name).get_weights(), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)
    assert len(kresnet.grow(small, large)) == 8 + 3  # all that network A has


def test_what_is_not_in_common_stays():
    small, large = kresnet.VGG11(classes=5, **SMALL), kresnet.VGG13(classes=3, **SMALL)
    assert "predictions" not in kresnet.grow(small, large)
    with pytest.raises(ValueError, match=r"`parts` must be one of .*'stage5', 'head'. Did you mean .*parts='stage'"):
        kresnet.grow(small, large, ("stage",))
    with pytest.raises(ValueError, match=r"`parts` must be a sequence of names. Received: parts='head'"):
        kresnet.grow(small, large, "head")
    with pytest.raises(ValueError, match=r"no layer in common. Received: small='vgg11', large='mobilenetv2_035'"):
        kresnet.grow(small, kresnet.MobileNetV2_035(include_top=False, input_shape=(32, 32, 3)))
