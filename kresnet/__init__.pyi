"""Made by `make table`: what `kresnet` holds, for editors and type checkers."""

from collections.abc import Sequence
from typing import Any, Protocol

import keras

from kresnet import data as data
from kresnet import deploy as deploy
from kresnet import layers as layers
from kresnet import weights as weights
from kresnet.deploy.export import export as export
from kresnet.deploy.quantize import quantize_aware as quantize_aware
from kresnet.evaluation.evaluate import evaluate as evaluate
from kresnet.graph.cost import cost as cost
from kresnet.models.mobile.engine import InvertedSpec
from kresnet.models.mobile.engine import Row
from kresnet.models.plain import PlainSpec
from kresnet.models.registry import create_model as create_model
from kresnet.models.registry import get_builder as get_builder
from kresnet.models.registry import list_models as list_models
from kresnet.models.residual.spec import ResNetSpec
from kresnet.models.scaling import CompoundScaling as CompoundScaling
from kresnet.search import scaling as scaling
from kresnet.training import callbacks as callbacks
from kresnet.training import losses as losses
from kresnet.training import optimizers as optimizers
from kresnet.training import recipes as recipes
from kresnet.training.train import train as train

__version__: str

class _InvertedSpecBuilder(Protocol):
    __name__: str
    key: str
    paper: str
    spec: InvertedSpec
    input_size: int
    def __call__(
        self,
        include_top: bool = ...,
        weights: Any = ...,
        input_tensor: Any = ...,
        input_shape: Sequence[int | None] | None = ...,
        pooling: str | None = ...,
        classes: int = ...,
        classifier_activation: str | None = ...,
        name: str | None = ...,
        *,
        include_preprocessing: bool = ...,
        features: bool | Sequence[str] | None = ...,
        phi: float | None = ...,
        alpha: float | None = ...,
        beta: float | None = ...,
        gamma: float | None = ...,
        mean: tuple[float, ...] = ...,
        std: tuple[float, ...] = ...,
        head_dropout_rate: float = ...,
        epsilon: float = ...,
        momentum: float = ...,
        table: tuple[Row, ...] = ...,
        stem_width: int = ...,
        head_width: int | None = ...,
        width_multiplier: float = ...,
        depth_multiplier: float = ...,
        fixed_ends: bool = ...,
        head_never_shrinks: bool = ...,
        linear: bool = ...,
        shortcut: bool = ...,
        activation: str = ...,
        padding: str = ...,
        drop_path_rate: float = ...,
    ) -> keras.Model: ...

class _ResNetSpecBuilder(Protocol):
    __name__: str
    key: str
    paper: str
    spec: ResNetSpec
    input_size: int
    def __call__(
        self,
        include_top: bool = ...,
        weights: Any = ...,
        input_tensor: Any = ...,
        input_shape: Sequence[int | None] | None = ...,
        pooling: str | None = ...,
        classes: int = ...,
        classifier_activation: str | None = ...,
        name: str | None = ...,
        *,
        include_preprocessing: bool = ...,
        features: bool | Sequence[str] | None = ...,
        phi: float | None = ...,
        alpha: float | None = ...,
        beta: float | None = ...,
        gamma: float | None = ...,
        mean: tuple[float, ...] = ...,
        std: tuple[float, ...] = ...,
        head_dropout_rate: float = ...,
        epsilon: float = ...,
        momentum: float = ...,
        depths: tuple[int, ...] = ...,
        widths: tuple[int, ...] = ...,
        expansion: int = ...,
        groups: int = ...,
        group_width: int | None = ...,
        entry_divisor: int = ...,
        se_reduction: int | None = ...,
        stem: str = ...,
        stem_width: int | None = ...,
        stem_pool: str = ...,
        shortcut: str = ...,
        stride_in: str = ...,
        preactivation: bool = ...,
        shared_entry: bool = ...,
        final_norm: bool | None = ...,
        activation: str = ...,
        output_stride: int = ...,
        zero_init_residual: bool = ...,
        drop_path_rate: float = ...,
        dropout_rate: float = ...,
    ) -> keras.Model: ...

class _PlainSpecBuilder(Protocol):
    __name__: str
    key: str
    paper: str
    spec: PlainSpec
    input_size: int
    def __call__(
        self,
        include_top: bool = ...,
        weights: Any = ...,
        input_tensor: Any = ...,
        input_shape: Sequence[int | None] | None = ...,
        pooling: str | None = ...,
        classes: int = ...,
        classifier_activation: str | None = ...,
        name: str | None = ...,
        *,
        include_preprocessing: bool = ...,
        features: bool | Sequence[str] | None = ...,
        phi: float | None = ...,
        alpha: float | None = ...,
        beta: float | None = ...,
        gamma: float | None = ...,
        mean: tuple[float, ...] = ...,
        std: tuple[float, ...] = ...,
        head_dropout_rate: float = ...,
        epsilon: float = ...,
        momentum: float = ...,
        depths: tuple[int, ...] = ...,
        widths: tuple[int, ...] = ...,
        batch_norm: bool = ...,
        dense_widths: tuple[int, ...] = ...,
        activation: str = ...,
    ) -> keras.Model: ...

