"""Where a file's error comes from."""

import keras

import kresnet
from kresnet import convert, proof
from kresnet.deploy import fold_batch_norm
from kresnet.lowering import lower
from kresnet.samples import natural_images


def test_a_float32_file_has_no_layer_to_blame():
    """Not the gates either, whose convolution and sigmoid are two operators of one layer."""
    keras.utils.set_random_seed(0)
    table = ((1, 8, 1, 1, 3, 0.25), (4, 16, 1, 2, 3, 0.25))
    network = kresnet.EfficientNet(table=table, stem_width=8, head_width=32, classes=5, input_shape=(32, 32, 3))
    lowered = lower(fold_batch_norm(network), integer=False)
    errors = proof.layer_errors(convert.to_tflite(lowered), lowered, natural_images(2, (32, 32, 3)))
    assert {"stem_conv", "stage2_block1_se_reduce", "stage2_block1_se_expand", "head_pool"} <= {
        row[0] for row in errors
    }
    assert len({row[0] for row in errors}) == len(errors)
    assert max(behind for _, behind, _ in errors) < 1e-4
