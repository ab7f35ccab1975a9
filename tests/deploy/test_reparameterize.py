"""RepVGG and ParNet as they go out: one convolution a block, in every format, and the network's own numbers."""

import json

import keras
import numpy as np
import pytest
from rewriting import assert_same_function, norms, outputs, randomise, same_weights

import kresnet
from kresnet.data.samples import natural_images
from kresnet.deploy import lint
from kresnet.inference.preprocessing import description_of
from kresnet.inference.tflite_file import TFLiteFile
from kresnet.layers import QuantizedConv2D

SMALL = {"classes": 5, "classifier_activation": None, "input_shape": (64, 64, 3)}
REPVGG = SMALL | {"depths": (2, 2), "widths": (8, 16)}
PARNET = SMALL | {"depths": (1, 1, 1), "widths": (8, 12, 16), "head_width": 32}
# Each with the convolutions that it has then: RepVGG's five blocks, and two more a block for its attention; and
# ParNet's seven with a step, one that fuses without, and three others, with a layer of attention each.
NETWORKS = {
    "plain": (kresnet.RepVGG_A0, REPVGG, 5),
    "grouped": (kresnet.RepVGG_B1g4, REPVGG, 5),
    "attention": (kresnet.RepVGG_D2se, REPVGG | {"se_reduction": 2}, 5 + 2 * 5),
    "parnet": (kresnet.ParNet_S, PARNET, 2 * (7 + 1 + 3)),
}


def convolutions(model):
    return [layer.name for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]


def in_policy(policy, run):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        run()
    finally:
        keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("name", NETWORKS)
def test_one_convolution_a_block(name):
    builder, fields, count = NETWORKS[name]
    model = randomise(builder(**fields))
    merged = kresnet.reparameterize(model)
    assert len(convolutions(merged)) == count
    assert {*convolutions(merged)} <= {*convolutions(model)}
    assert len(norms(merged)) == (3 + 2 * 2 if name == "parnet" else 0)  # gated identities, and what is fused
    assert_same_function(model, merged)
    assert (merged.name, merged.kresnet_config) == (model.name, model.kresnet_config)


@pytest.mark.parametrize("name", ["grouped", "parnet"])
def test_in_float64_nothing_but_its_rounding_is_lost(name):
    builder, fields, _ = NETWORKS[name]

    def difference():
        model = randomise(builder(**fields))
        assert_same_function(model, kresnet.reparameterize(model), 1e-10)

    in_policy("float64", difference)


def test_it_saves_and_loads_and_knows_what_it_is(tmp_path):
    builder, fields, _ = NETWORKS["grouped"]
    model = builder(**fields)
    merged = kresnet.reparameterize(model)
    merged.save(tmp_path / "merged.keras")
    loaded = keras.saving.load_model(tmp_path / "merged.keras")
    assert loaded.kresnet_config == model.kresnet_config
    x = natural_images(2, (64, 64, 3))
    assert same_weights(outputs(merged, x).values(), outputs(loaded, x).values())


@pytest.mark.parametrize(("name", "size"), [("grouped", (65, 47)), ("parnet", (None, None))])
def test_of_any_size(name, size):
    builder, fields, count = NETWORKS[name]
    model = randomise(builder(**fields | {"input_shape": (*size, 3)}))
    merged = kresnet.reparameterize(model)
    # Averages at an edge of odd size are of fewer pixels, which no convolution says, or may be.
    left = sum(name.endswith("_conv1x1") for name in convolutions(merged))
    assert (len(convolutions(merged)), left) == ((count, 0) if name == "grouped" else (count + 7, 7))
    x = natural_images(2, (65, 47, 3))
    (expected,), (got,) = (outputs(one, x).values() for one in (model, merged))
    assert np.abs(got - expected).max() <= 1e-5 * expected.std()


@pytest.mark.parametrize("name", ["plain", "grouped", "attention"])
def test_it_is_the_deployed_network(name):
    """`deployed` builds what is left, with the same layers in the same order."""
    builder, fields, _ = NETWORKS[name]
    merged = kresnet.reparameterize(randomise(builder(**fields)))
    deployed = builder(**fields, deployed=True)
    deployed.set_weights(merged.get_weights())
    x = natural_images(2, (64, 64, 3))
    assert same_weights(outputs(merged, x).values(), outputs(deployed, x).values())


