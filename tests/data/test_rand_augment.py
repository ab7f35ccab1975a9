"""RandAugment: what its operations do to an image, and how they are drawn."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from sklearn.datasets import load_sample_image

from kresnet.data import augment, rand_augment

PHOTO = np.ascontiguousarray(load_sample_image("flower.jpg")[100:196, 200:296])
BY_STRENGTH = set(rand_augment.OPERATIONS) - {"identity", "autocontrast", "equalize"}


@pytest.mark.parametrize("pixels", [PHOTO, PHOTO[:, :, 0]])
def test_operations_grow_with_their_strength(pixels):
    image = Image.fromarray(pixels)
    for name in BY_STRENGTH - ({"color"} if pixels.ndim == 2 else set()):
        changes = [
            np.abs(np.asarray(rand_augment.OPERATIONS[name](image, s)).astype(int) - pixels).mean()
            for s in (0.0, 0.3, -0.9)
        ]
        assert changes[0] < 0.01, name
        assert 0 < changes[1] < changes[2], name


def test_the_largest_strength_is_autoaugment_s():
    image = Image.fromarray(PHOTO)
    made = {name: np.asarray(operation(image, 1.0)) for name, operation in rand_augment.OPERATIONS.items()}
    np.testing.assert_array_equal(made["solarize"], 255 - PHOTO)
    np.testing.assert_array_equal(made["posterize"], PHOTO // 16 * 16)
    np.testing.assert_allclose(made["brightness"], np.minimum(PHOTO * 1.9, 255), atol=1)
    moved = round(0.45 * 96)
    assert (made["translate-x"][:, -moved + 1 :] == rand_augment.GREY).all()
    np.testing.assert_allclose(made["translate-y"][:40].mean(), PHOTO[43:83].mean(), atol=1)
    assert made["autocontrast"].min() == 0
    assert made["autocontrast"].max() == 255


def run(name, keys):
    (*_, function) = augment.policy(name, 96).pixels
    image = tf.constant(PHOTO, tf.float32)
    data = tf.data.Dataset.range(keys).map(lambda i: function(image, tf.stack([tf.constant(7, tf.int64), i])))
    return np.stack([np.asarray(x) for x in data])


def test_draws_come_from_the_key():
    first = run("randaugment", 60)
    np.testing.assert_array_equal(first, run("randaugment", 60))
    assert len({x.tobytes() for x in first}) > 40
    changed = (run("randaugment-n1-m9-p0.5", 300) != PHOTO).any((1, 2, 3)).mean()
    assert 0.37 < changed < 0.56  # half, less the identity's fourteenth
    for nothing in ("randaugment-p0", "randaugment-n0"):
        assert (run(nothing, 5) == PHOTO).all()


def test_wrong_numbers_are_refused():
    for name in ("randaugment-x3", "randaugment-m11", "randaugment-p1.5", "randaugment-n1.5"):
        with pytest.raises(ValueError, match=f"Received: augment='{name}'"):
            augment.policy(name, 96)
    with pytest.raises(ValueError, match=r"of 1 or 3 channels\. Received: channels=4"):
        augment.policy("randaugment", 96).pixels[-1](tf.zeros((96, 96, 4)), tf.zeros(2, tf.int64))
