"""Sample images: from any kind of dataset, drawn at random, or synthetic."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kresnet.data.samples import batches, draw, full_range, natural_images

SHAPE = (8, 10, 3)
X = np.random.default_rng(0).integers(0, 256, (70, *SHAPE), "uint8")
Y = np.arange(70) % 7


class Sequence(keras.utils.PyDataset):
    def __len__(self):
        return 7

    def __getitem__(self, index):
        return X[10 * index :][:10], keras.utils.to_categorical(Y, 7)[10 * index :][:10]


@pytest.mark.parametrize(
    "data",
    [
        (X, Y),
        tf.data.Dataset.from_tensor_slices((X, Y)).batch(16),
        tf.data.Dataset.from_tensor_slices((X, Y)),
        Sequence(),
        [(X[:30], Y[:30]), (X[30:], Y[30:, None])],
        X,
        [X[:50], X[50:]],
    ],
    ids=["arrays", "batched", "single", "PyDataset", "list", "images", "list of images"],
)
def test_batches_go_through_all_images(data):
    images, labels = zip(*batches(data, SHAPE, "data"), strict=True)
    np.testing.assert_array_equal(np.concatenate(images), X)
    if labels[0] is not None:
        np.testing.assert_array_equal(np.concatenate(labels), Y)


def test_unsuitable_data_are_refused():
    for data, words in (
        (X[:, :5], r"`data` must hold images of shape \(8, 10, 3\).* Received: shape=\(32, 5, 10, 3\)"),
        (tf.data.Dataset.from_tensors(X).repeat(), "never ends"),
        (X[:0], r"`data` holds no images"),
        ([], r"`data` holds no images"),
        ([(X, Y[:3])], r"one label for each image. Received: images=70, labels=3"),
    ):
        with pytest.raises(ValueError, match=words):
            list(batches(data, SHAPE, "data"))


def test_a_draw_is_random_and_the_same_each_time():
    drawn = draw((X, Y), 20, SHAPE, "data")
    np.testing.assert_array_equal(drawn, draw((X, Y), 20, SHAPE, "data"))
    places = [int(np.flatnonzero((image == X).all(axis=(1, 2, 3)))[0]) for image in drawn]
    assert len(set(places)) == 20
    assert max(places) > 40  # not the first ones
    assert len(draw(X, 100, SHAPE, "data")) == 70


def test_synthetic_images_have_the_spectrum_of_photographs():
    images = natural_images(32, (64, 64, 3))
    assert images.shape == (32, 64, 64, 3)
    assert images.flags.c_contiguous  # otherwise a file's latency would include reordering them
    images = images.astype("float64")
    spectrum = (np.abs(np.fft.fft2(images.mean(-1), axes=(1, 2))) ** 2).mean(0)
    frequency = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(64))
    some = (frequency > 0.03) & (frequency < 0.3)
    slope = np.polyfit(np.log(frequency[some]), np.log(spectrum[some]), 1)[0]
    assert -2.3 < slope < -1.6  # power falls with the square
    assert 90 < images.mean() < 150
    assert np.corrcoef(images[..., 0].ravel(), images[..., 2].ravel())[0, 1] > 0.7


def test_calibration_is_stretched_to_the_full_range_and_gets_no_lone_pixels():
    images = np.random.default_rng(0).integers(20, 60, (3, 8, 8, 1)).astype("uint8")
    images[1, 0, 0] = 100
    full = full_range(images)
    assert (full[1].min(), full[1].max()) == (0, 255)
    assert np.corrcoef(full[1].ravel(), images[1].ravel())[0, 1] == pytest.approx(1)
    np.testing.assert_array_equal(full[[0, 2]], images[[0, 2]])
    flat = full_range(np.full((2, 4, 4, 3), 9, "uint8"))
    assert (flat.min(), flat.max()) == (0, 255)
