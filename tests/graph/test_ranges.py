"""Which numbers a model's first layers are made for, and what is done about images of others."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import kresnet
from kresnet.graph.inputs import input_range
from kresnet.graph.outputs import output_kind
from kresnet.graph.ranges import RangeCheck

L = keras.layers
IMAGES = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3)).astype("uint8")
LABELS = np.arange(16) % 4
PIXELS, UNIT, SIGNED, DEEP = (0, 255), (0, 1), (-1, 1), (0, 65535)


def net(first=None, **fields):
    image = keras.Input((8, 8, 3))
    tensor = image if first is None else first(image)
    return kresnet.ResNet(depths=(1,), widths=(4,), stem="conv3", classes=4, input_tensor=tensor, **fields)


raw = functools.partial(net, include_preprocessing=False)


def adapted(scale):
    layer = L.Normalization()
    layer.adapt(IMAGES * float(scale))
    return layer


def chain(*layers):
    return lambda x: functools.reduce(lambda x, layer: layer(x), layers, x)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "wanted"),
    {
        "ours": (net, PIXELS),
        "ours without preprocessing": (raw, None),
        "own mean and deviation": (lambda: net(mean=(0.1, 0.2, 0.3), std=(0.9, 0.8, 0.7)), PIXELS),
        "grey": (lambda: kresnet.ResNet(depths=(1,), widths=(4,), stem="conv3", input_shape=(8, 8, 1)), PIXELS),
        "[0, 1] made pixels": (lambda: net(L.Rescaling(255.0)), UNIT),
        "[-1, 1] made pixels": (lambda: net(L.Rescaling(127.5, 127.5)), SIGNED),
        "16 bits made pixels": (lambda: net(L.Rescaling(1 / 257)), DEEP),
        "scaled twice by mistake": (lambda: net(L.Rescaling(1 / 255)), None),
        "to [0, 1]": (lambda: raw(L.Rescaling(1 / 255)), PIXELS),
        "to [-1, 1]": (lambda: raw(L.Rescaling(1 / 127.5, -1)), PIXELS),
        "by 256": (lambda: raw(L.Rescaling(1 / 256)), PIXELS),
        "an odd scale": (lambda: raw(L.Rescaling(1 / 37)), None),
        "adapted to pixels": (lambda: raw(adapted(1)), PIXELS),
        "adapted to [0, 1]": (lambda: raw(adapted(1 / 255)), UNIT),
        "adapted to 16 bits": (lambda: raw(adapted(257)), DEEP),
        "behind a flip": (lambda: net(L.RandomFlip()), PIXELS),
        "behind padding and crops": (lambda: net(chain(L.ZeroPadding2D(2), L.RandomCrop(8, 8))), PIXELS),
        "behind a convolution": (lambda: raw(L.Conv2D(3, 1)), None),
        "behind an activation": (lambda: net(L.Activation("relu")), None),
        "nested": (lambda: keras.Sequential([keras.Input((8, 8, 3)), L.RandomFlip(), net()]), PIXELS),
        "quantization-aware": (lambda: kresnet.quantize_aware(net(), IMAGES), PIXELS),
    }.values(),
)
def test_the_range_is_what_the_first_layers_say(build, wanted):
    assert input_range(build()) == wanted


@pytest.mark.parametrize(
    ("name", "wanted"), {"EfficientNetB0": PIXELS, "MobileNetV3Small": PIXELS, "VGG16": None}.items()
)
def test_keras_s_own_networks(name, wanted, no_weights):
    build = getattr(keras.applications, name)
    assert input_range(build(weights=None, include_top=False, input_shape=(32, 32, 3))) == wanted


@pytest.mark.parametrize(
    ("images", "wanted", "seen"),
    [
        (IMAGES / 255, PIXELS, "scaled to 0 to 1"),
        (IMAGES / 127.5 - 1, PIXELS, "scaled to -1 to 1, or standardized"),
        ((IMAGES - 120.0) / 60, PIXELS, "standardized"),
        (IMAGES.astype("uint16") * 257, PIXELS, "more than 8 bits"),
        (IMAGES, UNIT, "pixels, 0 to 255"),
        (IMAGES, SIGNED, "pixels, 0 to 255"),
        (IMAGES, DEEP, "pixels, 0 to 255"),
        (IMAGES, PIXELS, None),
        (IMAGES // 20, PIXELS, None),  # dark
        (IMAGES * 1.1 - 10, PIXELS, None),  # as bicubic resizing overshoots
        (np.zeros((2, 8, 8, 3)), PIXELS, None),  # black: says nothing
        (IMAGES / 255, UNIT, None),
        (IMAGES / 255, None, None),
    ],
)
def test_what_is_refused(images, wanted, seen):
    check = RangeCheck(wanted, "x")
    if seen is None:
        check(images)
        return
    with pytest.raises(ValueError, match=rf"`x` look like .*{seen}.*Received: x from .*dtype="):
        check(images)
    with kresnet.any_range():
        check(images)


def test_a_black_batch_leaves_it_to_the_next():
    check = RangeCheck(PIXELS, "x", once=True)
    check(IMAGES * 0)
    with pytest.raises(ValueError, match="0 to 1"):
        check(IMAGES / 255)
    check = RangeCheck(PIXELS, "x", once=True)
    check(IMAGES)
    check(IMAGES / 255)  # the first batch has spoken


class Batches(keras.utils.PyDataset):
    def __init__(self, x):
        super().__init__()
        self.x = x

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return self.x[8 * index : 8 * index + 8], LABELS[:8]


FED = {
    "arrays": lambda x: {"x": x, "y": LABELS},
    "a dataset": lambda x: {"x": tf.data.Dataset.from_tensor_slices((x, LABELS)).batch(8)},
    "a generator": lambda x: {"x": ((x[:8], LABELS[:8]) for _ in range(2)), "steps_per_epoch": 2},
    "a PyDataset": lambda x: {"x": Batches(x)},
}


@pytest.fixture(scope="module")
def compiled():
    model = net()
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


@pytest.mark.parametrize("fed", FED.values(), ids=FED)
def test_fit_looks_at_its_first_batch(compiled, fed):
    compiled.fit(**fed(IMAGES.astype("float32")), verbose=0)
    before = compiled.get_weights()
    scaled = (IMAGES / 255).astype("float32")
    with pytest.raises(ValueError, match="look like numbers scaled to 0 to 1"):
        compiled.fit(**fed(scaled), verbose=0)
    for one, other in zip(before, compiled.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    with kresnet.any_range():
        compiled.fit(**fed(scaled), verbose=0)


def test_quantize_aware_warns():
    with pytest.warns(UserWarning, match="0 to 255"):
        kresnet.quantize_aware(net(), (IMAGES / 255).astype("float32"))


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        (L.Dense(3), "logits"),
        (L.Dense(3, activation="softmax"), "softmax"),
        (L.Dense(1, activation="sigmoid"), "sigmoid"),
        (L.Softmax(), "softmax"),
        (L.Activation("sigmoid"), "sigmoid"),
    ],
)
def test_what_a_model_gives(last, kind):
    assert output_kind(keras.Sequential([keras.Input((4,)), last])) == kind
