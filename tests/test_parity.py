"""With the same weights, our networks compute what the original PyTorch models computed."""

import keras
import numpy as np
import pytest
import reference

import kresnet
from kresnet import weights

# Stored network to builder, and the fields in which the stored one differs from it.
NETWORKS = {
    "torchvision:resnet18:224": ("resnet18", {}),
    "torchvision:resnet34:224": ("resnet34", {}),
    "torchvision:resnet50:224": ("resnet50", {}),
    "torchvision:resnet101:224": ("resnet101", {}),
    "torchvision:resnet152:224": ("resnet152", {}),
    "torchvision:resnext50_32x4d:224": ("resnext50_32x4d", {}),
    "torchvision:wide_resnet50_2:224": ("wide_resnet50_2", {}),
    "timm:seresnet50:224": ("seresnet50", {}),
    "timm:seresnext50_32x4d:224": ("seresnext50_32x4d", {}),
    "timm:legacy_senet154:224": ("senet154", {}),
    "timm:legacy_seresnet50:224": ("seresnet50", {"stride_in": "1x1", "stem_pool": "ceil"}),
    "timm:resnet50c:224": ("resnet50c", {}),
    "timm:resnet50d:224": ("resnet50d", {}),
    "timm:resnet26d:224": ("resnet26d", {}),
    "timm:resnetv2_50:224": ("resnetv2_50", {}),
    "akamaster:resnet20:32": ("resnet20", {}),
    "akamaster:resnet56:32": ("resnet56", {}),
    "xternalz:wrn_28_10:32": ("wrn_28_10", {}),
    "xternalz:wrn_16_8:32": ("wrn_16_8", {}),
    "kuangliu:preact_resnet18:32": ("resnetv2_18", {"stem": "conv3", "final_norm": False}),
    "prlz77:resnext29_8x64d:32": ("resnext29_8x64d", {}),
}


@pytest.mark.parametrize("key", NETWORKS)
def test_logits_and_parameters(key, tmp_path):
    name, fields = NETWORKS[key]
    source, _, size = key.split(":")
    expected = reference.LOGITS[key]
    model = kresnet.create_model(
        name,
        input_shape=(int(size), int(size), 3),
        classes=len(expected),
        classifier_activation=None,
        include_preprocessing=False,
        **fields,
    )
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == reference.LAYOUTS[key]["params"]
    layouts = [reference.AUTHORS[source]] if source in reference.AUTHORS else kresnet.get_builder(name).layouts
    weights.load(model, reference.checkpoint(key, tmp_path / "model.safetensors"), layouts)
    logits = keras.ops.convert_to_numpy(model(reference.image(int(size))))[0]
    assert np.abs(logits - expected).max() <= 1e-4 * expected.std()
