"""What networks are made of: the few layers that Keras lacks, and the calls that networks are written in."""

from kresnet.layers.calls import (
    ACTIVATIONS,
    activation,
    anti_aliased,
    conv,
    depthwise_conv,
    drop_path,
    efficient_attention,
    local_response_norm,
    max_pool,
    norm,
    padded_identity,
    squeeze_excite,
)
from kresnet.layers.fake_quantize import FakeQuantize, QuantizedConv2D, QuantizedDense, QuantizedDepthwiseConv2D
from kresnet.layers.grouped import GroupedConv2D
from kresnet.layers.initializers import VarianceScaling, he_normal
from kresnet.layers.normalization import BatchNormalization
from kresnet.layers.padding import EdgePadding2D, ReflectPadding2D
from kresnet.layers.response import LocalResponseNormalization
from kresnet.layers.shuffle import ChannelShuffle
from kresnet.layers.sparse import SparseConv2D

__all__ = [
    "ACTIVATIONS",
    "BatchNormalization",
    "ChannelShuffle",
    "EdgePadding2D",
    "FakeQuantize",
    "GroupedConv2D",
    "LocalResponseNormalization",
    "QuantizedConv2D",
    "QuantizedDense",
    "QuantizedDepthwiseConv2D",
    "ReflectPadding2D",
    "SparseConv2D",
    "VarianceScaling",
    "activation",
    "anti_aliased",
    "conv",
    "depthwise_conv",
    "drop_path",
    "efficient_attention",
    "he_normal",
    "local_response_norm",
    "max_pool",
    "norm",
    "padded_identity",
    "squeeze_excite",
]
