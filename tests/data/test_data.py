"""Labelled images into batches: which, in what order, and the same again."""

import collections
import logging

import keras
import numpy as np
import pytest
import tensorflow as tf
from pictures import COLOURS, write_folder

from kresnet import data
from kresnet.data import augment

SIZE = 32


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data") / "photos", count=10)


def collect(dataset):
    batches = [(np.asarray(x), np.asarray(y)) for x, y in dataset]
    return np.concatenate([x for x, _ in batches]), np.concatenate([y for _, y in batches])


def test_digits():
    train, held_out = (data.load("digits", split, 16, 50) for split in ("train", "validation"))
    assert train.class_names == held_out.class_names == tuple("0123456789")
    assert train.examples + held_out.examples == 1797
    assert (len(train), len(held_out)) == (train.examples // 50, -(-held_out.examples // 50))
    x, y = collect(held_out)
    assert (x.shape, x.dtype, y.dtype) == ((held_out.examples, 16, 16, 1), "uint8", "int64")
    assert x.max() == 255
    assert min(collections.Counter(y.tolist()).values()) >= 34  # a fifth of each class


def test_splits_share_nothing_and_depend_on_the_seed(photos):
    def contents(split, seed):
        x, y = collect(data.load(photos, split, SIZE, 4, split_seed=seed, seed=3, shuffle=False))
        return {image.tobytes() for image in x}, y

    for seed in (0, 1):
        (train, labels), (held_out, held_labels) = contents("train", seed), contents("validation", seed)
        assert len(train) == 24
        assert len(held_out) == 6
        assert not train & held_out
        assert np.bincount(labels).tolist() == [8, 8, 8]
        assert np.bincount(held_labels).tolist() == [2, 2, 2]
    assert contents("validation", 0)[0] != contents("validation", 1)[0]


def test_folder_with_its_own_splits(tmp_path):
    for name, count in (("train", 3), ("Val", 2)):
        write_folder(tmp_path / name, count)
    assert data.load(tmp_path, "train", SIZE, 3).examples == 9
    assert data.load(tmp_path, "validation", SIZE, 3).examples == 6
    with pytest.raises(ValueError, match=r"has the splits train, validation\. Received: split='all'"):
        data.load(tmp_path, "all", SIZE, 3)


def test_folder_s_classes(photos):
    dataset = data.load(photos, "all", SIZE, 30, shuffle=False)
    assert dataset.class_names == tuple(COLOURS)
    x, y = collect(dataset)
    for label, name in enumerate(COLOURS):
        mine = x[y == label]
        assert len(mine) == 10
        assert (mine.mean((0, 1, 2)).argmax()) == np.argmax(COLOURS[name])


@pytest.mark.parametrize("policy", [*augment.POLICIES, "randaugment-m7-mstd0.5-p0.5", None])
@pytest.mark.parametrize("size", [32, 64])
def test_every_policy_gives_the_same_again_and_other_draws_in_another_pass(photos, policy, size):
    dataset = data.load(photos, "train", size, 12, augment=policy)
    (x, y), (x2, _) = collect(dataset), collect(dataset)
    assert (x.shape, x.dtype) == ((24, size, size, 3), "uint8")
    assert dataset.element_spec[0].shape == (12, size, size, 3)
    assert x.std() > 10
    assert sorted(y) == [0] * 8 + [1] * 8 + [2] * 8
    dataset.epochs.next = 0
    again, labels = collect(dataset)
    assert (again == x).all()
    assert (labels == y).all()
    assert (collect(data.load(photos, "train", size, 12, augment=policy))[0] == x).all()
    assert (x2 != x).any()
    if policy:  # not the order alone
        alike = {image.tobytes() for image in x} & {image.tobytes() for image in x2}
        assert len(alike) < 12


def test_every_draw_has_its_own_key():
    """Nothing that keras-cv or Keras draws is left to generators with a state: no graph has their operations."""
    for name in augment.POLICIES:
        policy = augment.policy(name, 64)

        @tf.function
        def run(image, key, policy=policy):
            for function in policy.pixels:
                image = function(image, key)
            return image

        specs = tf.TensorSpec((64, 64, 3), tf.float32), tf.TensorSpec((2,), tf.int64)
        graph = run.get_concrete_function(*specs).graph.as_graph_def()
        kinds = {node.op for function in graph.library.function for node in function.node_def}
        kinds |= {node.op for node in graph.node}
        stateful = {k for k in kinds if k.startswith(("Random", "Stateful", "Multinomial", "ParameterizedTruncated"))}
        assert not stateful, name


def test_pad_crop_pads_with_the_mean_colour():
    image = tf.fill([32, 32, 3], 255.0)
    crops = [np.asarray(augment._pad_crop(image, tf.constant([0, i], tf.int64))) for i in range(8)]
    colours = {tuple(colour) for colour in np.reshape(crops, (-1, 3)).tolist()}
    assert colours == {(255, 255, 255), (125, 123, 114)}


def test_characters_are_not_mirrored():
    """Digits whose left half is black keep it so, wherever they are cropped."""
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


def test_mixup_and_cutmix(photos):
    for options in ({"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.2, "cutmix": 1.0}):
        dataset = data.load(photos, "train", SIZE, 8, **options)
        x, y = collect(dataset)
        assert x.dtype == np.uint8
        assert y.shape == (24, 3)
        np.testing.assert_allclose(y.sum(1), 1, atol=1e-5)
        assert ((y > 0.05) & (y < 0.95)).any()
        dataset.epochs.next = 0
        assert (collect(dataset)[0] == x).all()
    # The pixels' shares are the labels': a batch of flat colours shows them.
    flat = tf.cast(tf.reshape([0.0, 200.0], [2, 1, 1, 1]) * tf.ones([2, 96, 96, 3]), tf.uint8)
    for mixup, cutmix in ((0.4, 0.0), (0.0, 1.0)):
        x, y = augment.mixer(mixup, cutmix)(flat, tf.eye(2), tf.constant([3, 4], tf.int64))
        np.testing.assert_allclose(np.asarray(x).mean((1, 2, 3)) / 200, np.asarray(y)[:, 1], atol=0.02)


def test_repeats(photos):
    x, y = collect(data.load(photos, "train", SIZE, 12, augment="cifar", repeats=3))
    assert len(x) == 24
    groups = y.reshape(8, 3)
    assert (groups == groups[:, :1]).all()
    assert len({image.tobytes() for image in x}) > 16  # each augmented anew


def test_a_broken_image_raises_or_is_skipped(photos, tmp_path, caplog):
    folder = write_folder(tmp_path / "photos", count=4)
    broken = folder / "red" / "broken.jpg"
    broken.write_bytes((folder / "red" / "0.jpg").read_bytes()[:-300])
    with pytest.raises(Exception, match=f"{broken}: not a whole image"):
        collect(data.load(folder, "all", SIZE, 4, shuffle=False))
    dataset = data.load(folder, "all", SIZE, 4, shuffle=False, on_error="skip")
    with caplog.at_level(logging.WARNING, "kresnet"):
        x, _ = collect(dataset)
    assert len(x) == 12
    assert dataset.skipped == [str(broken)]
    assert str(broken) in caplog.text


def test_bad_arguments(photos, tmp_path):
    (tmp_path / "a" / "empty").mkdir(parents=True)
    write_folder(tmp_path / "b", 1)
    (tmp_path / "b" / "empty").mkdir()
    for arguments, match in [
        ({"source": "nowhere"}, r"no such folder\. Received: 'nowhere'"),
        ({"source": tmp_path / "a"}, "holds one class"),
        ({"source": tmp_path / "b"}, r"without an image.*Received: empty=\['empty'\]"),
        ({"augment": "cifra"}, r"Did you mean 'cifar'.* Received: augment='cifra'"),
        ({"augment": "randaugment-x3"}, "RandAugment is written as"),
        ({"batch_size": 1000}, r"make no whole batch\. Received: batch_size=1000"),
        ({"on_error": "ignore"}, "Received: on_error='ignore'"),
        ({"split": "dev"}, "Received: split='dev'"),
        ({"source": "tfds:no_such_set"}, "Received: 'tfds:no_such_set'"),
    ]:
        with pytest.raises(ValueError, match=match):
            data.load(**{"source": photos, "image_size": SIZE} | arguments)


# tensorflow-datasets


@pytest.fixture(scope="module")
def tfds():
    return pytest.importorskip("tensorflow_datasets")


def test_tfds_mock(tfds):
    with tfds.testing.mock_data(num_examples=20):
        dataset = data.load("tfds:cifar10", "train", 32, 5, augment="cifar")
        assert len(dataset.class_names) == 10
        assert dataset.examples == 20
        x, y = collect(dataset)
        assert x.shape == (20, 32, 32, 3)
        assert y.max() < 10
        assert collect(data.load("tfds:mnist", "validation", 32, 5))[0].shape == (20, 32, 32, 1)


def test_tfds_set_of_its_own_records(tfds, tmp_path):
    """A set that its builder writes as TFRecords of JPEGs of several sizes: they stream, and only crops are decoded."""
    keras.utils.set_random_seed(0)  # as `train` does
    folder = write_folder(tmp_path / "source", 8, kinds=("jpeg",))

    class Colours(tfds.core.GeneratorBasedBuilder):
        pkg_dir_path = folder
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(names=list(COLOURS))}
            features = tfds.features.FeaturesDict(features)
            return tfds.core.DatasetInfo(builder=self, features=features, supervised_keys=("image", "label"))

        def _split_generators(self, manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for path in sorted(folder.rglob("*.jpg")):
                yield str(path), {"image": str(path), "label": path.parent.name}

    Colours(data_dir=tmp_path).download_and_prepare()
    train = data.load("tfds:colours", "train", SIZE, 4, augment="inception", data_dir=tmp_path)
    held_out = data.load("tfds:colours", "validation", SIZE, 4, data_dir=tmp_path)
    assert train.examples + held_out.examples == 24
    x, y = collect(train)
    assert len(x) == train.examples // 4 * 4
    for label, colour in enumerate(COLOURS.values()):
        assert x[y == label].mean((0, 1, 2)).argmax() == np.argmax(colour)
    first_order = y.tolist()
    assert collect(train)[1].tolist() != first_order
    train.epochs.next = 0
    assert (collect(train)[0] == x).all()


def test_fit_does_not_wait_for_tf_data_s_tuning_thread():
    assert data.load("digits", "train", 16, 64).options().autotune.enabled is False
    arrays = (np.zeros((2, 4)), np.zeros(2))
    assert data.without_tuning(arrays) is arrays
    assert data.without_tuning(None) is None
    asked = tf.data.Options()
    asked.autotune.enabled = True
    assert data.without_tuning(tf.data.Dataset.range(3).with_options(asked)).options().autotune.enabled is True


def test_fit_takes_it(photos):
    layers = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3, "softmax")]
    model = keras.Sequential([keras.Input((SIZE, SIZE, 3)), *layers])
    model.compile("sgd", "sparse_categorical_crossentropy")
    dataset = data.load(photos, "train", SIZE, 8)
    model.fit(dataset, epochs=2, verbose=0, shuffle=False)
    assert dataset.epochs.next == 2


def test_colours_are_jittered_as_one_by_one():
    """One matrix does what brightness, contrast and saturation do in turn, in either order."""
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
