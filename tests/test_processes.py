"""What only a fresh process shows: other backends, what importing costs, and the command."""

import os
import resource
import subprocess
import sys

import keras
import numpy as np
import pytest
from processes import COMMAND, QUICKEST, python

import kresnet

TRAINS = """
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
    print(keras.backend.backend())
"""


@pytest.mark.slow
def test_jax_trains_without_tensorflow(on_jax):
    """The first test on JAX (`conftest.py`): others let TensorFlow load their images."""
    assert on_jax(TRAINS).split()[-1] == "jax"


@pytest.mark.slow
def test_torch_trains_without_tensorflow():
    pytest.importorskip("torch")
    assert python(TRAINS, KERAS_BACKEND="torch").split()[-1] == "torch"


@pytest.mark.thorough
def test_jax_trains_a_run(on_jax, tmp_path):
    """`train` and `evaluate` on JAX: only the images come through TensorFlow."""
    printed = on_jax(
        f"""
        import keras, kresnet
        model = kresnet.ResNet(depths=(1, 1), widths=(8, 16), stem="conv3", input_shape=(16, 16, 1), classes=10)
        out = {str(tmp_path / "run")!r}
        fields = dict(epochs=2, batch_size=64, ema=0.9, augment="cutout")
        kresnet.train(model, "digits", "wrn2016", out=out, verbose=False, **fields)
        print(keras.backend.backend(), kresnet.evaluate(out, "digits", verbose=False).examples)
        """
    )
    assert printed.split()[-2:] == ["jax", "359"]


def test_backends_agree(on_jax, tmp_path):
    """JAX computes, from the same file, what TensorFlow computes."""
    fields = {"depths": (1, 2), "widths": (8, 16), "groups": 4, "se_reduction": 4, "preactivation": True}
    fields |= {"input_shape": (33, 40, 3), "classifier_activation": None}
    model = kresnet.ResNet(**fields)
    model.save_weights(tmp_path / "x.weights.h5")
    x = np.random.default_rng(0).integers(0, 256, (2, 33, 40, 3)).astype("uint8")
    np.save(tmp_path / "x.npy", x)
    on_jax(
        f"""
        import kresnet, numpy as np
        model = kresnet.ResNet(**{fields}, weights={str(tmp_path / "x.weights.h5")!r})
        np.save({str(tmp_path / "y.npy")!r}, model.predict(np.load({str(tmp_path / "x.npy")!r}), verbose=0))
        """
    )
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, atol=1e-4 * expected.std())


@pytest.mark.slow
def test_a_fresh_process_loads_a_saved_model(tmp_path):
    """Without kresnet as a plain functional model of the same function; a model within another too."""
    model = kresnet.ResNet20(depths=(1, 1, 1), se_reduction=4, input_shape=(16, 16, 3))
    model.save(tmp_path / "model.keras")
    keras.Sequential([keras.Input((16, 16, 3)), model]).save(tmp_path / "nested.keras")
    x = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype("float32")
    np.save(tmp_path / "x.npy", x)
    code = f"""
        outputs = []
        for package in ("keras", "kresnet"):
            __import__(package)
            import keras, numpy as np
            for name in ("model", "nested"):
                model = keras.saving.load_model({str(tmp_path)!r} + f"/{{name}}.keras")
                outputs.append(model(np.load({str(tmp_path / "x.npy")!r})))
            model = model.layers[0]
            print(getattr(model, "kresnet_config", {{}}).get("key"), type(model).__name__)
        np.save({str(tmp_path / "outputs.npy")!r}, outputs)
    """
    assert python(code).splitlines()[-2:] == ["None Functional", "resnet20 Functional"]
    expected = model(x)
    for output in np.load(tmp_path / "outputs.npy"):
        np.testing.assert_array_equal(output, expected)


@pytest.mark.slow
def test_a_fresh_process_loads_a_trained_model(tmp_path):
    """Its optimizer, loss and metrics are ours, and two of its layers."""
    out, fields = tmp_path / "run", {"groups": 4, "preactivation": True}
    network = kresnet.ResNet(depths=(1,), widths=(8,), **fields, input_shape=(8, 8, 1), classes=10)
    kresnet.train(network, "digits", out=out, epochs=1, batch_size=256, verbose=False, with_report=False)
    code = f"""
        import kresnet, keras
        print(keras.saving.load_model({str(out / "last.keras")!r}).optimizer.__class__.__module__)
    """
    assert python(code, KERAS_BACKEND=QUICKEST).split()[-1] == "kresnet.training.optimizers"


def test_importing_kresnet_imports_no_keras():
    code = """
        import sys
        import kresnet
        from kresnet import checks, cli
        from kresnet.weights import pretrained
        assert pretrained.published("resnet50")
        assert not {"keras", "tensorflow", "rich"} & set(sys.modules)
        import keras
        assert keras.saving.get_registered_object("kresnet>GroupedConv2D") is kresnet.layers.GroupedConv2D
        assert "kresnet.models.build" not in sys.modules
    """
    python(code, KERAS_BACKEND=QUICKEST)


@pytest.mark.slow
@pytest.mark.parametrize(
    "before",
    [
        "import importlib.util; importlib.util.find_spec('keras')",
        "keras_fails_once()",
        "threading.Thread(target=lambda: (time.sleep(0.3), __import__('kresnet.layers'))).start()",
    ],
    ids=["looked for", "failed", "threads"],
)
def test_classes_are_registered_whatever_comes_first(before):
    """Keras is looked for without being imported; its import fails once; another thread imports a room meanwhile."""
    code = f"""
        import os, sys, threading, time
        import kresnet
        def keras_fails_once():
            os.environ["KERAS_BACKEND"] = "nonsense"
            try:
                import keras
            except ValueError:
                os.environ["KERAS_BACKEND"] = {QUICKEST!r}
                for name in [name for name in sys.modules if name.partition(".")[0] == "keras"]:
                    del sys.modules[name]
            else:
                raise AssertionError
        {before}
        import keras
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
        assert keras.saving.get_registered_object("kresnet>GroupedConv2D")
        assert keras.saving.get_registered_object("kresnet>Network")
    """
    python(code, KERAS_BACKEND=QUICKEST)


@pytest.mark.slow
def test_a_program_called_kresnet_has_the_whole_package(tmp_path):
    script = tmp_path / "bin" / "kresnet"
    script.parent.mkdir()
    script.write_text("import kresnet\nprint(kresnet.ResNet20(depths=(1, 1, 1)).name)\n")
    environment = os.environ | {"KERAS_BACKEND": QUICKEST}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["resnet20"], done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["list"]])
def test_what_computes_nothing_is_quick(arguments):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([COMMAND, *arguments], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stdout.startswith("usage: kresnet") or "kresnet.ResNet50 " in done.stdout
    assert done.stderr == ""
    # The processors' seconds: what else runs beside does not change them. Keras alone takes 3 of them.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


def test_list():
    done = subprocess.run([COMMAND, "list", "resnet5*d"], capture_output=True, text=True, check=True)
    assert "kresnet.ResNet50D" in done.stdout
    assert "kresnet.ResNet50 " not in done.stdout
    done = subprocess.run([COMMAND, "list", "lexnet*"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.endswith("Received: pattern='lexnet*'\n")
