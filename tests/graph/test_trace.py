"""A trace lists a model's calls as they run, whatever its inputs, outputs and layers are."""

import keras
import numpy as np
import pytest
from keras import ops

from kresnet.graph.memory import MEMORY, at_once
from kresnet.graph.rebuild import duplicate, rebuild
from kresnet.graph.seeds import draw_from
from kresnet.graph.trace import all_layers, last_operation, trace

RNG = np.random.default_rng(0)


def names(graph):
    return [call.operation.name for call in graph.calls]


def dense(name, units=4):
    return keras.layers.Dense(units, name=name)


def with_two_outputs():
    x = keras.Input((4,), name="x")
    return keras.Model(x, [dense("first")(x), dense("second")(x)], name="inner")


def test_calls_makers_and_users():
    image = keras.Input((8, 8, 3))
    conv = keras.layers.Conv2D(3, 3, padding="same", name="conv")
    x = conv(image)
    y = keras.layers.Add(name="double")([x, x])
    graph = trace(keras.Model(image, [conv(y), y]))
    first, double, second = graph.calls
    assert names(graph) == ["conv", "double", "conv"]
    assert graph.calls_of(conv) == [first, second]
    assert graph.calls_of(dense("absent")) == []
    assert graph.maker_of(first.outputs[0]) is first
    assert graph.maker_of(graph.inputs[0]) is None
    assert graph.users_of(graph.inputs[0]) == [first]
    assert graph.users_of(first.outputs[0]) == [double, double]
    assert graph.users_of(double.outputs[0]) == [None, second]
    assert [tuple(tensor.shape) for tensor in graph.outputs] == [(None, 8, 8, 3)] * 2


def test_shapes_are_the_model_s_or_given():
    image = keras.Input(batch_shape=(2, None, None, 3))
    model = keras.Model(image, ops.reshape(keras.layers.GlobalAveragePooling2D()(image), (2, 3)))
    assert trace(model).inputs[0].shape == (2, None, None, 3)
    assert trace(model, [(5, 6, 3)]).inputs[0].shape == (2, 5, 6, 3)


def test_an_output_may_be_an_input():
    x, y = keras.Input((4,), name="x"), keras.Input((4,), name="y")
    model = keras.Model({"x": x, "y": y}, {"same": x, "other": dense("other")(y)})
    graph = trace(model)
    assert graph.outputs[1] is graph.inputs[0]  # in the order of the keys: other, same
    assert graph.users_of(graph.inputs[0]) == [None]
    _, new = rebuild(model, duplicate)
    values = {"x": RNG.normal(size=(2, 4)), "y": RNG.normal(size=(2, 4))}
    assert all(np.array_equal(model(values)[key], new(values)[key]) for key in ("same", "other"))
    untouched = keras.Model(x, x)
    assert trace(untouched).calls == []
    assert at_once(untouched, (4,)) == MEMORY


@pytest.mark.parametrize("by_name", [False, True])
def test_nested_models_are_entered(by_name):
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    inner = keras.Model([b, a], keras.layers.Concatenate(name="join")([dense("on_b")(b), dense("on_a")(a)]))
    sequence = keras.Sequential([keras.Input((8,)), dense("in_sequence", 2)])
    x, y = keras.Input((4,)), keras.Input((3,))
    graph = trace(keras.Model([x, y], sequence(inner({"a": x, "b": y} if by_name else [y, x]))))
    assert sorted(names(graph)) == ["in_sequence", "join", "on_a", "on_b"]
    taken = {call.operation.name: call.inputs[0].shape[-1] for call in graph.calls}
    assert (taken["on_a"], taken["on_b"]) == (4, 3)


def test_the_training_argument_reaches_into_nested_models():
    x = keras.Input((4,))
    inner = keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)])
    fixed = trace(keras.Model(x, inner(inputs=x, training=True)))
    assert [call.training for call in fixed.calls] == [True, True]
    assert not any(call.training for call in trace(keras.Model(x, inner(x))).calls)


@pytest.mark.parametrize("index", [0, 1])
def test_the_last_operation_is_found_within_nested_models(index):
    x = keras.Input((4,))
    nested = with_two_outputs()(x)[index]
    model = keras.Model(x, keras.Sequential([keras.Input((4,)), keras.Model(x, nested)])(x))
    assert last_operation(model).name == ["first", "second"][index]


def test_all_layers_and_their_seeds():
    outer = keras.layers.RandomColorJitter(brightness_factor=0.5, contrast_factor=0.5)
    assert len(all_layers(outer)) > 1
    images = RNG.uniform(0, 255, (2, 8, 8, 3)).astype("float32")
    results = []
    for _ in range(2):
        draw_from(outer, keras.random.SeedGenerator(3))
        results.append(ops.convert_to_numpy(outer(images, training=True)))
    np.testing.assert_array_equal(*results)
    assert not np.array_equal(results[0], images)


def test_what_has_no_graph_is_refused():
    with pytest.raises(ValueError, match=r"must be functional\. Received: model='Sequential'"):
        trace(keras.Sequential([dense("dense")]))
