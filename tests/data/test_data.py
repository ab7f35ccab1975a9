"""Loading labelled images: which ones, in what order, and reproducibly."""

import collections
import logging

import keras
import numpy as np
import pytest
import tensorflow as tf
from pictures import COLOURS, write_folder
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_image

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


@pytest.mark.slow
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


def test_classes_of_a_folder(photos):
    dataset = data.load(photos, "all", SIZE, 30, shuffle=False)
    assert dataset.class_names == tuple(COLOURS)
    x, y = collect(dataset)
    for label, name in enumerate(COLOURS):
        mine = x[y == label]
        assert len(mine) == 10
        assert (mine.mean((0, 1, 2)).argmax()) == np.argmax(COLOURS[name])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("policy", "size"),
    [
        *((policy, 64) for policy in (*augment.POLICIES, None) if policy not in ("randaugment", "augmix")),
        pytest.param("augmix", 64, marks=pytest.mark.thorough),  # takes half a minute
        pytest.param("randaugment", 64, marks=pytest.mark.thorough),  # draws less than the next
        *(("randaugment-m7-mstd0.5-p0.5", 64), ("cifar", 32), (None, 32)),
    ],
)
def test_every_policy_repeats_an_epoch_and_draws_anew_in_the_next(photos, policy, size, monkeypatch):
    monkeypatch.setattr(augment, "AUGMIX_CHAINS", 2)  # `test_augment` traces all
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
    if policy:  # not only the order differs
        alike = {image.tobytes() for image in x} & {image.tobytes() for image in x2}
        assert len(alike) < 12


@pytest.mark.slow
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
    # Pixels and labels are mixed in the same proportions, as a batch of flat colours shows.
    flat = tf.cast(tf.reshape([0.0, 200.0], [2, 1, 1, 1]) * tf.ones([2, 96, 96, 3]), tf.uint8)
    for mixup, cutmix in ((0.4, 0.0), (0.0, 1.0)):
        x, y = augment.mixer(mixup, cutmix)(flat, tf.eye(2), tf.constant([3, 4], tf.int64))
        np.testing.assert_allclose(np.asarray(x).mean((1, 2, 3)) / 200, np.asarray(y)[:, 1], atol=0.02)


def test_repeats(photos):
    x, y = collect(data.load(photos, "train", SIZE, 12, augment="cifar", repeats=3))
    assert len(x) == 24
    groups = y.reshape(8, 3)
    assert (groups == groups[:, :1]).all()
    assert len({image.tobytes() for image in x}) > 16  # each repeat is augmented differently


def test_a_broken_image_raises_or_is_skipped(photos, tmp_path, caplog):
    folder = write_folder(tmp_path / "photos", count=4)
    broken = folder / "red" / "broken.jpg"
    broken.write_bytes((folder / "red" / "0.jpg").read_bytes()[:-300])
    with pytest.raises(Exception, match=f"{broken}: not a complete image"):
        collect(data.load(folder, "all", SIZE, 4, shuffle=False))
    dataset = data.load(folder, "all", SIZE, 4, shuffle=False, on_error="skip")
    with caplog.at_level(logging.WARNING, "kresnet"):
        x, _ = collect(dataset)
    assert len(x) == 12
    assert dataset.skipped == [str(broken)]
    assert str(broken) in caplog.text


def test_interpolation_is_pillows(tmp_path):
    """Whole images, upright and in RGB, whatever the file: shorter side to 40 = floor(38 / 0.95), then the centre."""
    photo = load_sample_image("flower.jpg")[:, ::2]  # 427 x 320
    upside_down = Image.Exif()
    upside_down[0x0112] = 3
    written = {
        "a/0.jpg": (Image.fromarray(photo), {"exif": upside_down}),
        "a/1.png": (Image.fromarray(photo).convert("L"), {}),
        "b/0.gif": (Image.fromarray(photo).quantize(32), {}),
        "b/1.png": (Image.fromarray(photo[:20, :16]), {}),  # grows
    }
    expected = []
    for name, (image, options) in written.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        image.save(tmp_path / name, **options)
        upright = ImageOps.exif_transpose(Image.open(tmp_path / name)).convert("RGB")
        rows = 50 if name == "b/1.png" else 53
        top = {50: 6, 53: 8}[rows]  # 7.5 is rounded to even
        expected.append(np.asarray(upright.resize((40, rows), Image.BICUBIC).crop((1, top, 39, top + 38))))
    dataset = data.load(tmp_path, "all", 38, 4, shuffle=False, crop_fraction=0.95, interpolation="bicubic")
    assert dataset.element_spec[0].shape == (None, 38, 38, 3)
    x, _ = collect(dataset)
    np.testing.assert_allclose(x.astype(int), expected, atol=1)
    plain = collect(data.load(tmp_path, "all", 38, 4, shuffle=False, crop_fraction=0.95))[0]
    assert np.abs(plain[0].astype(int) - expected[0]).max() > 20  # it is not antialiased

    (tmp_path / "b" / "2.jpg").write_bytes(b"no image")
    options = {"shuffle": False, "interpolation": "bilinear"}
    with pytest.raises(Exception, match=r"b/2\.jpg: not a complete image"):
        collect(data.load(tmp_path, "all", 38, 5, **options))
    assert len(collect(data.load(tmp_path, "all", 38, 5, on_error="skip", **options))[0]) == 4


