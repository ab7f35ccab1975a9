"""A network that computes its blocks twice learns what it does otherwise, in less memory."""

import keras
import numpy as np
import pytest
from networks import shallow

import kresnet
from kresnet.graph.places import block
from kresnet.graph.remat import rematerialized

X, Y = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3)).astype("uint8"), np.arange(8) % 5


def trained(remat, key, **fields):
    """Returns a network after two steps; the seeds of its dropout are among its variables."""
    keras.utils.set_random_seed(0)
    model = shallow(key, 32, classes=5, **fields)
    if remat:
        model.rematerialize()
    model.compile(keras.optimizers.SGD(0.1), loss="sparse_categorical_crossentropy")
    for _ in range(2):
        model.train_on_batch(X, Y)
    return model


@pytest.mark.parametrize(
    ("key", "fields"),
    [
        pytest.param("densenet121", {"dropout_rate": 0.2}, marks=pytest.mark.thorough),
        pytest.param("resnetv2_18", {"drop_path_rate": 0.2}, marks=pytest.mark.slow),
    ],
)
def test_what_is_learned_is_the_same(key, fields):
    plain, again = trained(False, key, **fields), trained(True, key, **fields)
    for one, other in zip(plain.variables, again.variables, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5, err_msg=one.path)
    np.testing.assert_allclose(plain.predict(X, verbose=0), again.predict(X, verbose=0), atol=1e-4)


def test_only_what_lies_between_blocks_is_kept(monkeypatch):
    """Of a dense block's layers each has a few channels of its own; their concatenations are made again."""
    model = shallow("densenet121", 32, classes=5)
    kept = []

    def spied(function):
        def called(given, weights):
            kept.extend(leaf for leaves in given for leaf in leaves)
            return function(given, weights)

        return called

    monkeypatch.setattr(keras, "remat", spied)
    forward = rematerialized(model, lambda name: block(name) or name)
    predictions = forward(X.astype("float32"))
    np.testing.assert_allclose(predictions, model(X, training=True), atol=1e-5)
    channels = {int(tensor.shape[-1]) for tensor in kept if len(tensor.shape) == 4}
    widest = max(layer.output.shape[-1] for layer in model.layers if isinstance(layer, keras.layers.Concatenate))
    assert channels <= {3, 16, 8}  # the image, the stem and the transition, and the growth rate
    assert widest == 32


def test_what_cannot_be(tmp_path):
    first, second = keras.Input((4,)), keras.Input((4,))
    model = kresnet.graph.network.Network([first, second], keras.layers.Add()([first, second]))
    with pytest.raises(ValueError, match=r"needs a functional model of one input. Received: model="):
        model.rematerialize()
    image = keras.Input((8, 8, 1))
    plain = keras.Model(image, keras.layers.Dense(10, activation="softmax")(keras.layers.Flatten()(image)))
    with pytest.raises(ValueError, match=r"`remat` is for networks of ours on one device. Received: .*'Functional'"):
        kresnet.train(plain, "digits", out=tmp_path / "run", remat=True, verbose=False)
