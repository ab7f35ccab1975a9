"""Two devices are one: two logical CPUs under TensorFlow, and under JAX."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from processes import python

import kresnet
from kresnet.training import devices, hosts

TWO_CPUS = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
"""
# Run in a process of its own, on each backend.
SAME = """
import keras, numpy as np, tensorflow as tf
import kresnet
from kresnet.layers.normalization import statistics_across_devices

FIELDS = {"depths": (1, 1), "widths": (8, 16), "expansion": 1, "stem": "conv3"}
STEPS, BATCH = 20, 8
rng = np.random.default_rng(0)
x, y = rng.normal(size=(STEPS * BATCH, 8, 8, 3)).astype("float32"), rng.integers(0, 10, STEPS * BATCH)
batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH, drop_remainder=True)

def trained(count):
    keras.utils.set_random_seed(0)
    keras.backend.clear_session()
    with kresnet.on_devices(count), statistics_across_devices():
        model = kresnet.ResNet(**FIELDS, input_shape=(8, 8, 3), classes=10, include_preprocessing=False)
        model.compile(keras.optimizers.SGD(0.05, 0.9), "sparse_categorical_crossentropy")
        model.fit(batches, verbose=0)
        found = kresnet.evaluate(model, tf.data.Dataset.from_tensor_slices((x[:7], y[:7])).batch(4), verbose=False)
    return [np.array(keras.ops.convert_to_numpy(v)) for v in model.weights], found

(one, of_one), (two, of_two) = trained(1), trained(2)
print(max(np.abs(a - b).max() for a, b in zip(one, two)))
print(len(of_two.labels), len(of_two.probabilities), np.abs(of_one.probabilities - of_two.probabilities).max())
"""
# Both trainings end with a report, and a second one goes on with the other number of devices.
RUN = """
import json, pathlib
import keras, numpy as np
import kresnet

out = pathlib.Path({out!r})
FIELDS = {{"depths": (1, 1), "widths": (8, 16), "expansion": 1, "stem": "conv3"}}

class Killed(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        raise RuntimeError("killed")

options = {{"batch_size": 256, "image_size": 8, "model_fields": FIELDS, "verbose": False, "sync_batch_norm": True}}
options |= {{"ema": 0.9, "schedule": "plateau", "warmup_epochs": 0.0, "epochs": 2, "learning_rate": 0.01}}
whole = kresnet.train("resnet20", "digits", out=out / "whole", devices=1, with_report=False, **options)
try:
    kresnet.train("resnet20", "digits", out=out / "killed", devices="auto", callbacks=[Killed()], **options)
except RuntimeError as error:
    assert str(error) == "killed", error
again = kresnet.train(out=out / "killed", resume=True, devices=2, verbose=False)
assert (out / "killed" / "report.html").exists() and again.epoch == [0, 1]
for name in ("loss", "accuracy", "val_loss", "val_accuracy", "val_top5"):
    np.testing.assert_allclose(again.history[name], whole.history[name], atol=6e-3, err_msg=name)
found = kresnet.evaluate(out / "killed", "digits", verbose=False)
best = int(np.argmax(again.history["val_accuracy"]))
np.testing.assert_allclose(found.loss, again.history["val_loss"][best], rtol=1e-5)
try:
    kresnet.train("resnet20", "digits", out=out / "other", devices=2, batch_size=255, image_size=8)
except ValueError as error:
    print(error)
with kresnet.on_devices(1):
    model = kresnet.ResNet(**FIELDS, input_shape=(8, 8, 1), classes=10)
for count in (2, 3):
    try:
        kresnet.train(model, "digits", out=out / "other", devices=count)
    except ValueError as error:
        print(error)
"""
# Each device's own statistics and sums are part of what goes on, to the bit, and so is a dataset's order.
KILLED = """
import keras, numpy as np, tensorflow as tf
import kresnet

tf.config.experimental.enable_op_determinism()
rng = np.random.default_rng(0)
x, y = rng.integers(0, 256, (96, 8, 8, 3)).astype("uint8"), rng.integers(0, 10, 96)
FIELDS = {{"depths": (1,), "widths": (8,), "expansion": 1, "stem": "conv3"}}

class Killed(keras.callbacks.Callback):
    def __init__(self, left):
        super().__init__()
        self.left = left

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            raise RuntimeError("killed")

def trained(name, kill, **options):
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    with kresnet.on_devices(2):
        model = kresnet.ResNet(**FIELDS, input_shape=(8, 8, 3), classes=10)
    data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(96, seed=3).batch(16, drop_remainder=True)
    options |= {{"validation_data": (x[:21], y[:21]), "epochs": 2, "checkpoint_every": "2 steps"}}
    options |= {{"callbacks": [Killed(kill)], "verbose": False, "with_report": False}}
    found = kresnet.train(model, data, out={out!r} + "/" + name, **options)
    return found.history, [np.array(keras.ops.convert_to_numpy(v)) for v in model.weights]

whole, weights = trained("whole", 0)
for kill in (5, 7):
    try:
        trained("killed", kill, resume=True)
    except RuntimeError as error:
        assert str(error) == "killed", error
again, other = trained("killed", 0, resume=True)
for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
    assert again[name] == whole[name], (name, again, whole)
assert all((a == b).all() for a, b in zip(weights, other, strict=True))
found = kresnet.evaluate({out!r} + "/killed/last.keras", tf.data.Dataset.from_tensors((x[:21], y[:21])), verbose=False)
np.testing.assert_allclose(found.loss, whole["val_loss"][-1], rtol=1e-5)
"""
SAID = (
    "A batch must divide among 2 devices. Received: batch_size=255",
    "The model was built on 1 and is to be trained on 2: build it `with kresnet.on_devices(2):`. Received: devices=2",
    "Keras's ",
)