def test_grey_images_are_the_colours_luminances(photos):
    for how in ({}, {"interpolation": "bicubic"}):
        (colours, _), (grey, _) = (
            next(iter(data.load(photos, "all", 24, 18, grey=one, **how))) for one in (False, True)
        )
        assert grey.shape == (18, 24, 24, 1)
        luminances = colours.numpy().astype("float64") @ [[0.2989], [0.587], [0.114]]
        assert np.abs(luminances - grey.numpy()).max() <= 1  # colours are rounded before, and luminances again
    for one in (False, True):
        assert next(iter(data.load("digits", "all", 8, 4, grey=one)))[0].shape == (4, 8, 8, 1)


def test_interpolation_of_pixels_in_memory():
    digits = collect(data.load("digits", "validation", 8, 400))[0]
    x, _ = collect(data.load("digits", "validation", 16, 400, interpolation="bicubic"))
    assert x.shape == (len(digits), 16, 16, 1)
    for image, digit in zip(x[:20], digits, strict=False):
        expected = Image.fromarray(digit[:, :, 0]).resize((16, 16), Image.BICUBIC)
        np.testing.assert_array_equal(image[:, :, 0], expected)


def test_bad_arguments(photos, tmp_path):
    (tmp_path / "a" / "empty").mkdir(parents=True)
    write_folder(tmp_path / "b", 1)
    (tmp_path / "b" / "empty").mkdir()
    for arguments, match in [
        ({"source": "nowhere"}, r"no such folder\. Received: 'nowhere'"),
        ({"source": tmp_path / "a"}, "holds one class only"),
        ({"source": tmp_path / "b"}, r"without an image.*Received: empty=\['empty'\]"),
        ({"augment": "cifra"}, r"Did you mean 'cifar'.* Received: augment='cifra'"),
        ({"augment": "randaugment-x3"}, "RandAugment is written as"),
        ({"cutmix": 1.5}, r"a number in \[0, 1\]\. Received: cutmix=1\.5"),
        ({"batch_size": 1000}, r"do not fill a batch\. Received: batch_size=1000"),
        ({"on_error": "ignore"}, "Received: on_error='ignore'"),
        ({"split": "dev"}, "Received: split='dev'"),
        ({"interpolation": "cubic"}, r"Did you mean 'bicubic'.* Received: interpolation='cubic'"),
        ({"interpolation": "bicubic", "augment": "cifar"}, "not augmented. Received: interpolation='bicubic', augment"),
        *(
            ({"source": f"tfds:{name}"}, f"Received: 'tfds:{name}'$")
            for name in ("no_such_set", "", "a/b/c", "mnist:9.9.9")
        ),
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


def test_tfds_stream(tfds, tmp_path):
    """Records of JPEGs of several sizes, written by a builder of tensorflow-datasets, are streamed and not held."""
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


def test_autotuning_is_off_unless_it_is_asked_for():
    assert data.load("digits", "train", 16, 64).options().autotune.enabled is False
    arrays = (np.zeros((2, 4)), np.zeros(2))
    assert data.without_tuning(arrays) is arrays
    assert data.without_tuning(None) is None
    on = tf.data.Options()
    on.autotune.enabled = True
    assert data.without_tuning(tf.data.Dataset.range(3).with_options(on)).options().autotune.enabled is True


def test_fit_counts_epochs(photos):
    layers = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3, "softmax")]
    model = keras.Sequential([keras.Input((SIZE, SIZE, 3)), *layers])
    model.compile("sgd", "sparse_categorical_crossentropy")
    dataset = data.load(photos, "train", SIZE, 8)
    model.fit(dataset, epochs=2, verbose=0, shuffle=False)
    assert dataset.epochs.next == 2
