"""ImageNet's names, and what code for Keras's applications expects."""

import numpy as np
import pytest

import kresnet
from kresnet.weights import imagenet


def test_a_thousand_names():
    names = imagenet.labels()
    assert len(set(names)) == 1000
    assert (names[0], names[207], names[281], names[967]) == ("tench", "golden retriever", "tabby", "espresso")
    assert (names[134], names[517], names[638], names[639]) == (
        "crane (bird)", "crane (machine)", "maillot", "tank suit",
    )  # fmt: skip


def test_predictions_are_named():
    scores = np.zeros((2, 1000))
    scores[0, 285], scores[0, 281], scores[1, 999] = 0.7, 0.3, 1
    first, second = kresnet.decode_predictions(scores, top=2)
    assert first == [("n02124075", "Egyptian cat", 0.7), ("n02123045", "tabby", 0.3)]
    assert second[0] == ("n15075141", "toilet tissue", 1.0)
    with pytest.raises(ValueError, match=r"kresnet_config\['labels'\].*Received: shape=\(1, 5\)"):
        kresnet.decode_predictions(np.zeros((1, 5)))
    with pytest.raises(ValueError, match="must be finite"):
        kresnet.decode_predictions(scores * np.nan)


def test_preprocess_input_says_once_that_it_does_nothing():
    imagenet._say_once.cache_clear()
    x = [1]
    with pytest.warns(UserWarning, match="normalize them themselves") as said:
        assert kresnet.preprocess_input(x) is kresnet.preprocess_input(x) is x
    assert len(said) == 1
    with pytest.raises(ValueError, match="Received: data_format='channels_first'"):
        kresnet.preprocess_input([1], data_format="channels_first")
    assert kresnet.MobileNet is kresnet.MobileNetV1
