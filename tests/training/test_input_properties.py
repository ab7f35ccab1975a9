"""Images, labels and first layers drawn at random: each is taken rightly, or refused by name."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import kresnet
from kresnet.data.samples import class_indices
from kresnet.deploy import proof
from kresnet.graph.inputs import input_range
from kresnet.graph.ranges import RangeCheck
from kresnet.training import inputs

L = keras.layers
SIZE, CLASSES = 8, 3
PIXELS, UNIT, SIGNED, DEEP = (0, 255), (0, 1), (-1, 1), (0, 65535)
RANGES = (PIXELS, UNIT, SIGNED, DEEP)
QUICK = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}
STATS = (kresnet.layers.pixels.IMAGENET, kresnet.layers.pixels.INCEPTION, kresnet.layers.pixels.CIFAR)


def normalization(mean, std):
    return L.Normalization(mean=mean, variance=[s * s for s in std])


def adapted(low, high):
    layer = L.Normalization()
    layer.adapt(low + (high - low) * np.random.default_rng(1).beta(2, 2, (64, SIZE, SIZE, 3)))
    return layer


SCALES = st.one_of(
    st.sampled_from([(1 / 255, 0), (1 / 256, 0), (1 / 127.5, -1), (255, 0), (127.5, 127.5), (1 / 257, 0), (2, -1)]).map(
        lambda by: lambda: L.Rescaling(*by)
    ),
    st.sampled_from([(1 / 65535, 0), (1 / 37, 0.2), (0.5, 0.5), (100, 3)]).map(lambda by: lambda: L.Rescaling(*by)),
    st.tuples(st.sampled_from(STATS), st.sampled_from([1, 255])).map(
        lambda by: lambda: normalization(*([by[1] * x for x in by[0][name]] for name in ("mean", "std")))
    ),
)
KEEPING = st.sampled_from(
    [
        lambda: L.RandomFlip(),
        lambda: L.ZeroPadding2D(1),
        lambda: L.CenterCrop(SIZE - 2, SIZE - 2),
        lambda: L.Cropping2D(1),
        lambda: L.Resizing(SIZE + 2, SIZE + 2),
        lambda: L.Dropout(0.5),
        lambda: L.Identity(),
        lambda: L.RandomTranslation(0.1, 0.1),
    ]
)


@st.composite
def stacks(draw):
    """First layers, some of them in models within the model, and whether our own preprocessing follows."""
    makers = draw(st.lists(st.one_of(KEEPING, SCALES), max_size=3))
    return makers, draw(st.integers(0, 2)), draw(st.booleans())


def network(makers, depth, own, head=None):
    """Returns a model of those first layers, `depth` models around some of them, and what enters its convolution."""
    image = tensor = keras.Input((SIZE, SIZE, 3))
    layers = [make() for make in makers]
    if layers and depth:
        layers = [keras.Sequential(layers)]
        layers = [keras.Sequential([L.Identity(), *layers])] if depth > 1 else layers
    for layer in layers:
        tensor = layer(tensor)
    body = kresnet.ResNet(
        depths=(1,), widths=(2,), stem="conv3", expansion=1, classes=CLASSES, input_tensor=tensor,
        include_preprocessing=own, **(head or {}),
    )  # fmt: skip
    return body, keras.Model(image, body.get_layer("stem_conv").input)


def fed(probe, number):
    """What enters the convolution, in the middle of the map, where an image is of one number: a number a channel."""
    found = np.asarray(probe(np.full((1, SIZE, SIZE, 3), number, "float32"), training=False))
    return found[0, found.shape[1] // 2, found.shape[2] // 2].astype("float64")


TARGETS = [(np.zeros(3), np.ones(3)), (-np.ones(3), np.ones(3))]
for stats in STATS:
    MEAN, STD = (np.array(stats[name]) for name in ("mean", "std"))
    TARGETS.append((-MEAN / STD, (1 - MEAN) / STD))


def near(ends, target):
    allowed = 0.006 * np.abs(target[1] - target[0])
    return all(np.all(np.abs(end - want) <= allowed) for end, want in zip(ends, target, strict=True))


def check_range(stack):
    model, probe = network(*stack)
    scaled = any(isinstance(layer, L.Rescaling | L.Normalization) for layer in model._flatten_layers())
    exact = [ends for ends in RANGES if any(near([fed(probe, end) for end in ends], target) for target in TARGETS)]
    said = input_range(model)
    if not scaled:
        assert said is None
    elif len(exact) == 1:
        assert said == exact[0]
    elif exact:
        assert said is None  # of two that fit, neither is said
    elif said is not None:  # then a standardization of its own says it, as those of photographs are
        low, high = (fed(probe, end) for end in said)
        assert any(isinstance(layer, L.Normalization) for layer in model._flatten_layers())
        assert (low < 0.1).all()
        assert (high > 0.2).all()
        assert (high < 12).all()
    keras.backend.clear_session(free_memory=False)


@settings(max_examples=8, **QUICK)
@given(stacks())
@example(([lambda: L.RandomFlip(), lambda: L.Rescaling(1 / 127.5, -1)], 2, False))
@example(([lambda: L.ZeroPadding2D(1), lambda: L.Rescaling(255)], 1, True))
def test_the_range_is_what_feeding_its_ends_gives(stack):
    check_range(stack)


@pytest.mark.thorough
@settings(max_examples=40, **QUICK)
@given(stacks())
def test_the_range_of_many_more(stack):
    check_range(stack)


@settings(max_examples=4, **QUICK)
@given(st.sampled_from(RANGES), st.integers(0, 2), KEEPING)
def test_an_adapted_normalization_says_the_range_of_what_it_was_adapted_to(ends, depth, keeping):
    model, _ = network([keeping, lambda: adapted(*ends)], depth, False)
    assert input_range(model) in (ends, None) if ends == SIGNED else input_range(model) == ends
    keras.backend.clear_session(free_memory=False)


# What images there are, and for which ranges those are right, plainly wrong, or neither.
IMAGES = {
    "pixels": (lambda u: np.round(255 * u), {PIXELS}, {UNIT, SIGNED, DEEP}),
    "dark pixels": (lambda u: np.round(20 * u), {PIXELS}, {UNIT, SIGNED, DEEP}),
    "0 to 1": (lambda u: u, {UNIT}, {PIXELS, DEEP}),  # all of a bright image scaled to -1 to 1 may be above 0
    "-1 to 1": (lambda u: 2 * u - 1, {SIGNED}, {UNIT, PIXELS, DEEP}),
    "standardized": (lambda u: (u - 0.45) / 0.225, set(), {UNIT, SIGNED, PIXELS, DEEP}),
    "16 bits": (lambda u: np.round(65535 * u), {DEEP}, {UNIT, SIGNED, PIXELS}),
    "bicubic overshoot": (lambda u: 275 * u - 10, {PIXELS}, {UNIT, SIGNED}),
    "black": (lambda u: 0 * u, set(RANGES), set()),
}
DTYPES = ("uint8", "uint16", "int32", "float16", "float32", "float64", "bool")


def holds(values, dtype):
    """Tells whether a dtype holds such numbers: nobody has others in it."""
    if dtype == "bool":
        return False
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return np.abs(values).max() <= np.finfo(kind).max
    ends = np.iinfo(kind)
    return bool((values == np.floor(values)).all() and ends.min <= values.min() and values.max() <= ends.max)


def drawn(kind, seed, count=6):
    u = np.random.default_rng(seed).random((count, SIZE, SIZE, 3))
    u[0, 0, 0], u[0, 0, 1] = 0, 1
    return IMAGES[kind][0](u)


@settings(max_examples=150, **QUICK)
@given(st.sampled_from(sorted(IMAGES)), st.sampled_from(DTYPES), st.sampled_from(RANGES), st.integers(0, 99))
def test_images_of_a_range_are_told_from_those_of_another(kind, dtype, wanted, seed):
    images = drawn(kind, seed)
    if not holds(images, dtype):
        return
    _, right, wrong = IMAGES[kind]
    check = RangeCheck(wanted, "x")
    if wanted in wrong:
        with pytest.raises(ValueError, match=r"`x` look like .*Received: x from .* to .*, dtype="):
            check(images.astype(dtype))
        with kresnet.any_range():
            check(images.astype(dtype))
    elif wanted in right:
        check(images.astype(dtype))


FIRST = {
    PIXELS: ([], True),
    UNIT: ([lambda: L.Rescaling(255)], True),
    SIGNED: ([lambda: L.Rescaling(127.5, 127.5)], True),
    DEEP: ([lambda: L.RandomFlip(), lambda: L.Rescaling(1 / 257)], True),
}


@pytest.fixture(scope="module")
def networks():
    found = {}
    for wanted, (makers, own) in FIRST.items():
        found[wanted], _ = network(makers, 1, own)
        assert input_range(found[wanted]) == wanted
    return found


def batches(images, labels):
    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(3)


@pytest.mark.slow
@settings(max_examples=6, **QUICK)
@given(
    kind=st.sampled_from(sorted(IMAGES)),
    dtype=st.sampled_from(DTYPES),
    wanted=st.sampled_from(RANGES),
    seed=st.integers(0, 99),
)
def test_all_who_are_fed_say_the_same(networks, tmp_path_factory, kind, dtype, wanted, seed):
    """`train`, its validation in any batch, an export's `verify`, and `evaluate`, in the range that the layers say."""
    images, labels = drawn(kind, seed), np.arange(6) % CLASSES
    if not holds(images, dtype) or kind == "black":
        return
    images, model = images.astype(dtype), networks[wanted]
    good = drawn({PIXELS: "pixels", UNIT: "0 to 1", SIGNED: "-1 to 1", DEEP: "16 bits"}[wanted], seed)
    late = np.concatenate([good[:3], images[:3]]).astype("float32")  # wrong in its second batch alone
    folder = tmp_path_factory.mktemp("run")

    def taken(name, call):
        try:
            call()
        except ValueError as error:
            said = str(error)
        else:
            return True
        assert re.fullmatch(rf".*(`{name}` look like|have different ranges).* Received: .*", said)  # in one line
        return False

    quiet = {"epochs": 1, "verbose": False, "with_report": False}
    found = {
        "train": taken("data", lambda: kresnet.train(model, batches(images, labels), out=folder / "a", **quiet)),
        "verify": taken("verify", lambda: proof.compare(lambda x: model(x).numpy(), model, (images, labels))),
        "evaluate": taken("data", lambda: kresnet.evaluate(model, batches(images, labels), verbose=False)),
        "validation": taken(
            "validation_data",
            lambda: kresnet.train(
                model, batches(good.astype("float32"), labels), validation_data=batches(late, labels), out=folder / "b",
                **quiet,
            ),
        ),
    }  # fmt: skip
    _, right, wrong = IMAGES[kind]
    if wanted in right:
        assert all(found.values()), found
    elif wanted in wrong:
        assert not any(found.values()), found


