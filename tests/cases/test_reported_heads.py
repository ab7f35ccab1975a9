"""Public reports on quantization-aware training of a backbone with a head of one's own.

keras#16888, tensorflow/model-optimization#991 and #292: what plain int8 export takes, it takes.
"""

import keras
import numpy as np
import pytest
from rewriting import randomise

import kresnet
from kresnet.deploy.quantize import quantize_aware
from kresnet.inference.tflite_file import TFLiteFile

L = keras.layers
IMAGES = np.random.default_rng(0).integers(0, 256, (32, 16, 16, 3)).astype("uint8")


def chain(*layers):
    def head(x):
        for layer in layers:
            x = layer(x)
        return x

    return head


HEADS = {
    "norm behind the pooling": lambda: chain(L.GlobalAveragePooling2D(), L.BatchNormalization(), L.Dense(3, "softmax")),
    "norm behind a ReLU": lambda: chain(
        L.GlobalAveragePooling2D(), L.Dense(8, "relu"), L.BatchNormalization(), L.Dense(3, "softmax")
    ),
    "maximum": lambda: chain(L.GlobalMaxPooling2D(), L.Dense(3, "softmax")),
    "average and maximum": lambda: (
        lambda x: L.Dense(3, "softmax")(L.Concatenate()([L.GlobalAveragePooling2D()(x), L.GlobalMaxPooling2D()(x)]))
    ),
    "a Softmax layer": lambda: chain(L.GlobalAveragePooling2D(), L.Dropout(0.2), L.Dense(3), L.Softmax()),
    "flattened": lambda: chain(L.Flatten(), L.Dense(3, "softmax")),
}


def network(head, inside=False):
    keras.utils.set_random_seed(3)  # before `head` makes its layers; of others a logit may be a step off
    head = head()
    body = kresnet.ResNet(depths=(1,), widths=(8,), stem="conv3", include_top=False, input_shape=(16, 16, 3))
    image = keras.Input((16, 16, 3))
    model = (
        keras.Model(image, head(body(image, training=False))) if inside else keras.Model(body.input, head(body.output))
    )
    return randomise(model, np.random.default_rng(0))


# What a model in the model is dissolved into is the same as without (`test_a_nested_model_is_dissolved`).
CASES = {
    f"{name}{', inside' * inside}": pytest.param(head, inside, marks=[pytest.mark.thorough] * inside)
    for name, head in HEADS.items()
    for inside in (False, True)
}


@pytest.mark.slow
@pytest.mark.parametrize(("head", "inside"), CASES.values(), ids=CASES)
def test_it_is_near_trains_and_its_file_computes_the_same(tmp_path, head, inside):
    model = network(head, inside)
    expected = model.predict(IMAGES, verbose=0)
    aware = quantize_aware(model, IMAGES)
    np.testing.assert_allclose(aware.predict(IMAGES, verbose=0), expected, atol=0.1)
    aware.compile(keras.optimizers.SGD(1e-3), "sparse_categorical_crossentropy", run_eagerly=True)
    assert np.isfinite(aware.train_on_batch(IMAGES, np.arange(32) % 3))
    path = kresnet.export(aware, tmp_path / "x.tflite", quantize="int8", verify=IMAGES, latency=False, agreement=0.9)
    np.testing.assert_allclose(TFLiteFile(path)(IMAGES), aware.predict(IMAGES, verbose=0), atol=0.02)
