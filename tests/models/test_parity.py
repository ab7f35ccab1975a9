"""With the same weights, our networks compute what the original PyTorch models computed."""

import keras
import numpy as np
import pytest
import reference
from networks import DAILY, kind

import kresnet
from kresnet import weights


def between_siblings():
    """Returns the stored networks that are neither the smallest nor the largest of their kind from their source."""
    siblings = {}
    for key, (name, fields) in reference.NETWORKS.items():
        siblings.setdefault((key.split(":")[0], kind(name), str(fields)), []).append(key)
    by_size = [sorted(keys, key=lambda key: reference.LAYOUTS[key]["params"]) for keys in siblings.values()]
    return {key for keys in by_size for key in keys[1:-1]}


def marked_keys():
    """Yields the stored networks, marked by how often they are compared."""
    between = between_siblings()
    for key, (name, _) in reference.NETWORKS.items():
        thorough = [pytest.mark.thorough] if key in between else []
        yield key if name in DAILY else pytest.param(key, marks=[pytest.mark.slow, *thorough])


def test_every_stored_network_of_ours_is_compared():
    assert len(reference.NETWORKS) == 70


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
    logits = keras.ops.convert_to_numpy(model(reference.image(int(size))))[0]
    assert np.abs(logits - expected).max() <= 1e-4 * expected.std()
