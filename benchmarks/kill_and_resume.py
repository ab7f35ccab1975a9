"""Whether a training run that is killed at random moments ends as if nothing had happened, to the bit.

    python benchmarks/kill_and_resume.py [--kills 50] [--seed 0]

Trains a small network on the digits with dropout, drop path, augmentation, MixUp, shuffling, a plateau schedule,
averaged weights, Adam and mixed precision. SIGKILL ends the process at random moments; the same call goes on, until
the training has come to its end. Weights and history are compared with those of a training that nobody disturbed; where
kills are left, another one is begun. Beside it, the same with `keras.callbacks.BackupAndRestore` after each epoch and
`keras.callbacks.CSVLogger`, which are told which epoch begins.
"""

import argparse
import multiprocessing
import os
import pathlib
import random
import signal
import tempfile
import time

import numpy as np

EPOCHS, BATCH = 12, 64
# Children of a process that has imported these: most of their time is training.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tensorflow", "keras", "kresnet.training.train", "kresnet.models", "kresnet.data"])


def fit(folder, keeper, epochs):
    """Trains, or goes on, in this process; leaves `weights.npz` and `history.csv` in the folder."""
    os.dup2(os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import keras

    import kresnet
    from kresnet import callbacks

    keras.utils.set_random_seed(1)
    keras.config.set_dtype_policy("mixed_bfloat16")
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    recipe = kresnet.recipes.QUICK.replace(
        epochs=epochs, optimizer="adamw", learning_rate=1e-3, schedule="plateau", plateau_epochs=1, warmup_epochs=0.0,
        ema=0.95,
    )  # fmt: skip
    data = kresnet.data.load("digits", "train", 16, BATCH, augment="cifar", mixup=0.2)
    held_out = kresnet.data.load("digits", "validation", 16, BATCH)
    fields = {"depths": (1, 1), "widths": (8, 16), "expansion": 1, "stem": "conv3", "dropout_rate": 0.2}
    model = kresnet.ResNet(**fields, drop_path_rate=0.2, input_shape=(16, 16, 1), classes=10)
    model.compile(recipe.optimizer_for(len(data), BATCH), recipe.loss(), metrics=kresnet.losses.metrics(10))
    marker = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: (folder / "begun").touch())
    history = folder / "history.csv"
    if keeper == "kresnet":
        others = [*recipe.callbacks(), callbacks.HistoryFile(history), marker]
        others = [callbacks.Resume(folder / "states", others, data, every="5 steps", delete=False)]
    else:
        backup = keras.callbacks.BackupAndRestore(folder / "backup", delete_checkpoint=False)
        log = keras.callbacks.CSVLogger(history, append=history.exists())
        others = [*recipe.callbacks(), callbacks.DatasetEpoch(data), backup, log, marker]
    model.fit(data, validation_data=held_out, epochs=epochs, callbacks=others, verbose=0, shuffle=False)
    np.savez(folder / "weights.npz", *model.get_weights())
    (folder / "done").touch()


def undisturbed(folder, keeper, epochs):
    """Returns how many seconds the training took from its begin on."""
    folder.mkdir()
    child = PROCESSES.Process(target=fit, args=(folder, keeper, epochs))
    child.start()
    child.join()
    if child.exitcode:
        raise SystemExit((folder / "log").read_text())
    return (folder / "done").stat().st_mtime - (folder / "begun").stat().st_mtime


def killed(folder, keeper, epochs, kills, seconds, rng):
    """Trains to the end, killed up to so many times; returns how often it was killed, and what went wrong or None."""
    folder.mkdir()
    count = 0
    while not (folder / "done").exists():
        (folder / "begun").unlink(missing_ok=True)
        child = PROCESSES.Process(target=fit, args=(folder, keeper, epochs))
        child.start()
        if count < kills:
            while child.is_alive() and not (folder / "begun").exists():
                time.sleep(0.01)
            child.join(rng.uniform(0, seconds))
            if child.is_alive() and not (folder / "done").exists():
                os.kill(child.pid, signal.SIGKILL)
                count += 1
        child.join()
        if child.exitcode not in (0, -signal.SIGKILL):
            return count, (folder / "log").read_text().strip().splitlines()[-1]
    return count, None


def difference(folder, other):
    """Returns what differs between two trainings that have ended, or None."""
    ours, theirs = ([*np.load(one / "weights.npz").values()] for one in (folder, other))
    if not all((a == b).all() for a, b in zip(ours, theirs, strict=True)):
        return "other weights"
    same = (folder / "history.csv").read_text() == (other / "history.csv").read_text()
    return None if same else "another history"


def survive(folder, keeper, kills, seed=0, epochs=EPOCHS):
    """Returns for each training of as many as that many kills need: how often it was killed, what differs or None."""
    whole, rng, found = folder / f"{keeper}-whole", random.Random(seed), []
    seconds = undisturbed(whole, keeper, epochs)
    while (left := kills - sum(count for count, _ in found)) > 0:
        one = folder / f"{keeper}-{len(found)}"
        count, wrong = killed(one, keeper, epochs, left, seconds / 2, rng)
        found.append((count, wrong or difference(one, whole)))
        print(f"  killed {count} times: {found[-1][1] or 'the same, to the bit'}", flush=True)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for keeper in ("kresnet", "BackupAndRestore"):
        print(keeper)
        with tempfile.TemporaryDirectory() as folder:
            found = survive(pathlib.Path(folder), keeper, options.kills, options.seed)
        survived = sum(count for count, wrong in found if wrong is None)
        print(f"{keeper}: {survived} of {sum(count for count, _ in found)} kills survived, to the bit")


if __name__ == "__main__":
    main()
