"""Augmentation policies against their papers, and where their random draws come from."""

import sys

import numpy as np
import pytest
import tensorflow as tf

from kresnet import cli
from kresnet.data import augment


@pytest.mark.slow
def test_every_draw_has_its_own_key():
    """Whatever Keras or keras-cv draws comes from keys: no graph holds an operation of a stateful generator."""
    for name in augment.POLICIES:
        policy = augment.policy(name, 64)

        @tf.function
        def run(image, key, policy=policy):
            for function in policy.pixels:
                image = function(image, key)
            return image

        specs = tf.TensorSpec((64, 64, 3), tf.float32), tf.TensorSpec((2,), tf.int64)
        graph = run.get_concrete_function(*specs).graph.as_graph_def()
        operations = {node.op for function in graph.library.function for node in function.node_def}
        operations |= {node.op for node in graph.node}
        stateful = {
            op for op in operations if op.startswith(("Random", "Stateful", "Multinomial", "ParameterizedTruncated"))
        }
        assert not stateful, name


def test_pad_crop_pads_with_the_mean_colour():
    image = tf.fill([32, 32, 3], 255.0)
    crops = [np.asarray(augment._pad_crop(image, tf.constant([0, i], tf.int64))) for i in range(8)]
    colours = {tuple(colour) for colour in np.reshape(crops, (-1, 3)).tolist()}
    assert colours == {(255, 255, 255), (125, 123, 114)}


def test_characters_are_not_mirrored():
    """Images whose left half is black are never mirrored with flip=False."""
    image = tf.concat([tf.zeros([32, 16, 1]), tf.fill([32, 16, 1], 255.0)], 1)
    for flip, expected in ((True, {True, False}), (False, {True})):
        (*_, last) = functions = augment.policy("cifar", 32, flip=flip).pixels
        assert (last is augment._flip) == flip
        keys = [tf.constant([0, i], tf.int64) for i in range(8)]
        found = set()
        for key in keys:
            x = image
            for function in functions:
                x = function(x, key)
            x = np.asarray(x).astype(int)
            found.add(bool(x[:, :16].sum() < x[:, 16:].sum()))
        assert found == expected


def test_windows_are_the_papers():
    shorter, areas, ratios = set(), [], []
    for i in range(300):
        key = tf.constant([i, 1], tf.int64)
        top, left, height, width = (int(v) for v in augment._scale_jitter(480, 640, 224, key))
        assert height == width
        assert 0 <= top <= 480 - height
        assert 0 <= left <= 640 - width
        shorter.add(round(480 * 224 / height))
        _, _, height, width = (int(v) for v in augment._distorted(480, 640, key))
        areas.append(height * width / (480 * 640))
        ratios.append(width / height)
    assert 255 <= min(shorter) <= 262
    assert 474 <= max(shorter) <= 481
    assert 0.075 < min(areas) < 0.15
    assert max(areas) > 0.8
    assert 0.73 < min(ratios) < 0.8
    assert 1.25 < max(ratios) < 1.36


def test_colour_jitter_equals_its_steps():
    """Brightness, contrast and saturation, applied one after the other in either order, equal our single step."""
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype("float32")
    key = tf.constant([5, 6], tf.int64)
    b, c, s = np.asarray(tf.random.stateless_uniform([3], augment.fold(key, 7), 0.6, 1.4))
    grey = np.array([0.299, 0.587, 0.114])

    def contrast(x):
        return c * x + (1 - c) * (x @ grey).mean()

    def saturation(x):
        return s * x + (1 - s) * (x @ grey)[..., None]

    x = image.astype(float)
    shift = np.asarray(augment._pca_shift(key))
    for one_by_one in (contrast(saturation(b * x)), b * saturation(contrast(x))):
        found = np.asarray(augment._colour(tf.constant(image), key))
        np.testing.assert_allclose(found, one_by_one + shift, rtol=1e-4, atol=1e-3)


def test_cutout_is_a_square_that_the_border_may_cut():
    image = tf.zeros((64, 64, 3))
    sizes = set()
    for i in range(60):
        grey = np.asarray(augment._cutout(image, tf.constant([i, 0], tf.int64)))[..., 0] > 0
        rows, columns = grey.any(1), grey.any(0)
        assert grey.sum() == rows.sum() * columns.sum()
        sizes.add((int(rows.sum()), int(columns.sum())))
    assert max(sizes) == (32, 32)
    assert 16 <= min(min(sides) for sides in sizes) < 20


@pytest.mark.parametrize(
    ("package", "arguments", "extra"),
    [
        ("keras_cv", ("--set", "augment=gridmask"), "augment"),
        ("sklearn.datasets", (), "examples"),
        ("tensorflow_datasets", ("--data", "tfds:mnist"), "datasets"),
    ],
)
def test_a_missing_extra_is_said_before_anything_starts(tmp_path, monkeypatch, capsys, package, arguments, extra):
    monkeypatch.setitem(sys.modules, package, None)
    given = ("train", "resnet20", "--data", "digits", "--out", str(tmp_path / "run"), *arguments)
    assert cli.main(given) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("Batches of")]
    assert line.startswith("kresnet: ")
    assert line.endswith(f"pip install 'kresnet[{extra}]'")
    assert not (tmp_path / "run").exists()


def test_recipes_need_no_extra(monkeypatch):
    """MixUp, CutMix, cutout and RandAugment come with Keras and Pillow."""
    monkeypatch.setitem(sys.modules, "keras_cv", None)
    for name in ("randaugment", "augmix", "cutout"):
        augment.policy(name, 64)
    x, y = augment.mixer(0.2, 1.0)(tf.zeros((4, 8, 8, 3), tf.uint8), tf.eye(4), tf.constant([0, 1], tf.int64))
    assert (x.shape, y.shape) == ((4, 8, 8, 3), (4, 4))
