"""A family is one value: its head, its auxiliary outputs and its layouts are its own."""

import dataclasses
import inspect

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

from kresnet.layers import activation, conv
from kresnet.models.build import Published, build, make_builder
from kresnet.models.ends import FeatureMap, pooled_classifier, predictions
from kresnet.models.family import Family, Spec
from kresnet.weights import Layout

X = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3)).astype("float32")


@dataclasses.dataclass(frozen=True)
class TwoSpec(Spec):
    """Two convolutions, and a classifier after the first that trains along, as GoogLeNet's."""

    width: int = 8

    @property
    def stride(self):
        return 4


def body(x, spec):
    maps = {}
    for i, stride in ((1, 2), (2, 2)):
        x = activation(conv(x, spec.width * i, 3, stride=stride, name=f"stage{i}_conv"), "relu", name=f"stage{i}_act")
        maps[f"stage{i}"] = FeatureMap(x, 2**i)
    return x, maps


def auxiliary(maps, spec, classes, classifier_activation):
    pooled = keras.layers.GlobalAveragePooling2D(name="auxiliary_pool")(maps["stage1"].tensor)
    return {"auxiliary": predictions(pooled, classes, classifier_activation, name="auxiliary")}


LAYOUT = Layout(
    "two",
    {r"stage(?P<i>\d)_conv": "conv{i}", "auxiliary": "aux.fc", "predictions": "fc"},
    left_over=(r"aux\..*",),
)
TWO = Family("two", TwoSpec, body, layouts=(LAYOUT,), auxiliary=auxiliary)
Two = make_builder(Published("Two", TWO, TwoSpec(), "0000.00000", "two", size=16, classes=3))


def state(width=8, classes=3):
    rng = np.random.default_rng(0)
    shapes = {"conv1.weight": (width, 3, 3, 3), "conv2.weight": (2 * width, width, 3, 3)}
    shapes |= {"aux.fc.weight": (classes, width), "aux.fc.bias": (classes,)}
    shapes |= {"fc.weight": (classes, 2 * width), "fc.bias": (classes,)}
    return {name: rng.standard_normal(shape).astype("float32") for name, shape in shapes.items()}


def test_auxiliary_outputs_train_along():
    model = Two(auxiliary=True)
    assert {name: output.shape for name, output in model.output.items()} == {
        "predictions": (None, 3),
        "auxiliary": (None, 3),
    }
    loss = "sparse_categorical_crossentropy"
    model.compile("sgd", {"predictions": loss, "auxiliary": loss}, loss_weights={"predictions": 1, "auxiliary": 0.3})
    before = model.get_layer("auxiliary").get_weights()[0]
    labels = np.arange(4) % 3
    model.fit(X, {"predictions": labels, "auxiliary": labels}, verbose=0)
    assert not np.array_equal(model.get_layer("auxiliary").get_weights()[0], before)


def test_auxiliary_weights_are_loaded_or_rightly_left(tmp_path):
    save_file(state(), tmp_path / "two.safetensors")
    whole = Two(auxiliary=True, weights=tmp_path / "two.safetensors")
    bare = Two(weights=tmp_path / "two.safetensors")
    assert [output.shape for output in bare.outputs] == [(None, 3)]
    np.testing.assert_array_equal(whole(X)["predictions"], bare(X))
    np.testing.assert_array_equal(whole.get_layer("auxiliary").kernel, state()["aux.fc.weight"].T)
    save_file(state() | {"other.bias": np.zeros(3, "float32")}, tmp_path / "more.safetensors")
    with pytest.raises(ValueError, match=r"left over: 'other\.bias'\. Received"):
        Two(weights=tmp_path / "more.safetensors")


def test_auxiliary_is_an_argument_of_families_that_have_it():
    assert "auxiliary" in inspect.signature(Two).parameters
    assert "auxiliary: whether" in Two.__doc__
    plain = make_builder(Published("Plain", dataclasses.replace(TWO, auxiliary=None), TwoSpec(), "0", "plain", size=16))
    assert "auxiliary" not in inspect.signature(plain).parameters
    with pytest.raises(TypeError, match=r"Plain\(\) got an unexpected keyword argument 'auxiliary'"):
        plain(auxiliary=True)
    with pytest.raises(ValueError, match=r"auxiliary=True, family='two', include_top=False$"):
        Two(auxiliary=True, include_top=False)


def test_the_head_is_the_family_s():
    def doubled(x, spec, classes, classifier_activation):
        return pooled_classifier(keras.layers.Concatenate()([x, x]), spec, classes, classifier_activation)

    family = dataclasses.replace(TWO, head=doubled)
    assert build(family, TwoSpec(), classes=5, size=16).get_layer("predictions").kernel.shape == (32, 5)
    assert build(TWO, TwoSpec(), classes=5, size=16).get_layer("predictions").kernel.shape == (16, 5)


def test_build_can_be_read_and_builders_too():
    assert inspect.getsource(build).startswith("@constructing()\ndef build(")
    assert "build(" in inspect.getsource(Two)
    assert inspect.signature(Two).parameters["width"].default == 8
    assert Two.family is TWO