LABELS = st.lists(
    st.sampled_from([0, 1, 2, 2, 1, 0, 3, -1, 0.5, 0.25, 2.5, float("nan"), float("inf")]), min_size=6, max_size=6
)
ROWS = st.lists(
    st.sampled_from(
        [(1, 0, 0), (0, 1, 0), (0.25, 0.25, 0.5), (0.2, 0.2, 0.2), (1.5, -0.5, 0), (1, 1, 0), (float("nan"), 0, 1)]
    ),
    min_size=6,
    max_size=6,
)


def are_right(labels, classes, several):
    """In NumPy's words, what labels of a network of so many classes may be."""
    if labels.ndim == 2 and labels.shape[1] > 1:
        alone = several | np.isclose(labels.sum(1), 1, atol=1e-3)
        return bool(((labels >= 0) & (labels <= 1)).all() and alone.all())
    if classes == 1:
        return bool(((labels >= 0) & (labels <= 1)).all())
    return bool(np.isin(labels, range(classes)).all())


@st.composite
def labels(draw):
    found = np.array(draw(st.one_of(LABELS, ROWS)))
    dtype = draw(st.sampled_from(["float32", "float64", "float16"]))
    if np.isfinite(found).all() and (found == np.floor(found)).all():
        dtypes = [dtype, "int64", "int32"] + ["uint8", "bool"] * bool(np.isin(found, (0, 1)).all())
        dtype = draw(st.sampled_from(dtypes))
    found = found.astype(dtype)
    return found[:, None] if found.ndim == 1 and draw(st.booleans()) else found


