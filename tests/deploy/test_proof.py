"""Where a file's error comes from, and what it takes to measure it."""

import keras
import pytest

import kresnet
from kresnet.data.samples import natural_images
from kresnet.deploy import blame, convert, proof
from kresnet.deploy.lowering import lower
from kresnet.graph import memory
from kresnet.graph.fold import fold_batch_norm
from kresnet.inference.tflite_file import TFLiteFile


def test_a_float32_file_has_no_layer_to_blame():
    """Not the gates either, whose convolution and sigmoid are two operators of one layer."""
    keras.utils.set_random_seed(0)
    table = ((1, 8, 1, 1, 3, 0.25), (4, 16, 1, 2, 3, 0.25))
    network = kresnet.EfficientNet(table=table, stem_width=8, head_width=32, classes=5, input_shape=(32, 32, 3))
    lowered = lower(fold_batch_norm(network), integer=False)
    file = TFLiteFile(convert.to_tflite(lowered))
    errors = blame.layer_errors(file, lowered, natural_images(2, (32, 32, 3)))
    assert {"stem_conv", "stage2_block1_se_reduce", "stage2_block1_se_expand", "head_pool"} <= {
        row[0] for row in errors
    }
    assert len({row[0] for row in errors}) == len(errors)
    assert max(after for _, after, _ in errors) < 1e-4


@pytest.mark.parametrize("at_once", [5, 1])
def test_the_network_runs_on_as_many_images_as_there_is_memory_for(monkeypatch, at_once):
    """Keras holds the outputs of all layers until the last one: 5 GB for 32 images in a ResNet-50 at 224 pixels."""
    seen = []

    class Watch(keras.layers.Layer):
        def call(self, inputs):
            if isinstance(inputs.shape[0], int):  # not while it is traced
                seen.append(inputs.shape[0])
            return inputs

    image = keras.Input((16, 16, 3))
    network = keras.Model(image, keras.layers.GlobalAveragePooling2D()(Watch()(image)))
    floats = 16 * 16 * 3 + 3  # the watch's and the mean's
    monkeypatch.setattr(memory, "MEMORY", 4 * floats * at_once if at_once > 1 else 1)
    assert memory.at_once(network, (16, 16, 3)) == at_once
    monkeypatch.setattr(proof, "MEMORY_SHARE", 1.0)
    seen.clear()
    numbers = proof.compare(network.predict_on_batch, network, natural_images(12, (16, 16, 3)))
    assert [count for count in seen if count < 12] == {5: [5, 5, 2], 1: [1] * 12}[at_once]
    assert numbers["images"] == 12
    assert numbers["outputs"]["largest_of_deviation"] < 1e-5
