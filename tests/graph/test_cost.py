"""What networks cost, against hand counts, published figures and TensorFlow's profiler."""

import csv
import os
import subprocess

import keras
import pytest
import tensorflow as tf
from keras import layers
from networks import shallow
from processes import COMMAND, QUICKEST
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

import kresnet
from kresnet import cli
from kresnet.layers.grouped import native_grouped_convolution


def by_name(costs):
    return {row.name: row for row in costs.rows}


def test_a_small_network_by_hand():
    image = keras.Input((8, 8, 3))
    a = layers.Conv2D(4, 3, padding="same", name="a")(image)  # 8x8x4
    b = layers.DepthwiseConv2D(3, 2, padding="same", use_bias=False, name="b")(a)  # 4x4x4
    c = layers.Conv2D(8, 1, 2, groups=2, use_bias=False, name="c")(a)  # 4x4x8
    d = layers.Concatenate(name="d")([b, c])  # 4x4x12
    e = layers.Conv2DTranspose(2, 2, 2, use_bias=False, name="e")(d)  # 8x8x2
    f = layers.Dropout(0.5, name="f")(layers.Flatten(name="flat")(e))  # 128
    g = layers.Dense(10, name="g")(f)
    costs = kresnet.cost(keras.Model(image, g), batch_size=2, dtype="float16")
    rows = by_name(costs)
    macs = {"a": 64 * 27 * 4, "b": 16 * 9 * 4, "c": 16 * 2 * 8, "d": 0, "e": 16 * 12 * 2 * 4, "f": 0, "g": 1280}
    assert {name: rows[name].macs for name in macs} == macs
    assert costs.macs == sum(macs.values())
    assert sum(row.share for row in costs.rows) == pytest.approx(1)
    params = {"a": 27 * 4 + 4, "b": 36, "c": 16, "d": 0, "e": 96, "f": 0, "g": 1290}
    assert {name: rows[name].params for name in params} == params
    assert costs.params == costs.trainable_params == sum(params.values())
    assert rows["c"].output_shape == (4, 4, 8)
    assert rows["c"].activation_bytes == 2 * 128 * 2
    # a is held until both its users are done: with the image (192 + 256), then 256 + 64 + 128; then 192 + 128.
    assert costs.peak_bytes == 2 * 2 * max(192 + 256, 256 + 64 + 128, 64 + 128 + 192, 192 + 128, 128 + 10)
    activations = 256 + 64 + 128 + 192 + 128 + 128 + 128 + 10
    assert costs.training_bytes == 2 * activations * 2 * 2 + 3 * costs.params * 2
    fields = {name: rows[name].receptive_field for name in ("a", "b", "c", "e", "g")}
    assert fields == {"a": (3, 3), "b": (5, 5), "c": (3, 3), "e": (6, 6), "g": (8, 8)}


def test_receptive_fields_of_resnet50(no_weights):
    """As published for torchvision's; dilation widens them. distill.pub/2019/computing-receptive-fields."""
    rows = by_name(kresnet.cost(kresnet.ResNet50(input_shape=(500, 400, 3))))
    assert rows["stem_conv"].receptive_field == (7, 7)
    assert rows["stem_pool"].receptive_field == (11, 11)
    assert rows["stage2_block3_out"].receptive_field == (35, 35)
    assert rows["stage5_block3_out"].receptive_field == (427, 400)
    assert rows["head_pool"].receptive_field == (500, 400)
    dilated = by_name(kresnet.cost(kresnet.ResNet50(input_shape=(500, 500, 3), output_stride=16)))
    assert dilated["stage5_block3_out"].receptive_field > rows["stage5_block3_out"].receptive_field


