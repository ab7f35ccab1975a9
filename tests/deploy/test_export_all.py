"""Every kind of network goes out, as float32 and int8, cut short, and a whole one at 224 pixels.

Whole, all of them would take half an hour and more: `benchmarks/export_all.py` does that.
"""

import dataclasses
import json

import keras
import pytest
from networks import cut_short, every_kind, shallow

import kresnet
from kresnet.data.samples import natural_images
from kresnet.deploy import lint
from kresnet.inference.preprocessing import description_of
from kresnet.inference.tflite_file import TFLiteFile
from kresnet.layers import ChannelShuffle, LocalResponseNormalization
from kresnet.models.inception.modules import InceptionSpec

# What LiteRT runs them with: nothing that is not built in, and nothing that shapes are computed with at run time.
OPERATORS = {
    *("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD", "MUL", "MEAN", "SOFTMAX", "LOGISTIC"),
    "HARD_SWISH",  # float32's only, or there would be several partitions
    *("MAX_POOL_2D", "AVERAGE_POOL_2D", "PAD", "STRIDED_SLICE", "CONCATENATION", "CAST", "QUANTIZE", "DEQUANTIZE"),
}


def export(model, folder, quantize):
    images = natural_images(4, model.input_shape[1:])
    settings = {"calibration": images[:2], "agreement": 0} if quantize == "int8" else {"verify": images}
    file = kresnet.export(model, folder / f"{quantize}.tflite", quantize=quantize, latency=False, **settings)
    return file, json.loads(description_of(file).read_text())["proof"]


@pytest.mark.slow
@pytest.mark.parametrize("key", every_kind())
@pytest.mark.filterwarnings("error::UserWarning")  # none of them is slow
def test_every_kind_goes_out(key, tmp_path):
    keras.utils.set_random_seed(0)
    builder = kresnet.get_builder(key)
    spec = dataclasses.replace(builder.spec, **cut_short(builder.spec))
    # At one pixel a mean would be a reshape.
    size = max(2 * spec.stride, getattr(spec, "smallest", 1) + (64 if isinstance(spec, InceptionSpec) else 0))
    model = shallow(key, size, classes=100)
    kinds = {type(layer) for layer in model.layers}
    allowed = OPERATORS | ({"RESHAPE", "TRANSPOSE"} if kinds & {keras.layers.Flatten, ChannelShuffle} else set())
    allowed |= {"SQUARE", "LOG", "EXP"} if LocalResponseNormalization in kinds else set()
    allowed |= {"TANH"} if getattr(spec, "activation", "") == "scaled_tanh" else set()
    for quantize in (None, "int8"):
        file, proof = export(model, tmp_path, quantize)
        assert set(proof["operators"]) <= allowed
        assert proof["xnnpack_partitions"] == 1
        if quantize is None:
            assert proof["images"] == 4
            assert 0 < proof["logits"]["largest_of_deviation"] <= 1e-4
        else:
            assert file.stat().st_size < 0.7 * (tmp_path / "None.tflite").stat().st_size  # of small ones much is names


@pytest.mark.slow
@pytest.mark.parametrize("key", ["efficientnet_b0"])
def test_a_whole_network_goes_out_at_224_pixels(key, tmp_path):
    keras.utils.set_random_seed(0)
    model = kresnet.create_model(key)
    _, proof = export(model, tmp_path, None)
    assert proof["images"] == 4
    assert 0 < proof["logits"]["largest_of_deviation"] <= 1e-4
    file, _ = export(model, tmp_path, "int8")
    assert {op.name for op in lint.operators(TFLiteFile(file))} <= OPERATORS
