"""What keras.applications' networks do otherwise than ours, and how their weights become ours.

Source: keras/src/applications of Keras 3.15, for names, settings and the images' preprocessing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from kresnet.layers.pixels import INCEPTION
from kresnet.weights.torch_file import Array

# Images as Caffe's: channels in the order blue, green, red, less their means, not divided.
_CAFFE = {"mean": tuple(m / 255 for m in (123.68, 116.779, 103.939)), "std": (1 / 255,) * 3}
# As the authors of these networks trained them, in TensorFlow.
TENSORFLOW = {"padding": "same", "epsilon": 1e-3}
# By a layer that only that kind of network has: the fields of the spec that its weights need.
_KINDS: dict[str, dict[str, Any]] = {
    "conv2_block1_0_bn": {**_CAFFE, "stride_in": "1x1", "epsilon": 1.001e-5},
    "conv2_block1_preact_bn": {
        **INCEPTION,
        **{"stride_at": "end", "stem_pool": "zeros", "biases": True, "epsilon": 1.001e-5},
    },
    "conv_dw_1_bn": {**INCEPTION, **TENSORFLOW},
    "expanded_conv_depthwise_BN": {**INCEPTION, **TENSORFLOW},
    "expanded_conv_depthwise_bn": {**INCEPTION, **TENSORFLOW},
    # EfficientNetV2's S, M and L, the only ones with 13 blocks in this stage: pixels by 1 / 128, less 1.
    "block6m_project_bn": {"mean": (128 / 255,) * 3, "std": (128 / 255,) * 3, **TENSORFLOW},
    "block1a_project_bn": TENSORFLOW,
}


def fields(layers: Iterable[str]) -> dict[str, Any] | None:
    """Returns the fields of a spec that the weights of such layers need; None if they are not keras.applications'."""
    layers = {*layers}
    return next((found for layer, found in _KINDS.items() if layer in layers), None)


def flat_head(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Turns the layers of MobileNets' heads, 1x1 convolutions of a single pixel, into dense ones."""
    flat = {name: _flat(arrays[name]) for name in ("conv_preds/0", "conv_2/0", "logits/0") if name in arrays}
    return {**arrays, **flat}


def _flat(kernel: Array) -> Array:
    shape = kernel.shape[-2:]
    return Array(shape, kernel.dtype, lambda: np.reshape(kernel.read(), shape))


def without_biases(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Moves the biases of ResNet's convolutions into the means of the norms behind them, and turns BGR into RGB."""
    arrays = dict(arrays)
    for bias in [name for name in arrays if name.endswith("_conv/1")]:
        mean = bias.replace("_conv/1", "_bn/2")
        if mean in arrays:
            arrays[mean] = _less(arrays[mean], arrays.pop(bias))
    if kernel := arrays.get("conv1_conv/0"):
        arrays["conv1_conv/0"] = kernel._replace(read=lambda: kernel.read()[:, :, ::-1])
    return arrays


def _less(mean: Array, bias: Array) -> Array:
    return mean._replace(read=lambda: mean.read() - bias.read())
