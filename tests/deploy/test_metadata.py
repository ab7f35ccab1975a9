"""Labels and description travel inside the file, where apps look for them."""

import hashlib
import importlib.util
import io
import json
import zipfile

import flatbuffers
import keras
import numpy as np
import pytest
from sklearn.datasets import load_sample_image

import kresnet
from kresnet.inference.exported import open_onnx
from kresnet.inference.preprocessing import description_of
from kresnet.inference.tflite_file import TFLiteFile

LABELS = ["flower", "temple", "Katze", "chien", "鳥"]
TINY = {"depths": (1, 1), "widths": (8, 16), "classes": 5, "input_shape": (64, 64, 3)}


@pytest.fixture(scope="module")
def photograph():
    """Returns sklearn's photograph of a flower, uint8, (64, 64, 3)."""
    return np.ascontiguousarray(load_sample_image("flower.jpg")[100:356:4, 200:456:4])


@pytest.fixture(scope="module")
def files(tmp_path_factory, photograph):
    folder, model = tmp_path_factory.mktemp("metadata"), kresnet.ResNet(**TINY)
    calibration = np.stack([np.roll(photograph, shift, 1) for shift in range(0, 64, 8)])
    found = {}
    for quantize, dtype in ((None, "uint8"), (None, "float32"), ("int8", "uint8")):
        settings = {"quantize": quantize, "io": dtype, "labels": LABELS, "agreement": 0, "latency": False}
        if quantize:
            settings["calibration"] = calibration
        found[quantize, dtype] = kresnet.export(model, folder / f"{quantize}_{dtype}.tflite", **settings)
    return model, found


@pytest.mark.slow
def test_mediapipe_reads_labels_and_classifies_a_photograph(files, photograph):
    vision = pytest.importorskip("mediapipe.tasks.python.vision", reason="pip install 'kresnet[mediapipe]'")
    import mediapipe

    model, found = files
    image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=photograph)
    expected = keras.ops.convert_to_numpy(model(photograph[None].astype("float32")))[0]
    for (quantize, _), file in found.items():
        options = vision.ImageClassifierOptions(
            base_options=mediapipe.tasks.BaseOptions(model_asset_path=str(file)), max_results=5
        )
        with vision.ImageClassifier.create_from_options(options) as classifier:
            classes = classifier.classify(image).classifications[0].categories
        assert {one.category_name for one in classes} == set(LABELS)
        assert classes[0].category_name == LABELS[expected.argmax()]
        scores = [{one.category_name: one.score for one in classes}[label] for label in LABELS]
        np.testing.assert_allclose(scores, expected, atol=0.1 if quantize else 0.02)


def test_the_same_export_is_the_same_file(files, tmp_path):
    model, found = files
    again = kresnet.export(model, tmp_path / "x.tflite", labels=LABELS, latency=False)
    assert again.read_bytes() == found[None, "uint8"].read_bytes()


def test_the_description_inside_is_that_beside_but_for_what_was_measured(files, tmp_path):
    model, found = files
    paths = [*found.values()]
    if importlib.util.find_spec("tf2onnx"):
        paths += [kresnet.export(model, tmp_path / "x.onnx", labels=LABELS)]
    for path in paths:
        inside = TFLiteFile(path).description if path.suffix == ".tflite" else open_onnx(path).description
        beside = json.loads(description_of(path).read_text())
        assert beside.pop("sha256") == hashlib.sha256(path.read_bytes()).hexdigest()
        assert beside.pop("proof")
        assert inside == beside
        assert inside["labels"] == LABELS


def test_a_damaged_archive_is_named(files, tmp_path):
    content = files[1][None, "uint8"].read_bytes()
    graph = content[: content.index(b"PK\3\4")]

    def refused(name, words, write):
        path = tmp_path / "x.tflite"
        path.write_bytes(graph)
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
            write(archive)
        with pytest.raises(ValueError, match=rf"{words}.* Received: "):
            getattr(TFLiteFile(path), name)

    refused(
        "labels", "labels.txt inside .*x.tflite is damaged", lambda archive: archive.writestr("labels.txt", b"caf\xe9")
    )
    refused("labels", "inside .*x.tflite is too large", lambda archive: archive.writestr("labels.txt", bytes(1 << 25)))
    refused(
        "description",
        "x.tflite/description.json is not a complete description",
        lambda archive: archive.writestr("description.json", "{"),
    )
    refused("description", "not a complete", lambda archive: archive.writestr("description.json", "[" * 100_000))
    path = tmp_path / "x.tflite"
    path.write_bytes(content.replace(b'{"network"', b'{"netw0rk"'))
    with pytest.raises(ValueError, match=r"description.json inside .*x.tflite is damaged: Bad CRC-32"):
        _ = TFLiteFile(path).description
    path.write_bytes(graph)
    assert TFLiteFile(path).labels is TFLiteFile(path).description is None


def test_labels_are_lines_of_a_file_in_the_archive(files):
    for file in files[1].values():
        with zipfile.ZipFile(io.BytesIO(file.read_bytes())) as archive:
            assert archive.read("labels.txt").decode().split("\n") == [*LABELS, ""]
        assert TFLiteFile(file).labels == LABELS


def test_the_flatbuffer_says_what_goes_in(files):
    """Read by hand, as the schema numbers the fields."""
    from ai_edge_litert.tools import flatbuffer_utils

    def at(table, slot):
        return table.Offset(4 + 2 * slot)

    def text(table, slot):
        return table.String(at(table, slot) + table.Pos).decode()

    def inner(table, slot, place=None):
        if place is None:
            position = table.Indirect(at(table, slot) + table.Pos)
        else:
            position = table.Indirect(table.Vector(at(table, slot)) + 4 * place)
        return flatbuffers.table.Table(table.Bytes, position)

    file = flatbuffer_utils.read_model_from_bytearray(bytearray(files[1][None, "uint8"].read_bytes()))
    (field,) = [field for field in file.metadata if field.name == b"TFLITE_METADATA"]
    content = bytes(bytearray(file.buffers[field.buffer].data))
    assert content[4:8] == b"M001"
    root = flatbuffers.table.Table(content, flatbuffers.encode.Get(flatbuffers.packer.uoffset, content, 0))
    assert text(root, 0) == "resnet"
    assert "parameters: " in text(root, 1)
    graph = inner(root, 3, 0)
    image, probs = inner(graph, 2, 0), inner(graph, 3, 0)
    assert (text(image, 0), text(image, 1)) == ("image", "RGB pixels, 0 to 255")
    assert text(inner(probs, 6, 0), 0) == "labels.txt"