EfficientNet: _InvertedSpecBuilder
ResNet: _ResNetSpecBuilder
EfficientNetB0: _InvertedSpecBuilder
EfficientNetB1: _InvertedSpecBuilder
EfficientNetB2: _InvertedSpecBuilder
EfficientNetB3: _InvertedSpecBuilder
EfficientNetB4: _InvertedSpecBuilder
EfficientNetB5: _InvertedSpecBuilder
EfficientNetB6: _InvertedSpecBuilder
EfficientNetB7: _InvertedSpecBuilder
EfficientNetLite0: _InvertedSpecBuilder
EfficientNetLite1: _InvertedSpecBuilder
EfficientNetLite2: _InvertedSpecBuilder
EfficientNetLite3: _InvertedSpecBuilder
EfficientNetLite4: _InvertedSpecBuilder
MobileNetV1: _InvertedSpecBuilder
MobileNetV2_035: _InvertedSpecBuilder
MobileNetV2_050: _InvertedSpecBuilder
MobileNetV2_075: _InvertedSpecBuilder
MobileNetV2: _InvertedSpecBuilder
MobileNetV2_140: _InvertedSpecBuilder
PlainNet18: _ResNetSpecBuilder
PlainNet20: _ResNetSpecBuilder
PlainNet32: _ResNetSpecBuilder
PlainNet34: _ResNetSpecBuilder
PlainNet44: _ResNetSpecBuilder
PlainNet56: _ResNetSpecBuilder
PlainNet110: _ResNetSpecBuilder
ResNet18: _ResNetSpecBuilder
ResNet18D: _ResNetSpecBuilder
ResNet20: _ResNetSpecBuilder
ResNet26: _ResNetSpecBuilder
ResNet26D: _ResNetSpecBuilder
ResNet32: _ResNetSpecBuilder
ResNet34: _ResNetSpecBuilder
ResNet34D: _ResNetSpecBuilder
ResNet44: _ResNetSpecBuilder
ResNet50: _ResNetSpecBuilder
ResNet50C: _ResNetSpecBuilder
ResNet50D: _ResNetSpecBuilder
ResNet56: _ResNetSpecBuilder
ResNet101: _ResNetSpecBuilder
ResNet101C: _ResNetSpecBuilder
ResNet101D: _ResNetSpecBuilder
ResNet110: _ResNetSpecBuilder
ResNet152: _ResNetSpecBuilder
ResNet152D: _ResNetSpecBuilder
ResNet1202: _ResNetSpecBuilder
ResNet18V2: _ResNetSpecBuilder
ResNet34V2: _ResNetSpecBuilder
ResNet50V2: _ResNetSpecBuilder
ResNet101V2: _ResNetSpecBuilder
ResNet110V2: _ResNetSpecBuilder
ResNet152V2: _ResNetSpecBuilder
ResNet164V2: _ResNetSpecBuilder
ResNet200V2: _ResNetSpecBuilder
ResNet1001V2: _ResNetSpecBuilder
ResNeXt29_8x64d: _ResNetSpecBuilder
ResNeXt29_16x64d: _ResNetSpecBuilder
ResNeXt50_32x4d: _ResNetSpecBuilder
ResNeXt50D_32x4d: _ResNetSpecBuilder
ResNeXt101_32x4d: _ResNetSpecBuilder
ResNeXt101_32x8d: _ResNetSpecBuilder
ResNeXt101_64x4d: _ResNetSpecBuilder
SENet154: _ResNetSpecBuilder
SEResNet18: _ResNetSpecBuilder
SEResNet34: _ResNetSpecBuilder
SEResNet50: _ResNetSpecBuilder
SEResNet101: _ResNetSpecBuilder
SEResNet152: _ResNetSpecBuilder
SEResNet152D: _ResNetSpecBuilder
SEResNeXt50_32x4d: _ResNetSpecBuilder
SEResNeXt101_32x4d: _ResNetSpecBuilder
VGG11: _PlainSpecBuilder
VGG11_BN: _PlainSpecBuilder
VGG13: _PlainSpecBuilder
VGG13_BN: _PlainSpecBuilder
VGG16: _PlainSpecBuilder
VGG16_BN: _PlainSpecBuilder
VGG19: _PlainSpecBuilder
VGG19_BN: _PlainSpecBuilder
WideResNet50_2: _ResNetSpecBuilder
WideResNet101_2: _ResNetSpecBuilder
WRN16_8: _ResNetSpecBuilder
WRN28_2: _ResNetSpecBuilder
WRN28_10: _ResNetSpecBuilder
WRN40_4: _ResNetSpecBuilder
