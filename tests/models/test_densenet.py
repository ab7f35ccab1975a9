"""DenseNet: what its layers take and add, counted by the paper's rules and not by the network."""

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file

import kresnet

SMALL = {"depths": (2, 3), "growth_rate": 4, "stem_width": 8, "input_shape": (32, 32, 3), "classes": 3}


def counted(depths, growth, stem, kernel, bottleneck, compression, classes):
    """The parameters by the paper's sections 3 and 4.1: of norms two a channel, of convolutions no bias."""
    total, channels = 3 * kernel * kernel * stem, stem
    total += 2 * stem if kernel == 7 else 0
    for stage, depth in enumerate(depths):
        for _ in range(depth):
            if bottleneck:
                total += 2 * channels + channels * 4 * growth + 2 * 4 * growth + 9 * 4 * growth * growth
            else:
                total += 2 * channels + 9 * channels * growth
            channels += growth
        if stage < len(depths) - 1:
            kept = int(channels * compression)
            total, channels = total + 2 * channels + channels * kept, kept
    return total + 2 * channels + (channels + 1) * classes


@pytest.mark.parametrize(
    ("key", "rules"),
    [
        ("densenet121", ((6, 12, 24, 16), 32, 64, 7, True, 0.5, 1000)),
        ("densenet264", ((6, 12, 64, 48), 32, 64, 7, True, 0.5, 1000)),
        ("densenet40_12", ((12, 12, 12), 12, 16, 3, False, 1.0, 10)),  # (40 - 4) / 3 layers
        ("densenetbc100_12", ((16, 16, 16), 12, 24, 3, True, 0.5, 10)),  # (100 - 4) / 6
        ("densenetbc190_40", ((31, 31, 31), 40, 80, 3, True, 0.5, 10)),
    ],
)
def test_parameters_are_the_paper_s(key, rules):
    from kresnet.models import catalogue

    (row,) = catalogue.rows(key)
    assert int(row["parameters"]) == counted(*rules)


def test_each_layer_takes_all_maps_before_it():
    model = kresnet.DenseNet121(**SMALL)
    widths = {layer.name: layer.output.shape[-1] for layer in model.layers if layer.name.endswith("_concat")}
    stage3 = (8 + 2 * 4) // 2
    assert list(widths.values()) == [8 + 4, 8 + 8, stage3 + 4, stage3 + 8, stage3 + 12]
    assert model.get_layer("stage3_block2_conv1").input.shape[-1] == stage3 + 4
    assert model.get_layer("stage3_block2_conv1").output.shape[-1] == 4 * 4  # the bottleneck, section 3
    names = [layer.name for layer in model.layers]
    assert names.index("stage3_block2_norm1") < names.index("stage3_block2_act1") < names.index("stage3_block2_conv1")


def test_fields():
    plain = kresnet.DenseNet121(**SMALL | {"bottleneck": None, "compression": 1.0, "stem": "conv3"})
    assert not any(layer.name.endswith("_conv2") for layer in plain.layers)
    assert plain.get_layer("stage2_transition_conv").output.shape[1:] == (32, 32, 16)
    dropped = kresnet.DenseNet121(**SMALL, dropout_rate=0.2)
    assert sum(isinstance(layer, keras.layers.Dropout) for layer in dropped.layers) == 2 * 5 + 1
    maps = kresnet.DenseNet121(**SMALL | {"depths": (1, 1, 1, 1)}, features=True)
    assert maps.feature_strides == {"stage2": 4, "stage3": 8, "stage4": 16, "stage5": 32}
    scaled = kresnet.DenseNet121.spec.scaled(1.0, 1.5)
    assert (scaled.growth_rate, scaled.stem_width, scaled.depths) == (48, 96, (6, 12, 24, 16))
    for field, value in {"compression": 0, "growth_rate": 0, "stem": "deep", "bottleneck": 0, "depths": ()}.items():
        with pytest.raises(ValueError, match="Received: "):
            kresnet.DenseNet121(**SMALL | {field: value})


def test_weights_go_out_and_come_back(tmp_path):
    model = kresnet.DenseNet121(**SMALL)
    kresnet.save_weights(model, tmp_path / "x.safetensors", layout="torchvision")
    names = set(load_file(tmp_path / "x.safetensors"))
    assert {"features.conv0.weight", "features.denseblock2.denselayer3.norm2.running_var"} <= names
    assert {"features.transition1.conv.weight", "features.norm5.bias", "classifier.weight"} <= names
    again = kresnet.DenseNet121(**SMALL, weights=tmp_path / "x.safetensors")
    for ours, theirs in zip(again.weights, model.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
