"""Forged files of Keras's: whole networks, and weights."""

import copy
import json
import shutil

import h5py
import numpy as np

from surviving.forged import NESTED, Case, archive, entries_of, exported, flipped, truncated

LAYER = "layers/dense/vars"


def keras(good, place, ran, rng):
    import keras

    entries = entries_of(good / "x.keras")
    config = json.loads(entries["config.json"])
    yield from truncated(good / "x.keras", place, rng, 6)
    yield from truncated(good / "x.keras", place, rng, 6, weights=True)
    yield from flipped(good / "x.keras", place, rng, 4)

    def written(name, **changed):
        return archive(place / f"{name}.keras", {**entries, **changed})

    command = f"touch {ran}"
    image = keras.Input((32, 32, 3))
    called = keras.layers.Lambda(lambda x, c=command: (__import__("os").system(c), x)[1], output_shape=(32, 32, 3))
    inner = keras.Sequential([keras.Input((32, 32, 3)), called])
    for name, x in (("lambda", called(image)), ("lambda_inside", inner(image))):
        keras.Model(image, keras.layers.Flatten()(x)).save(place / f"{name}.keras")
        yield Case(place / f"{name}.keras")
    code = keras.saving.serialize_keras_object(lambda x: __import__("os").system(command))

    def with_dense(change):
        changed = copy.deepcopy(config)
        change(next(layer for layer in changed["config"]["layers"] if layer["class_name"] == "Dense"))
        return json.dumps(changed)

    functions = {
        "os_system": {"module": "os", "class_name": "function", "config": "system", "registered_name": "function"},
        "builtins_eval": {"module": "builtins", "class_name": "function", "config": "eval", "registered_name": "eval"},
        "get_file": {"module": "keras.utils", "class_name": "function", "config": "get_file", "registered_name": "x"},
        "popen": {"module": "subprocess", "class_name": "Popen", "config": {"args": command}, "registered_name": "P"},
        "marshalled": code,
    }
    for name, function in functions.items():
        text = with_dense(lambda layer, function=function: layer["config"].update(activation=function))
        yield Case(written(f"activation_{name}", **{"config.json": text}))
        text = with_dense(lambda layer, function=function: layer.update(function))
        yield Case(written(f"layer_{name}", **{"config.json": text}))
    saved = {"filepath": str(exported(good, "x")), "call_endpoint": "serve"}
    for name, kind, options in (
        ("saved_model", "TFSMLayer", saved),
        ("vocabulary", "StringLookup", {"vocabulary": "/etc/passwd"}),
    ):
        change = {"module": "keras.layers", "class_name": kind, "config": options, "registered_name": None}
        yield Case(written(name, **{"config.json": with_dense(lambda layer, c=change: layer.update(c))}))
    for name, units in (("units", 10**9), ("negative", -5), ("text", "many")):
        text = with_dense(lambda layer, units=units: layer["config"].update(units=units))
        yield Case(written(f"shape_{name}", **{"config.json": text}))
    for name, text in {
        "no_json": b"{",
        "list": b"[]",
        "number": b"7",
        "nested": NESTED,
        "bytes": b"\xff\xfe\0",
        "empty": b"{}",
    }.items():
        yield Case(written(f"config_{name}", **{"config.json": text}))
    yield Case(written("weights_text", **{"model.weights.h5": b"no HDF5"}))
    for left_out in ("config.json", "model.weights.h5"):
        some = {name: data for name, data in entries.items() if name != left_out}
        yield Case(archive(place / f"without_{left_out}.keras", some))
    for name in (f"../../{ran.name}", str(ran), f"assets/../../{ran.name}", f"..\\{ran.name}"):
        path = place / f"traversal_{len(name)}.keras"
        yield Case(archive(path, {**entries, name: b"out of the archive"}), may_pass=True)
    for name, change in _hdf5_changes(place).items():
        weights = place / f"{name}.weights.h5"
        weights.write_bytes(entries["model.weights.h5"])
        change(weights)
        written(name, **{"model.weights.h5": weights.read_bytes()})
        weights.unlink()
        yield Case(place / f"{name}.keras", may_pass=name in ("integers", "link_beside"))


def bombs(good, place, ran, rng):
    """Files of a megabyte that unpack to a gigabyte."""
    entries = entries_of(good / "x.keras")
    for name, fill in (("config.json", b" "), ("model.weights.h5", b"\0")):
        path = archive(place / f"{name}.keras", {**entries, name: fill * (1 << 30)})
        yield Case(path)
        yield Case(path, weights=True)


def _hdf5_changes(place):
    """Returns functions that change one of Keras's weights files, by name."""
    secret = place / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["kernel"] = np.zeros((8, 3), "float32")

    def replaced(write):
        def change(path):
            with h5py.File(path, "a") as file:
                del file[LAYER]["0"]
                write(file[LAYER])

        return change

    def virtual(group):
        layout = h5py.VirtualLayout((8, 3), "float32")
        layout[:] = h5py.VirtualSource(str(secret), "kernel", (8, 3))
        group.create_virtual_dataset("0", layout)

    def external(group):
        group.create_dataset("0", (8, 3), "float32", external=[("/etc/passwd", 0, 96)])

    def linked(group):
        group["0"] = h5py.ExternalLink(str(secret), "kernel")

    def beside(group):
        group["0"] = np.zeros((8, 3), "float32")
        group["more"] = h5py.ExternalLink("/etc/passwd", "/")

    def packed(group):
        group.create_dataset("0", (20_000, 20_000), "float32", chunks=(2000, 20_000), compression="gzip", fillvalue=1)

    arrays = {
        "strings": np.full((8, 3), b"text"),
        "complex": np.zeros((8, 3), "complex64"),
        "integers": np.zeros((8, 3), "int8"),
        "nan": np.full((8, 3), np.nan, "float32"),
        "infinite": np.full((8, 3), np.inf, "float32"),
        "other_shape": np.zeros((9, 3), "float32"),
        "scalar": np.float32(0),
        "empty": np.zeros((0, 3), "float32"),
    }
    changes = {name: replaced(lambda group, array=array: group.update({"0": array})) for name, array in arrays.items()}
    changes |= {"huge": replaced(lambda group: group.create_dataset("0", (1 << 20, 1 << 20), "float32", chunks=(8, 8)))}
    changes |= {"virtual": replaced(virtual), "external": replaced(external), "link": replaced(linked)}
    changes |= {"packed": replaced(packed), "link_beside": replaced(beside)}
    changes |= {"soft_loop": replaced(lambda group: group.update({"0": h5py.SoftLink("0")}))}
    changes |= {"group": replaced(lambda group: group.create_group("0")), "missing": replaced(lambda group: None)}
    return changes


def hdf5(good, place, ran, rng):
    yield from truncated(good / "x.weights.h5", place, rng, 6, weights=True)
    yield from flipped(good / "x.weights.h5", place, rng, 4, weights=True)
    for name, change in _hdf5_changes(place).items():
        path = place / f"{name}.weights.h5"
        shutil.copy(good / "x.weights.h5", path)
        change(path)
        yield Case(path, weights=True, may_pass=name in ("integers", "link_beside"))
    for name, names in {"loop": ["."], "up": [".."], "absent": ["conv1"], "numbers": [1, 2]}.items():
        with h5py.File(place / f"old_{name}.h5", "w") as file:
            file.attrs["layer_names"] = names
        yield Case(place / f"old_{name}.h5", weights=True)
