"""What is exported computes what the network computes."""

import importlib
import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

import kresnet

TINY = {"depths": (1, 1), "widths": (8, 16), "classes": 5}
X = np.random.default_rng(0).integers(0, 256, (3, 32, 40, 3)).astype("float32")


def run(file, images):
    classify = Interpreter(str(file)).get_signature_runner()
    return np.concatenate([classify(image=image[None])["probs"] for image in images])


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"preactivation": True, "stem": "deep", "shortcut": "avg_conv"},
        {"groups": 4, "se_reduction": 4, "activation": "silu"},
        {"stem": "conv3", "expansion": 1, "shortcut": "pad"},
        {"shortcut": "conv3", "stem_pool": "ceil", "output_stride": 8, "drop_path_rate": 0.1, "dropout_rate": 0.1},
    ],
)
def test_both_forms_agree_with_keras(fields, tmp_path):
    model = kresnet.ResNet(input_shape=(32, 40, 3), **TINY, **fields)
    expected = keras.ops.convert_to_numpy(model(X))
    file = kresnet.export(model, tmp_path / "new" / "model.tflite")
    np.testing.assert_allclose(run(file, X), expected, atol=1e-5)
    folder = kresnet.export(model, tmp_path / "model")
    loaded = tf.saved_model.load(str(folder))
    np.testing.assert_allclose(loaded.serve(X), expected, atol=1e-5)


def test_tflite_has_a_static_batch_and_names(tmp_path):
    file = kresnet.export(kresnet.ResNet(input_shape=(32, 40, 3), **TINY), tmp_path / "model.tflite")
    interpreter = Interpreter(str(file))
    assert interpreter.get_signature_list() == {"serving_default": {"inputs": ["image"], "outputs": ["probs"]}}
    assert interpreter.get_input_details()[0]["shape_signature"].tolist() == [1, 32, 40, 3]


def test_squeeze_excitation_and_preactivation_convert_to_few_operators(tmp_path):
    fields = {"preactivation": True, "se_reduction": 4, "activation": "silu"}
    file = kresnet.export(kresnet.ResNet(input_shape=(32, 40, 3), **TINY, **fields), tmp_path / "model.tflite")
    operators = {op["op_name"] for op in Interpreter(str(file))._get_ops_details()}
    assert not operators & {"SHAPE", "PACK", "RESHAPE", "STRIDED_SLICE"}


def test_an_input_size_must_be_known(tmp_path):
    with pytest.raises(ValueError, match=r"Received: input_shape=\(None, None, 3\)"):
        kresnet.export(kresnet.ResNet(input_shape=(None, None, 3), **TINY), tmp_path / "model.tflite")


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    """As on a full disk."""
    file = tmp_path / "model.tflite"
    file.write_bytes(b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        importlib.import_module("kresnet.export")._write(file, b"new")
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]