@settings(max_examples=30, **QUICK)
@given(labels(), st.sampled_from([1, CLASSES]), st.booleans())
def test_labels_are_right_or_refused_by_name(given_, classes, several):
    if given_.ndim == 2 and given_.shape[1] > 1 and classes == 1:
        with pytest.raises(ValueError, match=r"same classes\. Received: network=1, labels=3"):
            inputs.check_labels(given_, classes, several, "data")
        return
    if are_right(given_.astype("float64"), classes, several):
        inputs.check_labels(given_, classes, several, "data")
        return
    with pytest.raises(ValueError, match=r"^Labels in `data` must be .* Received: .*batch=0, counted from 0$"):
        inputs.check_labels(given_, classes, several, "data")


@settings(max_examples=100, **QUICK)
@given(labels(), st.booleans())
def test_evaluation_counts_no_label_that_is_none(given_, two):
    values = given_.astype("float64")
    shares = values.ndim == 2 and values.shape[1] > 1
    inside = (values > 0) & (values < 1)
    whole = shares | (values == np.floor(values)) | (two & inside)
    if not (np.isfinite(values) & whole).all():
        with pytest.raises(ValueError, match=r"^Labels must be (finite|whole) numbers\. Received: label="):
            class_indices(given_, two)
        return
    expected = values.argmax(1) if shares else np.where(inside, values > 0.5, values).reshape(-1)
    np.testing.assert_array_equal(class_indices(given_, two), expected)
