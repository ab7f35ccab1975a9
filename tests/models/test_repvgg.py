"""RepVGG: the paper's numbers of what is deployed, what stands beside a 3x3, and its names elsewhere."""

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file

import kresnet

SMALL = {"depths": (2, 2), "widths": (8, 16), "classes": 3, "input_shape": (32, 32, 3)}
# The paper's tables 4 and 5: millions of parameters, the last digit cut off, and billions of multiply-adds.
DEPLOYED = {
    "repvgg_a0": (8.30, 1.4),
    "repvgg_a1": (12.78, 2.4),
    "repvgg_a2": (25.49, 5.1),
    "repvgg_b0": (14.33, 3.1),
    "repvgg_b1": (51.82, 11.8),
    "repvgg_b1g2": (41.36, 8.8),
    "repvgg_b1g4": (36.12, 7.3),
    "repvgg_b2": (80.31, 18.4),
    "repvgg_b2g4": (55.77, 11.3),
    "repvgg_b3": (110.96, 26.2),
    "repvgg_b3g4": (75.62, 16.1),
}


@pytest.mark.parametrize("key", DEPLOYED)
def test_what_is_deployed_is_the_paper_s(key, no_weights):
    costs = kresnet.cost(kresnet.create_model(key, deployed=True))
    assert (costs.params // 10_000 / 100, round(costs.macs / 1e9, 1)) == DEPLOYED[key]


def test_what_stands_beside_a_3x3(no_weights):
    """A 1x1, and an identity where the block changes neither size nor channels: section 3.2."""
    model = kresnet.RepVGG_A0(**SMALL | {"depths": (2, 2), "widths": (8, 8)})
    beside = {layer.name: len(layer.input) for layer in model.layers if isinstance(layer, keras.layers.Add)}
    assert beside == {
        "stem_add": 2,
        "stage2_block1_add": 2,
        "stage2_block2_add": 3,
        "stage3_block1_add": 2,
        "stage3_block2_add": 3,
    }
    assert kresnet.RepVGG_A2.spec.stem_width == 64  # of 96: table 2 has min(64, 64a)
    assert kresnet.RepVGG_A0.spec.stem_width == 48


def test_every_second_layer_is_grouped(no_weights):
    """The 3rd, 5th, ..., 27th of B's, the stem the first: section 3.4."""
    model = kresnet.RepVGG_B1g4(input_shape=(32, 32, 3))
    for kernel in ("3x3", "1x1"):
        groups = [layer.groups for layer in model.layers if layer.name.endswith(f"_conv{kernel}")]
        assert groups == [4 if n % 2 and n > 1 else 1 for n in range(1, 29)]


def test_fields():
    attention = kresnet.RepVGG_D2se(**SMALL, se_reduction=4)
    assert attention.get_layer("stage2_block2_se_reduce").output.shape[-1] == 2
    names = [layer.name for layer in attention.layers]
    assert names.index("stem_add") < names.index("stem_se_scale") < names.index("stem_out")
    maps = kresnet.RepVGG_A0(**SMALL | {"depths": (1, 1, 1, 1), "widths": (8, 8, 16, 16)}, features=True)
    assert maps.feature_strides == {"stage2": 4, "stage3": 8, "stage4": 16, "stage5": 32}
    odd = kresnet.RepVGG_A0(**SMALL | {"input_shape": (None, None, 3)}, include_top=False)
    assert odd(np.zeros((1, 37, 50, 3))).shape == (1, 5, 7, 16)
    scaled = kresnet.RepVGG_B1g4.spec.scaled(1.5, 0.5)
    assert (scaled.depths, scaled.widths) == ((6, 9, 24, 2), (64, 128, 256, 1024))
    for field, value in {"groups": 3, "depths": (1,), "se_reduction": 0, "deployed": 1, "activation": "rleu"}.items():
        with pytest.raises(ValueError, match=f"Received: .*{field}="):
            kresnet.RepVGG_A0(**SMALL | {field: value})


@pytest.mark.parametrize(
    ("layout", "names"),
    [
        ("timm", "stem.conv_1x1.conv stages.1.1.conv_kxk.bn stages.0.1.identity stages.1.0.attn.fc2 head.fc"),
        ("DingXiaoH", "stage0.rbr_1x1.conv stage2.1.rbr_dense.bn stage1.1.rbr_identity stage2.0.se.up linear"),
    ],
)
def test_weights_go_out_and_come_back(layout, names, tmp_path):
    model = kresnet.RepVGG_D2se(**SMALL, se_reduction=4)
    kresnet.save_weights(model, tmp_path / "x.safetensors", layout=layout)
    assert {f"{name}.weight" for name in names.split()} <= set(load_file(tmp_path / "x.safetensors"))
    again = kresnet.RepVGG_D2se(**SMALL, se_reduction=4, weights=tmp_path / "x.safetensors")
    for ours, theirs in zip(again.weights, model.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_deployed_weights_have_the_names_of_its_authors(tmp_path):
    model = kresnet.reparameterize(kresnet.RepVGG_A0(**SMALL))
    deployed = kresnet.RepVGG_A0(**SMALL, deployed=True)
    deployed.set_weights(model.get_weights())
    kresnet.save_weights(deployed, tmp_path / "x.safetensors", layout="DingXiaoH")
    assert {"stage0.rbr_reparam.weight", "stage2.1.rbr_reparam.bias"} <= set(load_file(tmp_path / "x.safetensors"))
    again = kresnet.RepVGG_A0(**SMALL, deployed=True, weights=tmp_path / "x.safetensors")
    image = np.full((1, 32, 32, 3), 100, "uint8")
    np.testing.assert_array_equal(again(image), deployed(image))
    with pytest.raises(ValueError, match=r"differs in `deployed`: it is built with deployed=True"):
        kresnet.RepVGG_A0(**SMALL, weights=tmp_path / "x.safetensors")
