"""Conversion: both ways give the same file, and a file is parsed and opened only as often as necessary."""

import numpy as np
import pytest

import kresnet
from kresnet.data.samples import natural_images
from kresnet.deploy import convert, lint
from kresnet.inference.tflite_file import TFLiteFile

X = natural_images(8, (32, 40, 3))


@pytest.fixture(scope="module")
def tiny():
    return kresnet.ResNet(depths=(1, 1), widths=(8, 16), classes=5, input_shape=(32, 40, 3))


@pytest.mark.slow
@pytest.mark.parametrize(
    "quantize",
    [None, "int8", *(pytest.param(kind, marks=pytest.mark.thorough) for kind in ("float16", "dynamic"))],
)
def test_a_large_network_becomes_the_same_file(tiny, quantize, monkeypatch):
    """It is converted by way of a SavedModel, which takes less memory."""
    batch_size = None if quantize == "float16" else 1
    settings = {"quantize": quantize, "batch_size": batch_size, "calibration": X, "io": "uint8"}
    small = convert.to_tflite(tiny, **settings)
    monkeypatch.setattr(convert, "LARGE", 0)
    large = convert.to_tflite(tiny, **settings)
    outputs = [TFLiteFile(content)(X) for content in (small, large)]
    np.testing.assert_array_equal(*outputs)
    layers = [layer.name for layer in tiny.layers]
    operators = [
        [(op.name, op.layer in layers and op.layer) for op in lint.operators(TFLiteFile(content), layers)]
        for content in (small, large)
    ]
    assert operators[0] == operators[1]
    signatures = [TFLiteFile(content).interpreter.get_signature_list() for content in (small, large)]
    assert signatures[0] == signatures[1]


def test_a_file_is_parsed_twice_and_opened_three_times(tiny, tmp_path, monkeypatch):
    """Parsed to finish the conversion and to check the file; opened for its outputs, its logits and 2 threads."""
    from ai_edge_litert import interpreter
    from ai_edge_litert.tools import flatbuffer_utils

    calls = []

    def counted(name, function):
        def count(*args, **kwargs):
            calls.append(name)
            return function(*args, **kwargs)

        return count

    monkeypatch.setattr(interpreter.Interpreter, "__init__", counted("open", interpreter.Interpreter.__init__))
    read = flatbuffer_utils.read_model_from_bytearray
    monkeypatch.setattr(flatbuffer_utils, "read_model_from_bytearray", counted("parse", read))
    kresnet.export(tiny, tmp_path / "x.tflite")
    assert (calls.count("parse"), calls.count("open")) == (2, 3)
