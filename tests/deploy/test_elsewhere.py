"""Networks of Keras's other backends go out without a word on backends."""

import json
import os
import subprocess
import sys

import pytest
from processes import COMMAND

import kresnet

TRAINED_ON_JAX = """
import keras, numpy as np
import kresnet

keras.utils.set_random_seed(0)
model = kresnet.ResNet(depths=(1,), widths=(8,), expansion=1, stem="conv3", input_shape=(16, 16, 3), classes=3)
model.save({keras!r})
images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3)).astype("uint8")
labels = ["a", "b", "c"]
calibration = ((images[i : i + 8], np.zeros(8)) for i in range(0, 40, 8))
kresnet.export(model, {tflite!r}, quantize="int8", calibration=calibration, labels=labels, latency=False, agreement=0)
file = kresnet.predict({tflite!r}, [])
from kresnet.inference.predictors import predictor
there, here = (predictor(one).run(images) for one in ({tflite!r}, model))
print(keras.backend.backend(), predictor({tflite!r}).class_names, float(np.abs(there - here).max()))
try:
    kresnet.export(model, {tflite!r}, labels=["a"])
except ValueError as error:
    print(error)
"""


@pytest.mark.slow
def test_what_jax_has_trained(tmp_path, on_jax):
    paths = {"keras": str(tmp_path / "x.keras"), "tflite": str(tmp_path / "x.tflite")}
    first, refused = on_jax(TRAINED_ON_JAX.format(**paths)).splitlines()
    backend, *names, difference = first.split()
    assert (backend, "".join(names)) == ("jax", "('a','b','c')")
    assert float(difference) < 0.05
    assert refused.endswith("Received: number=1")
    assert json.loads((tmp_path / "x.json").read_text())["labels"] == ["a", "b", "c"]


@pytest.mark.thorough
def test_the_command_exports_on_jax(tmp_path):
    path = tmp_path / "x.keras"
    kresnet.ResNet20(depths=(1,), widths=(8,), input_shape=(16, 16, 3)).save(path)
    done = subprocess.run(
        [COMMAND, "export", str(path), "--out", str(tmp_path / "y.tflite")],
        env=os.environ | {"KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "y.tflite").exists(), sys.version
