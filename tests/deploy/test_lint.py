"""The silent ways to a file that is broken or slow are errors and warnings."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kresnet
from kresnet.data.samples import natural_images
from kresnet.deploy import convert, lint
from kresnet.inference.tflite_file import TFLiteFile

TINY = {"depths": (1, 1), "widths": (8, 16), "classes": 5, "input_shape": (32, 32, 3)}
MOBILE = {"table": ((1, 8, 1, 1), (4, 16, 2, 2), (4, 24, 2, 2)), "stem_width": 8, "head_width": 32, "classes": 5}
X = natural_images(8, (32, 32, 3))


def names(model):
    return [layer.name for layer in model.layers]


def converted(model, batch_size=1, **settings):
    return convert.to_tflite(model, batch_size=batch_size, **settings)


def unloaded(content):
    return TFLiteFile(content, name="a.tflite", load=False)


def test_operators_that_are_not_built_in_are_errors():
    """Keras's own `model.export(format="litert")` lets them pass."""

    class Inverse(keras.layers.Layer):
        def call(self, x):
            return tf.linalg.inv(x)

    image = keras.Input((4, 8, 8), batch_size=1)
    x = Inverse(name="special")(image)
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D(name="pool")(x))
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    with pytest.raises(
        ValueError, match=r"a\.tflite: operator FlexMatrixInverse of layer 'special' is not built into LiteRT"
    ):
        lint.check(unloaded(converter.convert()), layers=names(model))


def test_variables_are_errors():
    class Counter(tf.Module):
        def __init__(self):
            self.steps = tf.Variable(0.0)

        @tf.function(input_signature=[tf.TensorSpec((1, 8, 8, 3))])
        def __call__(self, image):
            return tf.reduce_mean(image, (1, 2)) + self.steps.assign_add(1.0)

    module = Counter()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.__call__.get_concrete_function()], module)
    converter.experimental_enable_resource_variables = True
    with pytest.raises(ValueError, match=r"operator (VAR_HANDLE|CALL_ONCE) of layer .* keeps a variable"):
        lint.check(unloaded(converter.convert()))


def test_shapes_that_are_not_fixed_are_errors_where_they_must_be():
    model = kresnet.ResNet(**TINY)
    content = converted(model, batch_size=None)
    with pytest.raises(ValueError, match=r"a\.tflite: a tensor of layer .* not fixed: \[-1, "):
        lint.check(unloaded(content), layers=names(model))
    lint.check(unloaded(content), static=False)


def test_numbers_that_are_not_finite_are_errors_that_name_the_layer():
    """Keras loads weights that hold NaN without a word."""
    model = kresnet.ResNet(**TINY)
    conv = model.get_layer("stage3_block1_conv2")
    conv.set_weights([np.full_like(conv.get_weights()[0], np.nan)])
    with pytest.raises(ValueError, match=r"not finite, from operator CONV_2D of layer 'stage3_block1_act2' on"):
        lint.check(unloaded(converted(model)), layers=names(model))


@pytest.mark.slow
@pytest.mark.parametrize("route", ["concrete function", "saved model"])
def test_routes_that_silently_end_in_nan_are_errors(route, tmp_path):
    model = kresnet.ResNet(**TINY)
    if route == "saved model":
        tf.saved_model.save(model, tmp_path)
        content = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path)).convert()
    else:
        concrete = tf.function(model).get_concrete_function(tf.TensorSpec((1, 32, 32, 3)))
        content = tf.lite.TFLiteConverter.from_concrete_functions([concrete], model).convert()
    assert np.isnan(TFLiteFile(content)(X)).all()
    with pytest.raises(ValueError, match=r"a\.tflite: operator VAR_HANDLE of layer .* keeps a variable"):
        lint.check(unloaded(content))


def test_integers_without_a_range_are_errors_that_name_the_layer():
    """Of a unit that no calibration image wakes."""
    model = kresnet.ResNet(**TINY, se_reduction=4)
    dead = model.get_layer("stage2_block1_se_reduce")
    dead.set_weights([dead.get_weights()[0], np.full_like(dead.get_weights()[1], -1e4)])
    with pytest.raises(ValueError, match=r"operator CONV_2D of layer 'stage2_block1_se_reduce' gave zero for all"):
        lint.check(unloaded(converted(model, quantize="int8", calibration=X)), layers=names(model))


def test_a_file_that_does_not_load_is_an_error():
    with pytest.raises(ValueError, match="LiteRT cannot load"):
        TFLiteFile(converted(kresnet.ResNet(**TINY))[:-100])


@pytest.mark.slow
def test_what_splits_the_file_is_named():
    model = kresnet.MobileNetV2(**MOBILE, input_shape=(32, 32, 3), activation="hard_swish")
    integers = {"quantize": "int8", "calibration": X}
    file = unloaded(converted(model, **integers))
    (slow,) = lint.check(file, layers=names(model))
    assert "HARD_SWISH (" in slow
    assert "such as 'stem_act'" in slow
    assert f"runs a.tflite in {len(file.partitions)} parts" in slow
    assert len(file.partitions) > 3
    assert lint.check(unloaded(converted(model))) == []


def test_slow_forms_are_warned_of_before_they_are_made():
    mobile = kresnet.MobileNetV2(**MOBILE)
    with pytest.warns(UserWarning, match=r'"dynamic" makes networks with depthwise .* stage2_block1_conv1'):
        convert.warn_if_slow(mobile, "dynamic")
    image = keras.Input((8, 8, 3))
    hard = keras.Model(image, keras.layers.Conv2D(4, 3, activation="hard_swish", name="first")(image))
    with pytest.warns(UserWarning, match=r"int8 hard-swish is slow .*: first\. As a layer of its own"):
        convert.warn_if_slow(hard, "int8")
    assert "int16" not in str(convert.QUANTIZATIONS)  # 16x8 has no kernels in XNNPACK at all


def test_fast_forms_are_not_warned_of(recwarn):
    mobile, plain = (build(**fields) for build, fields in ((kresnet.MobileNetV2, MOBILE), (kresnet.ResNet, TINY)))
    hard = kresnet.MobileNetV2(**MOBILE, activation="hard_swish")
    for model, quantize in (
        *((mobile, "int8"), (mobile, "float16"), (mobile, None), (plain, "dynamic")),
        *((hard, "int8"), (hard, None)),
    ):
        convert.warn_if_slow(model, quantize)
    assert not [warning for warning in recwarn if warning.category is UserWarning]
