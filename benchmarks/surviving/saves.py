"""Kills while saving. Survived: what was there before or the new one is at the path, opens, and is that one's.

Of each form in which kresnet writes, an old one is replaced by a new one in a child that is killed: half of the kills
come at random moments, half before or after a step that changes what is on the disk. "That one's" are the outputs of
a network, the names of its classes and its crop; the epochs of a history; the text of a report.
"""

import builtins
import importlib.util
import os
import pathlib
import random
import shutil
import signal
import time

import numpy as np

from surviving.child import PROCESSES

FORMS = {
    "best.keras": "a run's network",
    "x.safetensors": "weights",
    "x.tflite": "a .tflite",
    "x.onnx": "an ONNX file",
    "x": "a SavedModel",
    "history.csv": "a history",
    "report.html": "a report",
}
SMALL = {"depths": (1,), "widths": (8,), "stem": "conv3", "input_shape": (32, 32, 3), "classes": 3}
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), "uint8")
COUNT, QUICK = 100, 8


def forms(quick):
    """Returns the names of files of each form that can be written here, or of two of them."""
    if quick:
        return ["x", "history.csv"]
    return [name for name in FORMS if name != "x.onnx" or importlib.util.find_spec("tf2onnx")]


def write(path, new):
    """Writes the old or the new one to a path, whose name tells the form."""
    import keras

    import kresnet
    from kresnet.training.callbacks import Checkpoint, HistoryFile

    labels, crop = [f"{'new' if new else 'old'} {i}" for i in range(3)], 0.9 if new else 0.8
    if path.name == "history.csv":
        history = HistoryFile(path)
        history.rows = [{"epoch": i, "loss": i + new / 2} for i in range(400)]
        return history.on_epoch_end(400, {"loss": 400 + new / 2})
    keras.utils.set_random_seed(int(new))
    model = kresnet.ResNet(**SMALL)
    model.describe(labels=labels, crop_fraction=crop)
    if path.name == "report.html":
        from kresnet.evaluation import report

        about = {"class_names": labels, "history": {"loss": [1.0]}, "mistakes": 1}
        return report.write(path, model=model, images=IMAGES, labels=np.array([0, 1]), **about)
    if path.suffix == ".keras":
        checkpoint = Checkpoint(path.parent)
        checkpoint.set_model(model)
        return checkpoint.on_epoch_end(0)
    if path.suffix == ".safetensors":
        return kresnet.save_weights(model, path)
    return kresnet.export(model, path, latency=False)


def seen(path):
    """Returns what is at a path, to compare it with others; raises whatever opening it raises."""
    import kresnet
    from kresnet.inference.predictors import predictor
    from kresnet.training.callbacks import HistoryFile

    if path.name == "history.csv":
        history = HistoryFile(path)
        history.read()
        return history.rows
    if path.name == "report.html":
        return path.read_text()
    network = predictor(kresnet.ResNet(**SMALL, weights=path) if path.suffix == ".safetensors" else path)
    return network.class_names, network.crop_fraction, np.round(network.run(IMAGES), 5).tolist()


class Pair:
    """The old and the new one of a form, written undisturbed, and a path at which one is to replace the other."""

    def __init__(self, folder, name):
        self.path = folder / "there" / name
        self.made = [folder / which / name for which in ("old", "new")]
        for new, path in enumerate(self.made):
            path.parent.mkdir(parents=True)
            write(path, bool(new))
        self.seen = [seen(path) for path in self.made]
        assert self.seen[0] != self.seen[1]

    def restore(self):
        """Lets the old one be at the path, and beside it what belongs to it and what killed processes left."""
        self.path.parent.mkdir(exist_ok=True)
        for one in [one for one in self.path.parent.iterdir() if not one.name.startswith(".kresnet-")]:
            shutil.rmtree(one) if one.is_dir() else one.unlink()
        shutil.copytree(self.made[0].parent, self.path.parent, dirs_exist_ok=True)

    def wrong(self):
        """Returns what is wrong with what is at the path; None if it is the old one or the new one, whole."""
        try:
            found = seen(self.path)
        except Exception as error:
            return f"{FORMS[self.path.name]} does not open: {error}"
        return None if found in self.seen else f"{FORMS[self.path.name]} is neither the old one nor the new one"


def tries(folder, rng, quick):
    names, count = forms(quick), QUICK if quick else COUNT
    pairs = {}
    for name in names:
        pairs[name] = Pair(folder / name, name)
        pairs[name].seconds, pairs[name].steps = _undisturbed(pairs[name], folder / "steps")
    order = [(names[i % len(names)], i // len(names) % 2) for i in range(count)]
    at_steps = {name: _spread(pairs[name].steps, sum(one == (name, 0) for one in order), rng) for name in names}
    for name, at_random in order:
        pair = pairs[name]
        pair.restore()
        if at_random:
            _killed_after(pair, rng.uniform(0, pair.seconds), folder / "begun")
            yield pair.wrong()
        else:
            step = next(at_steps[name])
            exitcode = _child(pair.path, step).exitcode
            wrong = pair.wrong() if exitcode == -signal.SIGKILL else f"{FORMS[name]}: the child ended with {exitcode}"
            yield wrong and f"{wrong} (killed at step {step} of {pair.steps})"


def _spread(steps, count, rng: random.Random):
    """Returns an iterator of so many numbers of steps: each once before any comes again."""
    numbers = []
    while len(numbers) < count:
        numbers += rng.sample(range(1, steps + 1), steps)
    return iter(numbers[:count])


def _undisturbed(pair, file):
    """Returns how long a child takes to write the new one, and how many steps."""
    pair.restore()
    _child(pair.path, 0, file)
    seconds, steps = file.read_text().split()
    assert seen(pair.path) == pair.seen[1]
    return float(seconds), int(steps)


def _child(path, step, file=None):
    child = PROCESSES.Process(target=_stepping, args=(path, step, file))
    child.start()
    child.join()
    return child


def _killed_after(pair, seconds, begun):
    begun.unlink(missing_ok=True)
    child = PROCESSES.Process(target=_begun, args=(pair.path, begun))
    child.start()
    while child.is_alive() and not begun.exists():
        time.sleep(0.005)
    child.join(seconds)
    child.kill()
    child.join()


def _begun(path, begun):
    _quiet()
    begun.touch()
    write(path, True)


def _quiet():
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _stepping(path, last, file):
    """Writes the new one, killed at a step: before or after each call that changes what is on the disk."""
    from kresnet import files

    _quiet()
    count = 0

    def step():
        nonlocal count
        count += 1
        if count == last:
            os.kill(os.getpid(), signal.SIGKILL)

    def stepping(run):
        def stepped(*arguments, **options):
            step()
            result = run(*arguments, **options)
            step()
            return result

        return stepped

    opened = builtins.open

    def opening(name, mode="r", *arguments, **options):
        if set(mode) & set("wax+") and isinstance(name, str | os.PathLike):
            step()
        return opened(name, mode, *arguments, **options)

    for owner, name in (
        *((os, name) for name in ("replace", "rename", "fsync", "unlink", "rmdir")),
        *((pathlib.Path, name) for name in ("write_text", "write_bytes")),
        *((shutil, "copyfile"), (files, "_swapped")),
    ):
        setattr(owner, name, stepping(getattr(owner, name)))
    builtins.open = opening
    start = time.perf_counter()
    write(path, True)
    if file is not None:
        file.write_text(f"{time.perf_counter() - start} {count}")
