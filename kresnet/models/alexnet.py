"""AlexNet: five convolutions, three overlapping poolings, and three dense layers.

Krizhevsky, Sutskever and Hinton 2012, "ImageNet Classification with Deep Convolutional Neural Networks"; in one tower:
Krizhevsky 2014, arXiv:1404.5997.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import keras

from kresnet import checks
from kresnet.layers import ACTIVATIONS, activation, conv, he_normal
from kresnet.models.ends import FeatureMap
from kresnet.models.family import MOST_CHANNELS, Family, Spec
from kresnet.models.plain import checked_dense_widths, dense_classifier
from kresnet.models.registry import variant
from kresnet.models.scaling import make_divisible
from kresnet.weights.forms import flattened
from kresnet.weights.layout import HEAD, Layout

# Of each convolution but the first, which is 11x11, at stride 4, and padded by 2 pixels and not by half of its kernel.
KERNELS = (11, 5, 3, 3, 3)
# In stages that end in a pooling of 3x3, 2 pixels apart: one, one, and three convolutions.
STAGES = ((0,), (1,), (2, 3, 4))
# Height and width of the map that the first dense layer takes, whatever the size of the image; and the smallest image.
HEAD_SIZE, SMALLEST = 6, 63


@dataclasses.dataclass(frozen=True)
class AlexNetSpec(Spec):
    """AlexNet; the defaults are those of its one tower.

    Raises:
        ValueError: if a field makes no sense.
    """

    settings = (*Spec.settings, "activation")

    widths: tuple[int, ...] = (64, 192, 384, 256, 256)  # channels of each convolution
    dense_widths: tuple[int, ...] = (4096, 4096)  # of the layers before the classifier
    activation: str = "relu"  # one of `kresnet.layers.ACTIVATIONS`
    head_dropout_rate: float = 0.5  # before each of the dense layers

    def __post_init__(self):
        super().__post_init__()
        widths = checks.integers("widths", self.widths, MOST_CHANNELS)
        checks.require(len(widths) == len(KERNELS), "`widths` are those of five convolutions", widths=widths)
        self._set(widths=widths, dense_widths=checked_dense_widths(self.dense_widths))
        checks.choice("activation", self.activation, ACTIVATIONS)

    @property
    def stride(self) -> int:
        return 32

    def scaled(self, depth: float, width: float) -> AlexNetSpec:
        """Widths go to multiples of 8; the depth, and the dense layers, are the paper's."""
        widths = tuple(w if width == 1 else make_divisible(w * width) for w in self.widths)
        return dataclasses.replace(self, widths=widths)


def alexnet(x: Any, spec: AlexNetSpec) -> tuple[Any, dict[str, FeatureMap]]:
    """Builds the stages. Each one's feature map is what its pooling takes."""
    checks.require(
        all(size is None or size >= SMALLEST for size in x.shape[1:3]),
        f"The input is too small: `input_shape` must be at least ({SMALLEST}, {SMALLEST}, channels)",
        input_shape=tuple(x.shape[1:]),
    )
    maps, stride = {}, 1
    for stage, convs in enumerate(STAGES, 1):
        for i, place in enumerate(convs, 1):
            if place == 0:
                x, stride = _first(x, spec.widths[0]), 4
            else:
                x = conv(x, spec.widths[place], KERNELS[place], bias=True, name=f"stage{stage}_conv{i}")
            x = activation(x, spec.activation, name=f"stage{stage}_act{i}")
        maps["stem" if stage == 1 else f"stage{stage}"] = FeatureMap(x, stride)
        x, stride = keras.layers.MaxPooling2D(3, 2, name=f"stage{stage}_pool")(x), 2 * stride
    return x, maps


def _first(x: Any, width: int) -> Any:
    x = keras.layers.ZeroPadding2D(2, name="stage1_conv1_pad")(x)
    return keras.layers.Conv2D(width, KERNELS[0], 4, kernel_initializer=he_normal(), name="stage1_conv1")(x)


TORCHVISION = Layout(
    "AlexNet, torchvision's",
    {
        "stage1_conv1": "features.0",
        "stage2_conv1": "features.3",
        "stage3_conv1": "features.6",
        "stage3_conv2": "features.8",
        "stage3_conv3": "features.10",
        "head_dense1": "classifier.1",
        "head_dense2": "classifier.4",
        HEAD: "classifier.6",
    },
    forms={"head_dense1": flattened(HEAD_SIZE, HEAD_SIZE)},
    head="classifier.",
    fits=lambda spec: len(spec.dense_widths) == 2,
)

ALEXNET = Family(
    "alexnet",
    AlexNetSpec,
    alexnet,
    head=functools.partial(dense_classifier, size=HEAD_SIZE, dropout_first=True),
    layouts=(TORCHVISION,),
)

AlexNet = variant("AlexNet", ALEXNET, AlexNetSpec(), paper="1404.5997")

ARCHITECTURES = {AlexNet.key: AlexNet.spec}
