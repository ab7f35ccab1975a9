"""Convolution by a table of connections, against an ordinary one whose kernel has zeros."""

import keras
import numpy as np
import pytest

import kresnet
from kresnet.layers import SparseConv2D

TABLE = ((0, 2), (1,), (2, 3, 0))
X = np.random.default_rng(0).standard_normal((2, 7, 6, 4)).astype("float32")


def test_it_is_a_convolution_with_zeros():
    layer = SparseConv2D(3, (3, 5), TABLE, padding="same", strides=2)
    layer.build(X.shape)
    layer.bias.assign(np.arange(3))
    assert [tuple(weight.shape) for weight in layer.weights] == [(3, 5, 2 + 1 + 3), (3,)]
    kernel, own, connection = np.zeros((3, 5, 4, 3), "float32"), np.asarray(layer.kernel), 0
    for i, row in enumerate(TABLE):
        for channel in row:
            kernel[:, :, channel, i] = own[:, :, connection]
            connection += 1
    whole = keras.layers.Conv2D(3, (3, 5), padding="same", strides=2)
    whole.build(X.shape)
    whole.set_weights([kernel, np.arange(3)])
    np.testing.assert_allclose(layer(X), whole(X), atol=1e-6)


def test_a_file_brings_it_back_and_its_cost_is_its_connections_(tmp_path):
    image = keras.Input(X.shape[1:])
    model = keras.Model(image, SparseConv2D(3, 3, TABLE, name="sparse")(image))
    model.save(tmp_path / "x.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "x.keras")(X), model(X))
    assert kresnet.cost(model).macs == 5 * 4 * 9 * 6


@pytest.mark.parametrize("table", [((0,), (1,)), ((0,), (1,), ()), ((0, 0), (1,), (2,)), ((0,), (1,), (4,))])
def test_nonsense_is_refused(table):
    with pytest.raises(ValueError, match=r"`connections` .* Received: connections="):
        SparseConv2D(3, 3, table)(X)
