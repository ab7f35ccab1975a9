"""An export that is killed leaves the one that was there before, or the new one, with its own labels and crop."""

import contextlib
import importlib
import os
import shutil
import signal

import keras
import numpy as np
import pytest

import kresnet
from kresnet import files
from kresnet.deploy.formats import FORMATS
from kresnet.inference.predictors import predictor
from kresnet.inference.preprocessing import description_of

replacing = importlib.import_module("kresnet.deploy.export")._replacing  # `kresnet.deploy.export` is the function
IMAGES = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), "uint8")


def other_network(labels, favourite):
    """Returns a network that always says one class, and what is exported with it."""
    image = keras.Input((8, 8, 3))
    dense = keras.layers.Dense(3, activation="softmax", kernel_initializer="zeros")
    model = keras.Model(image, dense(keras.layers.GlobalAveragePooling2D()(image)))
    dense.bias.assign(9.0 * np.eye(3)[favourite])
    crop = {"crop_fraction": 0.5 + favourite / 10}
    return model, {"labels": [f"{labels} {i}" for i in range(3)], "description": crop, "latency": False}


@pytest.mark.parametrize("suffix", [".tflite", ".onnx", ""])
def test_a_kill_at_any_step_leaves_the_old_export_or_the_new_with_its_own_labels(suffix, tmp_path):
    """A forked child is killed before and after each step that changes what is on the disk."""
    if suffix == ".onnx":
        pytest.importorskip("tf2onnx", reason="pip install 'kresnet[onnx]'")
    made = {}
    for favourite, name in enumerate(("old", "new")):
        model, options = other_network(name, favourite)
        made[name] = kresnet.export(model, tmp_path / "made" / f"{name}{suffix}", **options)
    path, found = tmp_path / "there" / f"x{suffix}", []
    for turn in range(1, 100):
        with _placing(made["old"], path):
            pass
        child = os.fork()
        if child == 0:
            _kill_at(turn)
            with _placing(made["new"], path):
                pass
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        one = predictor(path)
        found.append(one.class_names[0].split()[0])
        favourite = ("old", "new").index(found[-1])
        assert (one.run(IMAGES).argmax(), one.crop_fraction) == (favourite, 0.5 + favourite / 10)
        if status == 0:
            break
        assert status == signal.SIGKILL
    assert found == ["old"] * found.count("old") + ["new"] * found.count("new")
    assert found.count("old") >= 5
    assert found.count("new") >= 2
    assert not [one for one in path.parent.iterdir() if not one.name.startswith((".kresnet-", "x"))]


@contextlib.contextmanager
def _placing(made, path):
    """Writes what was exported elsewhere as `export` writes: copying takes no time and no threads of TensorFlow's."""
    folder = FORMATS["saved_model"].folder if made.is_dir() else None
    with replacing(path, folder) as (written, about):
        if made.is_dir():
            shutil.copytree(made, written)
        else:
            shutil.copyfile(made, written)
            shutil.copyfile(description_of(made), about)
        yield


def _kill_at(turn):
    """Lets this process be killed before or after one of the next steps."""
    steps = iter(range(1, 1000))

    def stepping(run):
        def stepped(*arguments):
            if next(steps) == turn:
                os.kill(os.getpid(), signal.SIGKILL)
            done = run(*arguments)
            if next(steps) == turn:
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        return stepped

    for owner, names in ((os, ("replace", "rename", "fsync")), (files, ("_swapped",))):
        for name in names:
            setattr(owner, name, stepping(getattr(owner, name)))