def _same(printed):
    weights, numbers = printed.splitlines()
    labels, probabilities, difference = numbers.split()
    assert float(weights) < 1e-5
    assert (labels, probabilities) == ("7", "7")
    assert float(difference) < 1e-5


OF_MANY_HOSTS = """
try:
    with tf.distribute.MultiWorkerMirroredStrategy().scope():
        kresnet.train("resnet20", "digits", out="none")
except ValueError as error:
    print(error)
"""


@pytest.mark.slow
def test_two_devices_are_one():
    *printed, refused = python(TWO_CPUS + SAME + OF_MANY_HOSTS).splitlines()
    _same("\n".join(printed))
    assert "MultiWorkerMirroredStrategy (keras#20585)" in refused
    assert "KERAS_BACKEND=jax" in refused


@pytest.mark.thorough
def test_two_devices_are_one_on_jax(on_jax):
    _same(on_jax(SAME))


@pytest.mark.thorough  # on JAX there is one
def test_kills_on_two_devices(tmp_path):
    python(TWO_CPUS + KILLED.format(out=str(tmp_path)))


@pytest.mark.thorough
def test_kills_on_two_devices_on_jax(tmp_path, on_jax):
    on_jax(KILLED.format(out=str(tmp_path)))


@pytest.mark.thorough
def test_a_run_on_two_devices(tmp_path):
    printed = python(TWO_CPUS + RUN.format(out=str(tmp_path)))
    assert all(line.startswith(said) for line, said in zip(printed.splitlines(), SAID, strict=True)), printed


@pytest.mark.slow
def test_a_run_on_two_devices_on_jax(tmp_path, on_jax):
    printed = on_jax(RUN.format(out=str(tmp_path)))
    assert all(line.startswith(said) for line, said in zip(printed.splitlines(), SAID, strict=True)), printed


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, '`devices` must be a number of at least 1, or "auto" for all. Received: devices=0'),
        ("all", "Received: devices='all'"),
        (True, "Received: devices=True"),
        (7, "Keras's tensorflow backend has 1 of them here: CPU:0. Received: devices=7"),
    ],
)
def test_odd_numbers(count, said):
    with pytest.raises(ValueError, match=said.replace("(", r"\(")):
        devices.chosen(count)


def test_what_keras_does_not_support_is_refused():
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=["cpu:0"]))
    try:
        with pytest.raises(ValueError, match=r"compute all on one device: give `devices=` instead. Received: dist"):
            devices.chosen(None)
    finally:
        keras.distribution.set_distribution(None)
    with pytest.raises(ValueError, match=r"Several processes need Keras's JAX backend, KERAS_BACKEND=jax.*keras#20585"):
        hosts.join("127.0.0.1:1", 2, 0)


def test_batches_that_keras_cannot_share(tmp_path):
    data = tf.data.Dataset.from_tensor_slices((np.zeros((6, 8, 8, 3), "uint8"), np.zeros(6, "int64")))
    recipe = kresnet.recipes.QUICK
    with pytest.raises(ValueError, match="batch it with `drop_remainder=True`"):
        devices.check(2, 4, data.batch(4), recipe)
    with pytest.raises(ValueError, match=r"clips each device's gradients by themselves.* Received: clip_norm=1.0"):
        devices.check(2, 4, data.batch(4, drop_remainder=True), recipe.replace(clip_norm=1.0))


@pytest.mark.slow
def test_shards_read_together_what_one_reads():
    options = {"image_size": 8, "batch_size": 32, "augment": "flip-crop", "seed": 3}
    whole = [batch for _, batch in zip(range(3), kresnet.data.load("digits", "train", **options), strict=False)]
    parts = [iter(kresnet.data.load("digits", "train", **options, shard=(i, 4))) for i in range(4)]
    for images, labels in whole:
        found = [next(part) for part in parts]
        np.testing.assert_array_equal(images, np.concatenate([x for x, _ in found]))
        np.testing.assert_array_equal(labels, np.concatenate([y for _, y in found]))
    held_out = [kresnet.data.load("digits", "validation", 8, 32, shard=(i, 4)) for i in range(4)]
    counts = [sum(len(y) for _, y in part) for part in held_out]
    assert counts == [95, 88, 88, 88]  # of 11 batches of 32, and one of 7
    assert [len(list(part)) for part in held_out] == [int(part.cardinality()) for part in held_out]
    with pytest.raises(ValueError, match=r"A batch must divide among 3 processes. Received: batch_size=32"):
        kresnet.data.load("digits", "train", **options, shard=(0, 3))
