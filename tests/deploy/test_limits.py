"""A file is refused for what is wrong with it, and not for what rounding or too few images make of it."""

import json
import warnings

import keras
import numpy as np
import pytest

import kresnet
from kresnet.data.samples import natural_images
from kresnet.deploy import proof, rounding
from kresnet.deploy.convert import prepared
from kresnet.deploy.limits import TOLERANCES, Limits
from kresnet.evaluation.intervals import wilson
from kresnet.graph.fold import fold_batch_norm
from kresnet.graph.rebuild import duplicate, rebuild
from kresnet.inference.tflite_file import TFLiteFile

X = natural_images(16, (16, 16, 3))


def numbers(agreed, images):
    share = {"value": agreed / images, "interval95": list(wilson(agreed, images)), "images": images}
    return {"outputs": {"largest_of_deviation": 0.2}, "top1_agreement": share}


@pytest.mark.parametrize(
    ("agreed", "images", "verdict"),
    [(64, 68, "warns"), (60, 68, "refuses"), (66, 68, "passes"), (940, 1000, "warns"), (920, 1000, "refuses")],
)
def test_a_file_is_refused_only_if_its_images_show_that_it_agrees_too_seldom(agreed, images, verdict):
    limits, measured = Limits(np.inf, 0.95), numbers(agreed, images)
    low, high = (f"{end:.1%}" for end in wilson(agreed, images))
    said = rf"x\.tflite.* {agreed / images:.1%} of {images} images \(95 % interval: {low} to {high}\), "
    if verdict == "refuses":
        cures = r"not 95\.0%\. What helps: more images, .*`kresnet\.quantize_aware` .*\(--agreement\)\.$"
        with pytest.raises(ValueError, match=said + cures):
            limits.check(measured, "x.tflite")
    elif verdict == "warns":
        with pytest.warns(UserWarning, match=said + r"which are too few to tell whether .* 95\.0%: more would") as seen:
            limits.check(measured, "x.tflite")
        assert len(seen) == 1
        assert seen[0].filename == __file__
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            limits.check(measured, "x.tflite")


def test_all_images_agreeing_is_enough_for_an_agreement_of_1():
    for images in range(1, 200):
        Limits(np.inf, 1.0).check(numbers(images, images), "x")
    with pytest.raises(ValueError, match=r"not 100\.0%"):
        Limits(np.inf, 1.0).check(numbers(67, 68), "x")


@pytest.fixture(scope="module")
def network():
    """A network in which small differences count: of pooled features, that float16 rounds, and beside 2000, in float32.

    The second are folded in a file, so that it has no such rounding.
    """
    keras.utils.set_random_seed(0)
    small = kresnet.ResNet(input_shape=(16, 16, 3), depths=(1, 1), widths=(8, 16), include_top=False, pooling="avg")
    x = keras.layers.BatchNormalization(name="small")(small.output)
    x = keras.layers.Dense(16, bias_initializer=keras.initializers.Constant(2000.0))(x)
    x = keras.layers.BatchNormalization(name="large")(x)
    model = keras.Model(small.input, keras.layers.Dense(10, "softmax", name="predictions")(x))
    for name in ("small", "large"):
        norm = model.get_layer(name)
        features = keras.Model(small.input, norm.input).predict(X, verbose=0).astype("float64")
        norm.set_weights([*norm.get_weights()[:2], features.mean(0), features.var(0)])
    return model


def judged(run, network, half):
    """Returns what was measured of a float16 or float32 file's outputs that passed."""
    measured = proof.compare(run, network, X)

    def alone():
        deviation = measured["outputs"]["deviation"]
        return rounding.measure(run, network, X, deviation, logits=False, half=half)

    Limits(1e-4, 0.0, rounding=0.95).check(measured, "x", rounding=alone)
    return measured


def run_of(model):
    return lambda images: np.asarray(model(images, training=False))


def with_weights(model, layer, change):
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    copy.get_layer(layer).set_weights(change(*copy.get_layer(layer).get_weights()))
    return run_of(copy)


def without(model, layer):
    return run_of(rebuild(model, lambda one: (lambda x: x) if one.name == layer else duplicate(one))[1])


BROKEN = {
    "a layer's weights are zero": lambda model: with_weights(model, "stage3_block1_conv2", lambda k, b: [0 * k, b]),
    "two channels are swapped": lambda model: with_weights(
        model, "stage2_block1_conv1", lambda k, b: [k[..., [1, 0, *range(2, 8)]], b]
    ),
    "a row of weights is off by a fifth": lambda model: with_weights(
        model, "predictions", lambda k, b: [k * np.where(np.arange(16) == 3, 1.2, 1)[:, None], b]
    ),
    "a layer is lost": lambda model: without(model, "stage2_block1_act1"),
    "pixels of another range": lambda model: lambda images: run_of(model)(images / 2),
    "BGR": lambda model: lambda images: run_of(model)(images[..., ::-1]),
}


