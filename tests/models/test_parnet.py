"""ParNet: its parameters by the rules of its paper, its streams, and its names elsewhere."""

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file

import kresnet
from kresnet.models import catalogue

SMALL = {"depths": (1, 1, 1), "widths": (8, 12, 16), "head_width": 24, "classes": 3, "input_shape": (64, 64, 3)}


def counted(depths, widths, last, classes=1000):
    """The parameters by sections 3.1 and 3.2: of norms two a channel, of convolutions no bias, of a gate one layer."""

    def taken(inputs, width, groups=1):  # a downsampling or fusion: a 3x3, a 1x1 and a gate
        return (9 + 1 + 1) * inputs * width // groups + 2 * 2 * width

    def block(width):  # a 3x3, a 1x1, a gate, and the norm of the identity too
        return (9 + 1 + 1) * width * width + 3 * 2 * width

    stem = min(64, widths[0])
    total = taken(3, stem)
    for before, width, depth in zip((stem, *widths), widths, depths, strict=False):
        total += taken(before, width) + depth * block(width)
    total += taken(widths[0], widths[1])
    for width, wider in zip(widths[1:], (*widths[2:], widths[-1]), strict=True):
        total += 2 * 2 * width + taken(2 * width, wider, groups=2)
    return total + taken(widths[-1], last) + (last + 1) * classes


@pytest.mark.parametrize(
    ("key", "widths", "last"),
    [
        ("parnet_s", (92, 192, 384), 1280),
        ("parnet_m", (128, 256, 512), 2048),
        ("parnet_l", (160, 320, 640), 2560),
        ("parnet_xl", (200, 400, 800), 3200),
    ],
)
def test_parameters_are_the_paper_s(key, widths, last):
    (row,) = catalogue.rows(key)
    assert int(row["parameters"]) == counted((4, 5, 5), widths, last)


def longest(model):
    """Returns how many convolutions of 3x3 are one behind the other, on the longest way, and one dense layer."""
    depth = {}
    for layer in model.layers:
        inputs = getattr(layer, "input", [])
        before = [
            depth[id(tensor)] for tensor in (inputs if isinstance(inputs, list) else [inputs]) if id(tensor) in depth
        ]
        own = layer.name.endswith("_conv3x3") or isinstance(layer, keras.layers.Dense)
        depth[id(layer.output)] = max(before, default=0) + own
    return depth[id(model.output)]


def test_it_is_twelve_layers_deep(no_weights):
    """Section 3: of its 22 blocks, no more than eleven are one behind the other, and the classifier."""
    model = kresnet.ParNet_S(input_shape=(64, 64, 3))
    assert sum(layer.name.endswith("_conv3x3") for layer in model.layers) == 4 + 14 + 2 + 2
    assert longest(model) == 12


def test_streams_are_fused_with_those_before_them():
    model = kresnet.ParNet_S(**SMALL, features=True)
    assert model.feature_strides == {"stage2": 4, "stage3": 8, "stage4": 16, "stage5": 32}
    joined = model.get_layer("stage3_fusion_concat").input
    assert [tensor.shape[1:] for tensor in joined] == [(8, 8, 12)] * 2
    assert model.get_layer("stage3_fusion_conv3x3").groups == 2
    assert model.get_layer("stage3_fusion_conv3x3").output.shape[1:] == (4, 4, 16)
    assert model.get_layer("fusion_conv3x3").output.shape[1:] == (4, 4, 16)
    two = kresnet.ParNet_S(**SMALL | {"depths": (1, 1), "widths": (8, 12)}, features=True)
    assert two.feature_strides == {"stage2": 4, "stage3": 8, "stage4": 16}


def test_fields():
    large = kresnet.ParNet_L(**SMALL)
    assert large.get_layer("head_dropout").rate == 0.1
    odd = kresnet.ParNet_S(**SMALL | {"input_shape": (None, None, 3)}, include_top=False)
    assert odd(np.zeros((1, 70, 97, 3))).shape == (1, 3, 4, 24)
    scaled = kresnet.ParNet_S.spec.scaled(1.2, 2.0)
    assert (scaled.depths, scaled.widths, scaled.head_width) == ((5, 6, 6), (184, 384, 768), 2560)
    wrong = {"depths": (1, 1), "widths": (8, 12, 15), "head_width": 0, "activation": "rleu"}
    for field, value in wrong.items():
        with pytest.raises(ValueError, match=f"Received: .*{field}="):
            kresnet.ParNet_S(**SMALL | {field: value})
    with pytest.raises(ValueError, match=r"two streams at least\. Received: depths=\(1,\), widths=\(8,\)"):
        kresnet.ParNet_S(**SMALL | {"depths": (1,), "widths": (8,)})


def test_weights_go_out_and_come_back(tmp_path):
    model = kresnet.ParNet_S(**SMALL)
    kresnet.save_weights(model, tmp_path / "x.safetensors", layout="imankgoyal")
    names = set(load_file(tmp_path / "x.safetensors"))
    assert {"inits.0.1.block.se.cvsig.conv.weight", "streams.2.0.block.rbr_identity.running_var"} <= names
    assert {"downsamples_2.1.0.b2.bias", "downsamples_2.1.2.block.rbr_1x1.1.conv.weight"} <= names
    assert {"combine.2.block.rbr_1x1.conv.weight", "combine.3.block.rbr_1x1.1.bn.weight"} <= names
    again = kresnet.ParNet_S(**SMALL, weights=tmp_path / "x.safetensors")
    for ours, theirs in zip(again.weights, model.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
