"""Forged exports, .tflite, SavedModel and ONNX, and folders of runs."""

import importlib.util
import io
import json
import os
import shutil
import zipfile
from pathlib import Path

from surviving.forged import NESTED, Case, exported, flipped, truncated


def tflite(good, place, ran, rng):
    from ai_edge_litert.tools import flatbuffer_utils

    content = exported(good, "x.tflite").read_bytes()
    graph = content[: content.index(b"PK\3\4")]
    # What is cut off behind the network are names; a file without them is whole.
    for size in (0, 3, 8, *(rng.randrange(len(graph) * 9 // 10) for _ in range(5))):
        path = place / f"cut_at_{size}.tflite"
        path.write_bytes(content[:size])
        yield Case(path)
    yield from flipped(good / "x.tflite", place, rng, 12)

    def appended(name, entries, may_pass=False):
        path = place / f"{name}.tflite"
        path.write_bytes(graph)
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
            for entry, data in entries.items():
                archive.writestr(entry, data)
        return Case(path, may_pass=may_pass)

    yield appended("labels_bytes", {"labels.txt": b"caf\xe9\n"})
    yield appended("labels_bomb", {"labels.txt": bytes(1 << 30)})
    yield appended("description_bomb", {"description.json": b" " * (1 << 30)})
    yield appended("description_nested", {"description.json": NESTED})
    yield appended("description_none", {"description.json": b"{"})
    odd = {"labels": 5, "input": {"range": "x"}, "output": [], "crop_fraction": {}, "interpolation": 7}
    yield appended("description_odd", {"description.json": json.dumps(odd)}, may_pass=True)
    yield appended("traversal", {f"../{ran.name}": b"out", str(ran): b"out"}, may_pass=True)
    for name, change in {
        "huge": lambda one: setattr(
            one.subgraphs[0].tensors[one.subgraphs[0].inputs[0]], "shape", [1, 1 << 17, 1 << 17, 3]
        ),
        "negative": lambda one: setattr(one.subgraphs[0].tensors[one.subgraphs[0].inputs[0]], "shape", [1, -7, 32, 3]),
        "no_buffer": lambda one: setattr(one.subgraphs[0].tensors[1], "buffer", 1 << 30),
        "no_tensor": lambda one: setattr(one.subgraphs[0].operators[0], "inputs", [1 << 30, 0]),
        "no_operator": lambda one: setattr(one.subgraphs[0].operators[0], "opcodeIndex", 1 << 20),
        "custom": lambda one: setattr(one.operatorCodes[0], "customCode", b"system"),
        "no_graph": lambda one: setattr(one, "subgraphs", []),
        "other_input": lambda one: setattr(one.subgraphs[0], "inputs", [10**6]),
    }.items():
        one = flatbuffer_utils.read_model_from_bytearray(bytearray(graph))
        change(one)
        path = place / f"graph_{name}.tflite"
        path.write_bytes(flatbuffer_utils.convert_object_to_bytearray(one))
        yield Case(path, may_pass=name == "custom")


def saved_model(good, place, ran, rng):
    import tensorflow as tf

    def copied(name):
        shutil.copytree(exported(good, "x"), place / name)
        return place / name

    for part in ("saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"):
        for i in range(3):
            path = copied(f"cut_{Path(part).name}_{i}")
            content = (path / part).read_bytes()
            (path / part).write_bytes(content[: (0, len(content) // 2, len(content) - 1)[i]])
            yield Case(path)
        path = copied(f"without_{Path(part).name}")
        (path / part).unlink()
        yield Case(path)
    for name, text in {"none": b"{", "nested": NESTED, "bytes": b"\xff"}.items():
        path = copied(f"description_{name}")
        (path / "description.json").write_bytes(text)
        yield Case(path)
    path = copied("description_pipe")
    (path / "description.json").unlink()
    os.mkfifo(path / "description.json")
    yield Case(path, may_pass=True)

    class Writing(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 3), tf.uint8)])
        def run(self, image):
            with tf.control_dependencies([tf.io.write_file(str(ran), "ran")]):
                return {"probs": tf.reduce_mean(tf.cast(image, tf.float32), (1, 2))}

    module = Writing()
    tf.saved_model.save(module, place / "writes_files", signatures=module.run)
    yield Case(place / "writes_files")


def run(good, place, ran, rng):
    configs = {
        "none": b"{",
        "list": b"[]",
        "nested": NESTED,
        "bytes": b"\xff\xfe",
        "names": b'{"class_names": 5}',
        "few": b'{"class_names": ["a"]}',
        "numbers": b'{"class_names": [1, 2, 3]}',
    }
    for name, text in configs.items():
        path = place / f"config_{name}"
        path.mkdir()
        shutil.copy(good / "x.keras", path / "best.keras")
        (path / "config.json").write_bytes(text)
        yield Case(path)
    for name, make in {
        "absent": lambda file: None,
        "folder": lambda file: file.mkdir(),
        "pipe": os.mkfifo,
        "loop": lambda file: file.symlink_to(file.name),
        "empty": lambda file: file.touch(),
    }.items():
        for of in ("best.keras", "config.json"):
            path = place / f"{of}_{name}"
            path.mkdir()
            shutil.copy(good / "x.keras", path / "best.keras")
            (path / "config.json").write_bytes(b"{}")
            (path / of).unlink()
            make(path / of)
            yield Case(path)


def onnx(good, place, ran, rng):
    if not importlib.util.find_spec("tf2onnx"):
        return
    import onnx

    yield from truncated(exported(good, "x.onnx"), place, rng, 4)
    one = onnx.load(good / "x.onnx")
    kernel = one.graph.initializer[0]
    kernel.ClearField("raw_data")
    kernel.data_location = onnx.TensorProto.EXTERNAL
    kernel.external_data.add(key="location", value="../../../../../../etc/passwd")
    onnx.save(one, place / "outside.onnx")
    yield Case(place / "outside.onnx")
    for name, text in (("none", "{"), ("nested", NESTED.decode())):
        buffer = io.BytesIO((good / "x.onnx").read_bytes())
        more = onnx.ModelProto(metadata_props=[onnx.StringStringEntryProto(key="kresnet", value=text)])
        (place / f"description_{name}.onnx").write_bytes(buffer.getvalue() + more.SerializeToString())
        yield Case(place / f"description_{name}.onnx")