@pytest.mark.parametrize(
    ("builder", "gmacs"),
    # arXiv:1512.03385, table 1, whose FLOPs are multiply-adds; it strides in the first 1x1.
    [
        *(("ResNet18", 1.8), ("ResNet34", 3.6), ("ResNet50", 3.8)),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in (("ResNet101", 7.6), ("ResNet152", 11.3))),
    ],
)
def test_the_paper_s_figures(builder, gmacs, no_weights):
    model = getattr(kresnet, builder)(stride_in="1x1")
    assert kresnet.cost(model).macs / 1e9 == pytest.approx(gmacs, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("key", ["resnet50", "resnext50_32x4d", "mobilenetv2_100", "efficientnet_b0", "wrn_16_8"])
def test_tensorflow_s_profiler_agrees(key):
    model = shallow(key, 96)
    with native_grouped_convolution():
        shape = (1, *model.input_shape[1:])
        function = tf.function(model).get_concrete_function(tf.TensorSpec(shape))
    graph = convert_variables_to_constants_v2(function).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder(tf.compat.v1.profiler.ProfileOptionBuilder.float_operation())
    profile = tf.compat.v1.profiler.profile(graph, cmd="op", options=options.with_empty_output().build())
    flops = 0
    while profile.children:  # a chain: every kind of operator is the child of the one before
        (profile,) = profile.children
        if profile.name in ("Conv2D", "DepthwiseConv2dNative", "MatMul"):
            flops += profile.float_ops
    assert kresnet.cost(model).macs == pytest.approx(flops / 2, rel=0.01)


def test_models_in_models_shared_layers_and_sequentials():
    inner = kresnet.ResNet20(include_top=False, input_shape=(32, 32, 3))
    image = keras.Input((32, 32, 3))
    scaled = keras.Sequential([layers.Rescaling(2.0), layers.Conv2D(3, 1, name="mix")])(image)
    outputs = layers.Concatenate()([inner(image), inner(scaled), inner(image) * 2])
    costs, one = kresnet.cost(keras.Model(image, outputs)), kresnet.cost(inner)
    assert costs.macs == 3 * one.macs + 32 * 32 * 9
    assert costs.params == one.params + 12 == sum(row.params for row in costs.rows)
    sequential = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    assert kresnet.cost(sequential).macs == 12


def test_keras_applications(no_weights):
    assert kresnet.cost(keras.applications.MobileNetV2(weights=None)).macs == kresnet.cost(kresnet.MobileNetV2()).macs


def test_an_open_size_must_be_given(no_weights):
    model = kresnet.ResNet50(input_shape=(None, None, 3))
    with pytest.raises(ValueError, match=r"give `input_shape`. Received: input_shape=\(None, None, 3\)"):
        kresnet.cost(model)
    assert kresnet.cost(model, (224, 224, 3)).macs == kresnet.cost(kresnet.ResNet50()).macs


def test_nonsense_is_refused_and_the_unknown_is_named():
    for received, arguments in (("batch_size=0", {"batch_size": 0}), ("dtype='int3'", {"dtype": "int3"})):
        with pytest.raises(ValueError, match=f"Received: {received}"):
            kresnet.cost(kresnet.ResNet20(), **arguments)
    with pytest.raises(ValueError, match="Received: model='Sequential'"):
        kresnet.cost(keras.Sequential([layers.Dense(3)]))
    tokens = keras.Input((5, 8))
    with pytest.warns(UserWarning, match="'lstm', a LSTM"):
        assert kresnet.cost(keras.Model(tokens, layers.LSTM(4, name="lstm")(tokens))).macs == 0


def test_table_and_csv(tmp_path):
    model = kresnet.ResNet20()
    costs = kresnet.cost(model)
    text = str(costs)
    assert "stage3_block2_conv1" in text
    counts = f"{model.count_params():,} parameters, 269,722 of them trainable"
    assert f"0.041 GMACs an image (0.081 GFLOPs), {counts}" in text
    costs.to_csv(tmp_path / "costs.csv")
    with (tmp_path / "costs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(costs.rows)
    assert sum(int(row["macs"]) for row in rows) == costs.macs


@pytest.mark.slow
def test_command(tmp_path, capsys):
    command = [COMMAND, "cost", "resnet20", "--input", "64", "--csv", tmp_path / "costs.csv"]
    environment = os.environ | {"KERAS_BACKEND": QUICKEST}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "stage2_block1_conv1" in done.stdout
    assert "0.162 GMACs" in done.stdout
    assert (tmp_path / "costs.csv").exists()
    assert cli.main(["cost", "lenet5"]) == 0
    assert "61,706 parameters" in capsys.readouterr().out, "of grey images, as in the paper"
    assert cli.main(["cost", "resnet2O"]) == 2
    assert "'resnet20'? Received: key='resnet2O'" in capsys.readouterr().err
