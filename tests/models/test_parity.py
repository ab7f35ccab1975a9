"""With the same weights, our networks compute what the original PyTorch models computed."""

import keras
import numpy as np
import pytest
import reference
from networks import DAILY, kind

import kresnet
from kresnet import weights

# Of many weights or layers, all of whose parts others have.
HUGE = {
    *("timm:legacy_senet154:224", "torchvision:wide_resnet101_2:65", "torchvision:wide_resnet50_2:224"),
    *("timm:efficientnet_b7:65", "torchvision:efficientnet_v2_s:65", "timm:seresnet152d:65"),
    *("torchvision:vgg13_bn:65", "torchvision:vgg19:65", "timm:resnext101_32x4d:65", "timm:efficientnetv2_s:65"),
}


def like_others():
    """Returns the stored networks that are neither their source's smallest of a kind nor its largest of a family; and
    the huge ones."""
    smallest, largest = {}, {}
    for key in sorted(reference.NETWORKS, key=lambda key: reference.LAYOUTS[key]["params"]):
        (name, fields), source = reference.NETWORKS[key], key.split(":")[0]
        smallest.setdefault((source, kind(name), str(fields)), key)
        largest[source, kresnet.get_builder(name).family.name] = key
    return reference.NETWORKS.keys() - {*smallest.values(), *largest.values()} | HUGE


def marked_keys():
    """Yields the stored networks, marked by how often they are compared."""
    like = like_others()
    for key, (name, _) in reference.NETWORKS.items():
        thorough = [pytest.mark.thorough] if key in like else []
        yield key if name in DAILY else pytest.param(key, marks=[pytest.mark.slow, *thorough])


def test_every_stored_network_of_ours_is_compared():
    assert len(reference.NETWORKS) == 87


@pytest.mark.parametrize("key", list(marked_keys()))
def test_logits_and_parameters(key, tmp_path, undrawn_weights):
    name, fields = reference.NETWORKS[key]
    size = key.split(":")[2]
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
    layouts = kresnet.get_builder(name).layouts
    weights.load(model, reference.checkpoint(key, tmp_path / "model.safetensors"), layouts)
    outputs = model(reference.image(int(size)))
    logits = keras.ops.convert_to_numpy(outputs["predictions"] if isinstance(outputs, dict) else outputs)[0]
    assert np.abs(logits - expected).max() <= 1e-4 * expected.std()