@pytest.mark.slow
@pytest.mark.parametrize("half", [False, True])
def test_what_rounding_explains_passes_and_what_is_broken_does_not(network, half):
    sound = rounding.halved(prepared(network)) if half else fold_batch_norm(network)
    measured = judged(run_of(sound), network, half)
    assert measured["outputs"]["largest_of_deviation"] > (5e-3 if half else 1e-4)
    for name, broken in BROKEN.items():
        with pytest.raises(ValueError, match=r"differ by up to .* \(tolerance: .*; rounding alone: .*\)"):
            pytest.fail(f"{name}: {judged(broken(sound), network, half)}")
    with pytest.raises(ValueError, match="not finite"):
        judged(lambda images: run_of(sound)(images) * np.nan, network, half)


@pytest.mark.slow
def test_files_that_only_rounding_changes_are_written_and_say_so(network, tmp_path, monkeypatch):
    folder = kresnet.export(network, tmp_path / "x", verify=X)
    measured = json.loads((folder / "description.json").read_text())["proof"]
    assert measured["outputs"]["largest_of_deviation"] > 1e-4
    assert measured["rounding"]["sums"] > 1e-5
    assert "rounding alone makes up to" in proof.summary(measured)
    with pytest.raises(ValueError, match=r"differ by up to .* \(tolerance: 0\.0001\)\.$"):
        kresnet.export(network, folder, verify=X, tolerance=1e-4)
    # A float16 file is what the network with rounded weights and constants computes, also within another model.
    monkeypatch.setitem(TOLERANCES, "float16", 1e-6)
    image = keras.Input((16, 16, 3))
    inner = kresnet.ResNet(input_shape=(16, 16, 3), depths=(1,), widths=(8,), include_preprocessing=False, classes=3)
    model = keras.Model(image, inner(keras.layers.Normalization(mean=[120.0, 110, 100], variance=[3e3] * 3)(image)))
    file = kresnet.export(model, tmp_path / "x.tflite", quantize="float16", verify=X, latency=False)
    found = json.loads((tmp_path / "x.json").read_text())["proof"]["rounding"]
    assert found["file"] < 1e-4 < found["weights"]
    mutant = with_weights(model, inner.name, lambda *all: [1.1 * all[0], *all[1:]])
    monkeypatch.setattr(TFLiteFile, "__call__", lambda self, images: mutant(images.astype("float32")))
    with pytest.raises(ValueError, match="differ by up to"):
        kresnet.export(model, file, quantize="float16", verify=X, latency=False)


L = keras.layers
FIRST = {
    "scaled": lambda: [L.Rescaling(1 / 255)],
    "scaled and shifted": lambda: [L.Rescaling(1 / 127.5, -1)],
    "a norm that nothing precedes": lambda: [L.Rescaling(1 / 255), L.BatchNormalization()],
}


@pytest.mark.slow
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("first", FIRST.values(), ids=FIRST)
def test_what_a_float16_file_of_a_sequential_model_should_compute_is_known(first, nested, tmp_path, monkeypatch):
    """The converter would fuse a factor, and before an unpadded convolution an offset, with roundings of its own."""
    monkeypatch.setitem(TOLERANCES, "float16", 1e-6)
    keras.utils.set_random_seed(0)
    body = [*first(), L.Conv2D(8, 3, padding="valid"), L.BatchNormalization(), L.ReLU(), L.GlobalAveragePooling2D()]
    model = keras.Sequential([keras.Input((16, 16, 3)), *([keras.Sequential(body)] if nested else body), L.Dense(5)])
    for layer in model._flatten_layers():
        if isinstance(layer, L.BatchNormalization):
            layer.set_weights([np.random.default_rng(1).uniform(0.5, 1.5, one.shape) for one in layer.get_weights()])
    file = tmp_path / "x.tflite"
    kresnet.export(model, file, quantize="float16", verify=X, latency=False)
    found = json.loads((tmp_path / "x.json").read_text())["proof"]["rounding"]
    assert found["file"] < 5e-6 < 1e-4 < found["weights"]
    run = TFLiteFile(file)
    monkeypatch.setattr(TFLiteFile, "__call__", lambda self, images: run._run(images) * 1.005)
    with pytest.raises(ValueError, match="rounding alone"):
        kresnet.export(model, file, quantize="float16", verify=X[:1], latency=False)
