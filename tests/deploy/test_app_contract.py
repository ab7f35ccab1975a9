"""What examples/android and examples/ios promise of an exported file, one has."""

import json
import pathlib
import re
import zipfile

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

import kresnet

EXAMPLES = pathlib.Path(__file__).parent.parent.parent / "examples"
SIZES = {"height": 32, "width": 40, "classes": 3}
LABELS = ["cat", "dog", "great auk"]


@pytest.fixture(scope="module", params=[None, "int8"])
def file(request, tmp_path_factory):
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 40, 3), dtype="uint8")
    model = kresnet.ResNet(input_shape=(32, 40, 3), classes=3, depths=(1, 1), widths=(8, 16))
    path = tmp_path_factory.mktemp("app") / "x.tflite"
    options = {"agreement": 0.0, "latency": False}  # of random weights
    return kresnet.export(model, path, quantize=request.param, calibration=images, labels=LABELS, **options)


@pytest.mark.parametrize("app", ["android", "ios"])
def test_tensors_are_those_of_the_contract(app, file):
    table = (EXAMPLES / app / "README.md").read_text()
    rows = re.findall(r"^\| (in|out) \| `(\w+)` \| (\w+) \| \((.+?)\)", table, re.M)
    promised = {
        side: (name, dtype, [SIZES[size] if size in SIZES else int(size) for size in shape.split(", ")])
        for side, name, dtype, shape in rows
    }
    runner = Interpreter(str(file)).get_signature_runner()
    details = {"in": runner.get_input_details(), "out": runner.get_output_details()}
    has = {
        side: (name, tensor["dtype"].__name__, tensor["shape"].tolist())
        for side, tensors in details.items()
        for name, tensor in tensors.items()
    }
    assert promised == has


def test_probabilities_sum_to_one(file):
    probs = Interpreter(str(file)).get_signature_runner()(image=np.full((1, 32, 40, 3), 200, "uint8"))["probs"]
    assert probs.sum() == pytest.approx(1, abs=1e-3)


def test_labels_are_inside_and_beside(file):
    with zipfile.ZipFile(file) as archive:
        assert archive.read("labels.txt").decode().splitlines() == LABELS
    assert json.loads(file.with_suffix(".json").read_text())["labels"] == LABELS
