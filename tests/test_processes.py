"""What only a fresh process shows: other backends, what importing costs, and the command."""

import importlib.util
import os
import subprocess
import sys
import textwrap
import time

import pytest

import kresnet


def python(code, **environment):
    """Runs Python code in a fresh process and returns what it prints."""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""} | environment
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_trains_without_tensorflow(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    printed = python(
        """
        import sys
        import kresnet, keras, numpy as np
        assert "tensorflow" not in sys.modules
        fields = dict(se_reduction=4, groups=4, stem="deep", shortcut="avg_conv", drop_path_rate=0.1)
        for extra in ({}, {"preactivation": True, "stem": "conv7", "shortcut": "pad", "activation": "silu"}):
            model = kresnet.ResNet(depths=(1, 1), widths=(8, 16), input_shape=(32, 32, 3), classes=3, **fields | extra)
            model.compile("sgd", "sparse_categorical_crossentropy")
            images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3)).astype("uint8")
            history = model.fit(images, np.arange(8) % 3, batch_size=4, verbose=0)
            assert np.isfinite(history.history["loss"]).all()
        try:
            kresnet.export(model, "never.tflite")
        except ValueError as error:
            assert str(error).endswith(f"Received: backend={keras.backend.backend()!r}")
            print(keras.backend.backend())
        """,
        KERAS_BACKEND=backend,
    )
    assert printed.split()[-1] == backend


def test_jax_trains_a_run(tmp_path):
    """`train` and `evaluate` on JAX: only the images come through TensorFlow."""
    pytest.importorskip("jax")
    printed = python(
        f"""
        import kresnet
        model = kresnet.ResNet(depths=(1, 1), widths=(8, 16), stem="conv3", input_shape=(16, 16, 1), classes=10)
        out = {str(tmp_path / "run")!r}
        fields = dict(epochs=2, batch_size=64, ema=0.9, augment="cutout")
        kresnet.train(model, "digits", "wrn2016", out=out, verbose=False, **fields)
        print(kresnet.evaluate(out, "digits", verbose=False).examples)
        """,
        KERAS_BACKEND="jax",
    )
    assert printed.split()[-1] == "359"


def test_backends_agree(tmp_path):
    """JAX computes, from the same file, what TensorFlow computes."""
    pytest.importorskip("jax")
    code = f"""
        import kresnet, numpy as np
        fields = dict(depths=(1, 2), widths=(8, 16), groups=4, se_reduction=4, preactivation=True)
        fields |= dict(input_shape=(33, 40, 3))
        weights = {str(tmp_path / "x.weights.h5")!r}
        if {{write}}:
            kresnet.ResNet(**fields).save_weights(weights)
        model = kresnet.ResNet(**fields, weights=weights, classifier_activation=None)
        x = np.random.default_rng(0).integers(0, 256, (2, 33, 40, 3)).astype("uint8")
        np.save({{out!r}}, model.predict(x, verbose=0))
    """
    import numpy as np

    outputs = []
    for backend in ("tensorflow", "jax"):
        out = str(tmp_path / f"{backend}.npy")
        python(code.format(write=backend == "tensorflow", out=out), KERAS_BACKEND=backend)
        outputs.append(np.load(out))
    np.testing.assert_allclose(*outputs, atol=1e-4 * outputs[0].std())


def test_a_fresh_process_loads_a_saved_model(tmp_path):
    model = kresnet.ResNet(
        depths=(1, 1), widths=(8, 16), groups=4, preactivation=True, shortcut="pad", input_shape=(32, 32, 3)
    )
    model.save(tmp_path / "model.keras")
    code = f"""
        import kresnet, keras
        print(keras.saving.load_model({str(tmp_path / "model.keras")!r}).count_params())
    """
    assert int(python(code)) == model.count_params()


COMMAND = os.path.join(os.path.dirname(sys.executable), "kresnet")


def test_help_is_quick():
    def seconds():
        start = time.perf_counter()
        done = subprocess.run([COMMAND, "--help"], capture_output=True, text=True)
        assert done.stdout.startswith("usage: kresnet")
        return time.perf_counter() - start

    assert min(seconds() for _ in range(5)) < 0.5


def test_list():
    done = subprocess.run([COMMAND, "list", "resnet5*d"], capture_output=True, text=True, check=True)
    assert "kresnet.ResNet50D" in done.stdout
    assert "kresnet.ResNet50 " not in done.stdout
    done = subprocess.run([COMMAND, "list", "vgg*"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.endswith("Received: pattern='vgg*'\n")