def exported(model, path, **options):
    options = {"verify": natural_images(4, (64, 64, 3)), "latency": False} | options
    file = kresnet.export(model, path, **options)
    return file, json.loads(description_of(file).read_text())["proof"]


# Blocks, and what is around them: pixels in, the mean, the classes.
AROUND = {"CAST", "PAD", "ADD", "MEAN", "FULLY_CONNECTED", "QUANTIZE", "DEQUANTIZE"}


@pytest.mark.slow
@pytest.mark.parametrize("quantize", [None, "float16", "int8"])
def test_a_repvgg_is_a_row_of_convolutions_in_a_tflite(quantize, tmp_path):
    model = randomise(kresnet.RepVGG_B1g4(**REPVGG))
    options = {"calibration": natural_images(4, (64, 64, 3)), "agreement": 0} if quantize == "int8" else {}
    file, proof = exported(model, tmp_path / "x.tflite", quantize=quantize, **options)
    assert proof["operators"]["CONV_2D"] == 5
    assert proof["operators"]["ADD"] == 1  # of the pixels' offset
    assert set(proof["operators"]) - {"CONV_2D"} <= AROUND  # the ReLUs are in the convolutions
    assert proof["xnnpack_partitions"] == 1
    layers = [layer.name for layer in model.layers]
    rows = [op.layer for op in lint.operators(TFLiteFile(file), layers) if op.name == "CONV_2D"]
    assert [row.rpartition("_")[0] for row in rows] == ["stem", *(f"stage{s}_block{b}" for s in (2, 3) for b in (1, 2))]


@pytest.mark.slow
@pytest.mark.thorough
def test_a_parnet_in_a_tflite(tmp_path):
    model = randomise(kresnet.ParNet_S(**PARNET))
    _, proof = exported(model, tmp_path / "x.tflite")
    assert proof["operators"]["ADD"] == 1 + (3 + 2 * 2) + 3  # of the offset, of norms, and of gated identities
    assert proof["operators"]["CONV_2D"] == NETWORKS["parnet"][2]
    assert "AVERAGE_POOL_2D" not in proof["operators"]
    assert proof["xnnpack_partitions"] == 1


@pytest.mark.slow
def test_a_repvgg_elsewhere(tmp_path):
    onnx = pytest.importorskip("onnx")
    model = randomise(kresnet.RepVGG_A0(**REPVGG))
    file, _ = exported(model, tmp_path / "x.onnx")
    kinds = [node.op_type for node in onnx.load(file).graph.node]
    assert kinds.count("Conv") == 5
    assert "BatchNormalization" not in kinds
    kresnet.export(model, tmp_path / "folder", verify=natural_images(4, (64, 64, 3)))
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    (graph,) = SavedModel.FromString((tmp_path / "folder" / "saved_model.pb").read_bytes()).meta_graphs
    functions = [[node.op for node in one.node_def] for one in graph.graph_def.library.function]
    assert max(ops.count("Conv2D") for ops in functions) == 5


@pytest.mark.slow
def test_quantize_aware_trains_what_is_deployed(tmp_path):
    model, x = randomise(kresnet.RepVGG_B1g4(**REPVGG)), natural_images(8, (64, 64, 3))
    aware = kresnet.quantize_aware(model, x)
    assert sum(isinstance(layer, QuantizedConv2D) for layer in aware.layers) == 5
    assert not any(isinstance(layer, keras.layers.Add) for layer in aware.layers)
    (expected,), (got,) = (outputs(one, x).values() for one in (model, aware))
    assert np.corrcoef(expected.ravel(), got.ravel())[0, 1] > 0.95
    _, proof = exported(aware, tmp_path / "x.tflite", quantize="int8", agreement=0)
    assert proof["operators"]["CONV_2D"] == 5
    assert "ADD" not in proof["operators"]
    assert proof["xnnpack_partitions"] == 1
