"""A model in a model is dissolved into its layers."""

import keras
import numpy as np
from rewriting import randomise

import kresnet
from kresnet.graph.rebuild import flattened
from kresnet.graph.trace import nested

L = keras.layers
IMAGES = np.random.default_rng(0).integers(0, 256, (32, 16, 16, 3)).astype("uint8")


def network(inside=False):
    keras.utils.set_random_seed(0)
    body = kresnet.ResNet(depths=(1,), widths=(8,), stem="conv3", include_top=False, input_shape=(16, 16, 3))
    image = keras.Input((16, 16, 3)) if inside else body.input
    features = body(image, training=False) if inside else body.output
    return randomise(keras.Model(image, L.Dense(3, "softmax")(L.Flatten()(features))))


def test_a_nested_model_is_dissolved():
    model = network(inside=True)
    whole = keras.Sequential([keras.Input((16, 16, 3)), L.RandomFlip(), model, L.Dense(2, name="predictions")])
    flat = flattened(whole)
    assert not nested(flat)
    assert flat.count_params() == whole.count_params()
    np.testing.assert_array_equal(flat(IMAGES, training=False), whole(IMAGES, training=False))
    plain = network()
    assert flattened(plain) is plain


def test_names_that_occur_twice():
    inner = keras.Sequential([keras.Input((4,)), L.Dense(4, name="dense"), L.Dropout(0.5, name="drop")], name="inner")
    image = keras.Input((4,))
    x = L.Dropout(0.5, name="drop")(L.Dense(4, name="dense")(image))
    model = keras.Model(image, inner(x))
    flat = flattened(model)
    assert [layer.name for layer in flat.layers[1:]] == ["dense", "drop", "inner_dense", "inner_drop"]
    values = np.ones((64, 4), "float32")
    np.testing.assert_allclose(flat(values), model(values), rtol=1e-6)
    assert len(np.unique(np.round(flat(values, training=True), 4), axis=0)) > 1
