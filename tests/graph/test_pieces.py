"""A network cut into pieces that compute what it does, one behind the other."""

import keras
import numpy as np
import pytest

import kresnet
from kresnet.graph.pieces import pieces


def test_pieces_in_a_row_are_the_network():
    keras.utils.set_random_seed(0)
    model = kresnet.MobileNetV2(
        table=[(1, 8, 1, 1), (3, 8, 2, 1)], stem_width=8, head_width=16, input_shape=(16, 16, 3)
    )
    found = pieces(model)
    images = np.random.default_rng(0).uniform(0, 255, (1, 16, 16, 3)).astype("float32")
    x = images
    for piece in found:
        x = keras.Model(piece.source, piece.result)(x)
    np.testing.assert_allclose(x, model(images), rtol=1e-5, atol=1e-7)
    assert len(found) == 5, "three convolutions without a shortcut, a block, the head"
    assert sum(kresnet.cost(piece.model()).macs for piece in found) == kresnet.cost(model).macs


def test_a_block_is_in_one_piece_with_its_shortcut():
    model = kresnet.ResNet(depths=(3,), widths=(8,), expansion=1, stem="conv3", input_shape=(16, 16, 3), classes=3)
    added = [piece for piece in pieces(model) if "Add" in piece.kind]
    assert len(added) == 3
    assert added[0].kind == added[1].kind, "two blocks of the same shapes are timed once"
    assert added[0].model().count_params() > 2 * 9 * 8 * 8


def test_what_cannot_be_cut():
    image = keras.Input((8, 8, 3))
    conv = keras.layers.Conv2D(3, 3, padding="same")
    with pytest.raises(ValueError, match=r"calls each layer once. Received: model="):
        pieces(keras.Model(image, conv(conv(image))))
