"""Networks in the operators that XNNPACK has compute what they computed, and are those operators and no others."""

from collections import Counter

import keras
import numpy as np
import pytest
from keras import ops
from rewriting import assert_same_function, randomise

import kresnet
from kresnet.data.samples import natural_images
from kresnet.deploy import convert, lint
from kresnet.deploy.lowering import lower
from kresnet.graph.fold import fold_batch_norm
from kresnet.inference.tflite_file import TFLiteFile
from kresnet.layers import EdgePadding2D

TINY = {"depths": (1, 1), "widths": (8, 16), "classes": 5, "input_shape": (32, 32, 3)}
MOBILE = {"table": ((1, 8, 1, 1, 3, 0.25), (4, 16, 2, 2, 3, 0.25)), "stem_width": 8, "head_width": 32, "classes": 5}
AVERAGED = ((8, 3, 1, None, 1, ("average3",)), (8, 1))
HARD = MOBILE | {"head_width": None, "dense_width": 32, "input_shape": (32, 32, 3)}
FORMS = {"float32": {}, "int8": {"quantize": "int8", "calibration": natural_images(4, (32, 32, 3))}}


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(1)  # at others a gate of two channels may give zero for every image


def operators(model, form):
    lowered = lower(fold_batch_norm(model), integer=form == "int8")
    content = convert.to_tflite(lowered, **FORMS[form])
    file = TFLiteFile(content)
    assert len(file.partitions) == 1
    return lint.operators(file, [layer.name for layer in model.layers])


@pytest.mark.slow
@pytest.mark.parametrize("integer", [False, True])
@pytest.mark.parametrize(
    ("build", "fields"),
    [
        (kresnet.ResNet, {**TINY, "expansion": 1, "stem": "conv3", "shortcut": "pad"}),
        (kresnet.ResNet, {**TINY, "stem": "deep", "shortcut": "avg_conv"}),
        (kresnet.ResNet, {**TINY, "shortcut": "avg_conv", "input_shape": (35, 41, 3)}),  # the pooling pads
        (kresnet.ResNet, {**TINY, "include_preprocessing": False}),
        (kresnet.ResNet, {**TINY, "input_shape": (32, 32, 1)}),
        (kresnet.EfficientNetB0, {**MOBILE, "input_shape": (32, 32, 3)}),
        (kresnet.NiN_CIFAR, {"rows": AVERAGED, "classes": 5}),  # the pooling pads on one side
        (kresnet.MobileNetV3Small, HARD),
    ],
)
def test_lowering_leaves_the_function(build, fields, integer):
    model = randomise(build(**fields))
    lowered = lower(model, integer)
    assert_same_function(model, lowered)
    names = [layer.name for layer in lowered.layers]
    assert len(names) == len(set(names))


def test_a_rescaling_is_folded_only_where_that_is_right():
    def around(layers):
        x = image = keras.Input((8, 8, 3))
        for layer in layers:
            x = layer(x)
        return keras.Model(image, x)

    def factor(model):
        (scale,) = [layer.scale for layer in lower(model, False).layers if isinstance(layer, keras.layers.Rescaling)]
        return scale

    rescaling = lambda: keras.layers.Rescaling([0.1, 0.2, 0.3], [-1.0, -2.0, -3.0])  # noqa: E731
    folds = around([rescaling(), keras.layers.ZeroPadding2D(1), keras.layers.Conv2D(4, 3)])
    depthwise = around([rescaling(), keras.layers.DepthwiseConv2D(3)])
    edges = around([rescaling(), EdgePadding2D(1), keras.layers.Conv2D(4, 3)])  # would be right too; nobody needs it
    between = around([rescaling(), keras.layers.ReLU(), keras.layers.Conv2D(4, 3)])
    channels = around(
        [rescaling(), keras.layers.ZeroPadding2D(((0, 0), (1, 2)), "channels_first"), keras.layers.Conv2D(4, 3)]
    )
    zero = around([keras.layers.Rescaling([0.1, 0.0, 0.3], 1.0), keras.layers.Conv2D(4, 3)])
    image = keras.Input((8, 8, 3))
    x = rescaling()(image)
    twice = keras.Model(image, ops.add(keras.layers.Conv2D(3, 3, padding="same")(x), x))
    for model in (folds, depthwise, edges, between, channels, zero, twice):
        assert_same_function(model, lower(model, False))
    assert [np.all(factor(model) == 1.0) for model in (folds, depthwise)] == [True, True]
    assert not any(np.all(factor(model) == 1.0) for model in (edges, between, channels, zero, twice))


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_squeeze_and_excitation_is_five_operators(form):
    ops_of = operators(kresnet.ResNet(**TINY, se_reduction=4), form)
    for stage in (2, 3):
        gate = [op.name for op in ops_of if f"stage{stage}_block1_se" in op.layer]
        assert gate == ["MEAN", "CONV_2D", "CONV_2D", "LOGISTIC", "MUL"]
    assert Counter(op.name for op in ops_of)["MUL"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_a_grouped_convolution_is_one_operator(form):
    grouped = Counter(op.name for op in operators(kresnet.ResNet(**TINY, groups=4), form))
    plain = Counter(op.name for op in operators(kresnet.ResNet(**TINY), form))
    assert grouped == plain
    assert grouped["CONV_2D"] == 9


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_a_depthwise_convolution_stays_one(form):
    found = Counter(op.name for op in operators(kresnet.MobileNetV2(**MOBILE, input_shape=(32, 32, 3)), form))
    assert found["DEPTHWISE_CONV_2D"] == 3
    assert found["CONV_2D"] == 7 + 6  # a stem, 1 + 2 + 2 of blocks, a head; and two in each of three gates


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_hard_swish_is_one_operator_or_what_integers_have(form):
    model = kresnet.MobileNetV3Small(**HARD)
    found = Counter(op.name for op in operators(model, form))
    hard = sum("_act" in layer.name for layer in model.layers)
    assert found["HARD_SWISH"] == (hard if form == "float32" else 0)
    assert hard == 7  # of the stem, 1 + 2 + 2 of blocks, and the dense layer of the head


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "fields",
    [
        {"expansion": 1, "stem": "conv3", "shortcut": "pad"},  # average pooling of single pixels
        {"shortcut": "avg_conv"},  # int8 average pooling
        {"preactivation": True},  # padding with the edge
    ],
)
def test_what_xnnpack_lacks_is_said_otherwise(fields, form):
    """`operators` asserts one partition."""
    found = {op.name for op in operators(kresnet.ResNet(**TINY, **fields), form)}
    assert not found & {"MIRROR_PAD", "SHAPE", "PACK", "RESHAPE", "GATHER"}
