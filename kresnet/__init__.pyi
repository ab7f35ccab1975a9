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
from kresnet.evaluation.cam import grad_cam as grad_cam
from kresnet.evaluation.evaluate import evaluate as evaluate
from kresnet.graph.branches import reparameterize as reparameterize
from kresnet.graph.cost import cost as cost
from kresnet.graph.ranges import any_range as any_range
from kresnet.inference.predictors import predict as predict
from kresnet.models.densenet import DenseNetSpec
from kresnet.models.early import Conv
from kresnet.models.early import EarlySpec
from kresnet.models.inception.factorized import V3Spec
from kresnet.models.inception.factorized import V4Spec
from kresnet.models.inception.googlenet import GoogLeNetSpec
from kresnet.models.inception.googlenet import Row
from kresnet.models.inception.residual import InceptionResNetSpec
from kresnet.models.mobile.engine import InvertedSpec
from kresnet.models.mobile.engine import Row
from kresnet.models.parnet import ParNetSpec
from kresnet.models.plain import PlainSpec
from kresnet.models.registry import create_model as create_model
from kresnet.models.registry import get_builder as get_builder
from kresnet.models.registry import list_models as list_models
from kresnet.models.registry import list_weights as list_weights
from kresnet.models.repvgg import RepVGGSpec
from kresnet.models.residual.spec import ResNetSpec
from kresnet.models.saving import save_weights as save_weights
from kresnet.models.scaling import CompoundScaling as CompoundScaling
from kresnet.search import scaling as scaling
from kresnet.search.compare import compare as compare
from kresnet.training import callbacks as callbacks
from kresnet.training import losses as losses
from kresnet.training import optimizers as optimizers
from kresnet.training import recipes as recipes
from kresnet.training.auxiliary import with_auxiliary_losses as with_auxiliary_losses
from kresnet.training.devices import on_devices as on_devices
from kresnet.training.growth import grow as grow
from kresnet.training.train import train as train
from kresnet.training.transfer import freeze as freeze
from kresnet.training.transfer import recalibrate_batch_norm as recalibrate_batch_norm
from kresnet.weights.imagenet import decode_predictions as decode_predictions
from kresnet.weights.imagenet import preprocess_input as preprocess_input

__version__: str

class _EarlySpecBuilder(Protocol):
    __name__: str
    key: str
    paper: str
    spec: EarlySpec
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
        weights_origin: str | None = ...,
        phi: float | None = ...,
        alpha: float | None = ...,
        beta: float | None = ...,
        gamma: float | None = ...,
        mean: tuple[float, ...] = ...,
        std: tuple[float, ...] = ...,
        head_dropout_rate: float = ...,
        epsilon: float = ...,
        momentum: float = ...,
        rows: tuple[Conv, ...] = ...,
        head: str = ...,
        dense_widths: tuple[int, ...] = ...,
        head_size: int = ...,
        activation: str = ...,
        ceil_pool: bool = ...,
        dropout_rate: float = ...,
        dropout_first: bool = ...,
    ) -> keras.Model: ...

class _DenseNetSpecBuilder(Protocol):
    __name__: str
    key: str
    paper: str
    spec: DenseNetSpec
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
        weights_origin: str | None = ...,
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
        growth_rate: int = ...,
        stem: str = ...,
        stem_width: int = ...,
        bottleneck: int | None = ...,
        compression: float = ...,
        activation: str = ...,
        dropout_rate: float = ...,
    ) -> keras.Model: ...

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
        weights_origin: str | None = ...,
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
        dense_width: int | None = ...,
        width_multiplier: float = ...,
        kept_width: float = ...,
        depth_multiplier: float = ...,
        fixed_ends: bool = ...,
        head_never_shrinks: bool = ...,
        linear: bool = ...,
        shortcut: bool = ...,
        activation: str = ...,
        se_of: str = ...,
        se_activation: str | None = ...,
        se_gate: str = ...,
        padding: str = ...,
        output_stride: int = ...,
        drop_path_rate: float = ...,
    ) -> keras.Model: ...

class _GoogLeNetSpecBuilder(Protocol):
    __name__: str
    key: str
    paper: str
    spec: GoogLeNetSpec
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
        auxiliary: bool = ...,
        weights_origin: str | None = ...,
        phi: float | None = ...,
        alpha: float | None = ...,
        beta: float | None = ...,
        gamma: float | None = ...,
        mean: tuple[float, ...] = ...,
        std: tuple[float, ...] = ...,
        head_dropout_rate: float = ...,
        epsilon: float = ...,
        momentum: float = ...,
        width_multiplier: float = ...,
        batch_norm: bool = ...,
        activation: str = ...,
        modules: tuple[tuple[Row, ...], ...] = ...,
        reduced: bool = ...,
        large_kernel: int = ...,
        last_pool: int = ...,
        local_response_norm: bool = ...,
        averaged_auxiliary: bool = ...,
    ) -> keras.Model: ...

class _InceptionResNetSpecBuilder(Protocol):
    __name__: str
    key: str
    paper: str
    spec: InceptionResNetSpec
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
        weights_origin: str | None = ...,
        phi: float | None = ...,
        alpha: float | None = ...,
        beta: float | None = ...,
        gamma: float | None = ...,
        mean: tuple[float, ...] = ...,
        std: tuple[float, ...] = ...,
        head_dropout_rate: float = ...,
        epsilon: float = ...,
        momentum: float = ...,
        width_multiplier: float = ...,
        batch_norm: bool = ...,
        activation: str = ...,
        version: int = ...,
        depths: tuple[int, ...] = ...,
        residual_scales: tuple[float, ...] = ...,
    ) -> keras.Model: ...

class _V3SpecBuilder(Protocol):
    __name__: str
    key: str
    paper: str
    spec: V3Spec
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
        auxiliary: bool = ...,
        weights_origin: str | None = ...,
        phi: float | None = ...,
        alpha: float | None = ...,
        beta: float | None = ...,
        gamma: float | None = ...,
        mean: tuple[float, ...] = ...,
        std: tuple[float, ...] = ...,
        head_dropout_rate: float = ...,
        epsilon: float = ...,
        momentum: float = ...,
        width_multiplier: float = ...,
        batch_norm: bool = ...,
        activation: str = ...,
        depths: tuple[int, ...] = ...,
        count_padding: bool = ...,
    ) -> keras.Model: ...

class _V4SpecBuilder(Protocol):
    __name__: str
    key: str
    paper: str
    spec: V4Spec
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
        weights_origin: str | None = ...,
        phi: float | None = ...,
        alpha: float | None = ...,
        beta: float | None = ...,
        gamma: float | None = ...,
        mean: tuple[float, ...] = ...,
        std: tuple[float, ...] = ...,
        head_dropout_rate: float = ...,
        epsilon: float = ...,
        momentum: float = ...,
        width_multiplier: float = ...,
        batch_norm: bool = ...,
        activation: str = ...,
        depths: tuple[int, ...] = ...,
        count_padding: bool = ...,
    ) -> keras.Model: ...

class _ParNetSpecBuilder(Protocol):
    __name__: str
    key: str
    paper: str
    spec: ParNetSpec
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
        weights_origin: str | None = ...,
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
        head_width: int = ...,
        activation: str = ...,
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
        weights_origin: str | None = ...,
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
        se_divisor: int = ...,
        attention: str | None = ...,
        stem: str = ...,
        stem_width: int | None = ...,
        stem_pool: str = ...,
        anti_alias: str | None = ...,
        shortcut: str = ...,
        activated_branch: bool = ...,
        stride_in: str = ...,
        stride_at: str = ...,
        preactivation: bool = ...,
        shared_entry: bool = ...,
        final_norm: bool | None = ...,
        biases: bool = ...,
        activation: str = ...,
        output_stride: int = ...,
        zero_init_residual: bool = ...,
        drop_path_rate: float = ...,
        dropout_rate: float = ...,
    ) -> keras.Model: ...

class _RepVGGSpecBuilder(Protocol):
    __name__: str
    key: str
    paper: str
    spec: RepVGGSpec
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
        weights_origin: str | None = ...,
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
        groups: int = ...,
        se_reduction: int | None = ...,
        activation: str = ...,
        deployed: bool = ...,
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
        weights_origin: str | None = ...,
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
        local_response_norm: bool = ...,
        last_kernel: int = ...,
        dense_widths: tuple[int, ...] = ...,
        activation: str = ...,
    ) -> keras.Model: ...

EfficientNet: _InvertedSpecBuilder
"""arXiv:1905.11946, for images of 224 pixels."""
MobileNet: _InvertedSpecBuilder
"""arXiv:1704.04861, for images of 224 pixels."""
ResNet: _ResNetSpecBuilder
"""arXiv:1512.03385, for images of 224 pixels."""
AlexNet: _EarlySpecBuilder
"""arXiv:1404.5997, for images of 224 pixels."""
AlexNet2012: _EarlySpecBuilder
"""doi:10.1145/3065386, for images of 227 pixels."""
DenseNet40_12: _DenseNetSpecBuilder
"""arXiv:1608.06993, for images of 32 pixels."""
DenseNet121: _DenseNetSpecBuilder
"""arXiv:1608.06993, for images of 224 pixels."""
DenseNet161: _DenseNetSpecBuilder
"""arXiv:1608.06993, for images of 224 pixels."""
DenseNet169: _DenseNetSpecBuilder
"""arXiv:1608.06993, for images of 224 pixels."""
DenseNet201: _DenseNetSpecBuilder
"""arXiv:1608.06993, for images of 224 pixels."""
DenseNet264: _DenseNetSpecBuilder
"""arXiv:1608.06993, for images of 224 pixels."""
DenseNetBC100_12: _DenseNetSpecBuilder
"""arXiv:1608.06993, for images of 32 pixels."""
DenseNetBC190_40: _DenseNetSpecBuilder
"""arXiv:1608.06993, for images of 32 pixels."""
EfficientNetB0: _InvertedSpecBuilder
"""arXiv:1905.11946, for images of 224 pixels."""
EfficientNetB1: _InvertedSpecBuilder
"""arXiv:1905.11946, for images of 240 pixels."""
EfficientNetB2: _InvertedSpecBuilder
"""arXiv:1905.11946, for images of 260 pixels."""
EfficientNetB3: _InvertedSpecBuilder
"""arXiv:1905.11946, for images of 300 pixels."""
EfficientNetB4: _InvertedSpecBuilder
"""arXiv:1905.11946, for images of 380 pixels."""
EfficientNetB5: _InvertedSpecBuilder
"""arXiv:1905.11946, for images of 456 pixels."""
EfficientNetB6: _InvertedSpecBuilder
"""arXiv:1905.11946, for images of 528 pixels."""
EfficientNetB7: _InvertedSpecBuilder
"""arXiv:1905.11946, for images of 600 pixels."""
EfficientNetLite0: _InvertedSpecBuilder
"""arXiv:1905.11946, for images of 224 pixels."""
EfficientNetLite1: _InvertedSpecBuilder
"""arXiv:1905.11946, for images of 240 pixels."""
EfficientNetLite2: _InvertedSpecBuilder
"""arXiv:1905.11946, for images of 260 pixels."""
EfficientNetLite3: _InvertedSpecBuilder
"""arXiv:1905.11946, for images of 280 pixels."""
EfficientNetLite4: _InvertedSpecBuilder
"""arXiv:1905.11946, for images of 300 pixels."""
EfficientNetV2B0: _InvertedSpecBuilder
"""arXiv:2104.00298, for images of 224 pixels."""
EfficientNetV2B1: _InvertedSpecBuilder
"""arXiv:2104.00298, for images of 240 pixels."""
EfficientNetV2B2: _InvertedSpecBuilder
"""arXiv:2104.00298, for images of 260 pixels."""
EfficientNetV2B3: _InvertedSpecBuilder
"""arXiv:2104.00298, for images of 300 pixels."""
EfficientNetV2L: _InvertedSpecBuilder
"""arXiv:2104.00298, for images of 480 pixels."""
EfficientNetV2M: _InvertedSpecBuilder
"""arXiv:2104.00298, for images of 480 pixels."""
EfficientNetV2S: _InvertedSpecBuilder
"""arXiv:2104.00298, for images of 384 pixels."""
GoogLeNet: _GoogLeNetSpecBuilder
"""arXiv:1409.4842, for images of 224 pixels."""
GoogLeNet2014: _GoogLeNetSpecBuilder
"""arXiv:1409.4842, for images of 224 pixels."""
InceptionResNetV1: _InceptionResNetSpecBuilder
"""arXiv:1602.07261, for images of 299 pixels."""
InceptionResNetV2: _InceptionResNetSpecBuilder
"""arXiv:1602.07261, for images of 299 pixels."""
InceptionV3: _V3SpecBuilder
"""arXiv:1512.00567, for images of 299 pixels."""
InceptionV4: _V4SpecBuilder
"""arXiv:1602.07261, for images of 299 pixels."""
LeNet5: _EarlySpecBuilder
"""doi:10.1109/5.726791, for images of 32 pixels."""
LeNet5_1998: _EarlySpecBuilder
"""doi:10.1109/5.726791, for images of 32 pixels."""
MobileNetV1: _InvertedSpecBuilder
"""arXiv:1704.04861, for images of 224 pixels."""
MobileNetV2_035: _InvertedSpecBuilder
"""arXiv:1801.04381, for images of 224 pixels."""
MobileNetV2_050: _InvertedSpecBuilder
"""arXiv:1801.04381, for images of 224 pixels."""
MobileNetV2_075: _InvertedSpecBuilder
"""arXiv:1801.04381, for images of 224 pixels."""
MobileNetV2: _InvertedSpecBuilder
"""arXiv:1801.04381, for images of 224 pixels."""
MobileNetV2_140: _InvertedSpecBuilder
"""arXiv:1801.04381, for images of 224 pixels."""
MobileNetV3Large_075: _InvertedSpecBuilder
"""arXiv:1905.02244, for images of 224 pixels."""
MobileNetV3Large: _InvertedSpecBuilder
"""arXiv:1905.02244, for images of 224 pixels."""
MobileNetV3Small_050: _InvertedSpecBuilder
"""arXiv:1905.02244, for images of 224 pixels."""
MobileNetV3Small_075: _InvertedSpecBuilder
"""arXiv:1905.02244, for images of 224 pixels."""
MobileNetV3Small: _InvertedSpecBuilder
"""arXiv:1905.02244, for images of 224 pixels."""
NiN: _EarlySpecBuilder
"""arXiv:1312.4400, for images of 224 pixels."""
NiN_CIFAR: _EarlySpecBuilder
"""arXiv:1312.4400, for images of 32 pixels."""
ParNet_L: _ParNetSpecBuilder
"""arXiv:2110.07641, for images of 224 pixels."""
ParNet_M: _ParNetSpecBuilder
"""arXiv:2110.07641, for images of 224 pixels."""
ParNet_S: _ParNetSpecBuilder
"""arXiv:2110.07641, for images of 224 pixels."""
ParNet_XL: _ParNetSpecBuilder
"""arXiv:2110.07641, for images of 224 pixels."""
PlainNet18: _ResNetSpecBuilder
"""arXiv:1512.03385, for images of 224 pixels."""
PlainNet20: _ResNetSpecBuilder
"""arXiv:1512.03385, for images of 32 pixels."""
PlainNet32: _ResNetSpecBuilder
"""arXiv:1512.03385, for images of 32 pixels."""
PlainNet34: _ResNetSpecBuilder
"""arXiv:1512.03385, for images of 224 pixels."""
PlainNet44: _ResNetSpecBuilder
"""arXiv:1512.03385, for images of 32 pixels."""
PlainNet56: _ResNetSpecBuilder
"""arXiv:1512.03385, for images of 32 pixels."""
PlainNet110: _ResNetSpecBuilder
"""arXiv:1512.03385, for images of 32 pixels."""
RepVGG_A0: _RepVGGSpecBuilder
"""arXiv:2101.03697, for images of 224 pixels."""
RepVGG_A1: _RepVGGSpecBuilder
"""arXiv:2101.03697, for images of 224 pixels."""
RepVGG_A2: _RepVGGSpecBuilder
"""arXiv:2101.03697, for images of 224 pixels."""
RepVGG_B0: _RepVGGSpecBuilder
"""arXiv:2101.03697, for images of 224 pixels."""
RepVGG_B1: _RepVGGSpecBuilder
"""arXiv:2101.03697, for images of 224 pixels."""
RepVGG_B1g2: _RepVGGSpecBuilder
"""arXiv:2101.03697, for images of 224 pixels."""
RepVGG_B1g4: _RepVGGSpecBuilder
"""arXiv:2101.03697, for images of 224 pixels."""
RepVGG_B2: _RepVGGSpecBuilder
"""arXiv:2101.03697, for images of 224 pixels."""
RepVGG_B2g4: _RepVGGSpecBuilder
"""arXiv:2101.03697, for images of 224 pixels."""
RepVGG_B3: _RepVGGSpecBuilder
"""arXiv:2101.03697, for images of 224 pixels."""
RepVGG_B3g4: _RepVGGSpecBuilder
"""arXiv:2101.03697, for images of 224 pixels."""
RepVGG_D2se: _RepVGGSpecBuilder
"""arXiv:2101.03697, for images of 320 pixels."""
ResNet18: _ResNetSpecBuilder
"""arXiv:1512.03385, for images of 224 pixels."""
ResNet18D: _ResNetSpecBuilder
"""arXiv:1812.01187, for images of 224 pixels."""
ResNet20: _ResNetSpecBuilder
"""arXiv:1512.03385, for images of 32 pixels."""
ResNet26: _ResNetSpecBuilder
"""arXiv:1512.03385, for images of 224 pixels."""
ResNet26D: _ResNetSpecBuilder
"""arXiv:1812.01187, for images of 224 pixels."""
ResNet32: _ResNetSpecBuilder
"""arXiv:1512.03385, for images of 32 pixels."""
ResNet34: _ResNetSpecBuilder
"""arXiv:1512.03385, for images of 224 pixels."""
ResNet34D: _ResNetSpecBuilder
"""arXiv:1812.01187, for images of 224 pixels."""
ResNet44: _ResNetSpecBuilder
"""arXiv:1512.03385, for images of 32 pixels."""
ResNet50: _ResNetSpecBuilder
"""arXiv:1512.03385, for images of 224 pixels."""
ResNet50C: _ResNetSpecBuilder
"""arXiv:1812.01187, for images of 224 pixels."""
ResNet50D: _ResNetSpecBuilder
"""arXiv:1812.01187, for images of 224 pixels."""
ResNet56: _ResNetSpecBuilder
"""arXiv:1512.03385, for images of 32 pixels."""
ResNet101: _ResNetSpecBuilder
"""arXiv:1512.03385, for images of 224 pixels."""
ResNet101C: _ResNetSpecBuilder
"""arXiv:1812.01187, for images of 224 pixels."""
ResNet101D: _ResNetSpecBuilder
"""arXiv:1812.01187, for images of 224 pixels."""
ResNet110: _ResNetSpecBuilder
"""arXiv:1512.03385, for images of 32 pixels."""
ResNet152: _ResNetSpecBuilder
"""arXiv:1512.03385, for images of 224 pixels."""
ResNet152D: _ResNetSpecBuilder
"""arXiv:1812.01187, for images of 224 pixels."""
ResNet1202: _ResNetSpecBuilder
"""arXiv:1512.03385, for images of 32 pixels."""
ResNet18V2: _ResNetSpecBuilder
"""arXiv:1603.05027, for images of 224 pixels."""
ResNet34V2: _ResNetSpecBuilder
"""arXiv:1603.05027, for images of 224 pixels."""
ResNet50V2: _ResNetSpecBuilder
"""arXiv:1603.05027, for images of 224 pixels."""
ResNet101V2: _ResNetSpecBuilder
"""arXiv:1603.05027, for images of 224 pixels."""
ResNet110V2: _ResNetSpecBuilder
"""arXiv:1603.05027, for images of 32 pixels."""
ResNet152V2: _ResNetSpecBuilder
"""arXiv:1603.05027, for images of 224 pixels."""
ResNet164V2: _ResNetSpecBuilder
"""arXiv:1603.05027, for images of 32 pixels."""
ResNet200V2: _ResNetSpecBuilder
"""arXiv:1603.05027, for images of 224 pixels."""
ResNet1001V2: _ResNetSpecBuilder
"""arXiv:1603.05027, for images of 32 pixels."""
ResNeXt29_8x64d: _ResNetSpecBuilder
"""arXiv:1611.05431, for images of 32 pixels."""
ResNeXt29_16x64d: _ResNetSpecBuilder
"""arXiv:1611.05431, for images of 32 pixels."""
ResNeXt50_32x4d: _ResNetSpecBuilder
"""arXiv:1611.05431, for images of 224 pixels."""
ResNeXt50D_32x4d: _ResNetSpecBuilder
"""arXiv:1611.05431, for images of 224 pixels."""
ResNeXt101_32x4d: _ResNetSpecBuilder
"""arXiv:1611.05431, for images of 224 pixels."""
ResNeXt101_32x8d: _ResNetSpecBuilder
"""arXiv:1611.05431, for images of 224 pixels."""
ResNeXt101_64x4d: _ResNetSpecBuilder
"""arXiv:1611.05431, for images of 224 pixels."""
SENet154: _ResNetSpecBuilder
"""arXiv:1709.01507, for images of 224 pixels."""
SEResNet18: _ResNetSpecBuilder
"""arXiv:1709.01507, for images of 224 pixels."""
SEResNet34: _ResNetSpecBuilder
"""arXiv:1709.01507, for images of 224 pixels."""
SEResNet50: _ResNetSpecBuilder
"""arXiv:1709.01507, for images of 224 pixels."""
SEResNet101: _ResNetSpecBuilder
"""arXiv:1709.01507, for images of 224 pixels."""
SEResNet152: _ResNetSpecBuilder
"""arXiv:1709.01507, for images of 224 pixels."""
SEResNet152D: _ResNetSpecBuilder
"""arXiv:1709.01507, for images of 224 pixels."""
SEResNeXt50_32x4d: _ResNetSpecBuilder
"""arXiv:1709.01507, for images of 224 pixels."""
SEResNeXt101_32x4d: _ResNetSpecBuilder
"""arXiv:1709.01507, for images of 224 pixels."""
VGG11: _PlainSpecBuilder
"""arXiv:1409.1556, for images of 224 pixels."""
VGG11_BN: _PlainSpecBuilder
"""arXiv:1409.1556, for images of 224 pixels."""
VGG11_LRN: _PlainSpecBuilder
"""arXiv:1409.1556, for images of 224 pixels."""
VGG13: _PlainSpecBuilder
"""arXiv:1409.1556, for images of 224 pixels."""
VGG13_BN: _PlainSpecBuilder
"""arXiv:1409.1556, for images of 224 pixels."""
VGG16: _PlainSpecBuilder
"""arXiv:1409.1556, for images of 224 pixels."""
VGG16_BN: _PlainSpecBuilder
"""arXiv:1409.1556, for images of 224 pixels."""
VGG16_C: _PlainSpecBuilder
"""arXiv:1409.1556, for images of 224 pixels."""
VGG19: _PlainSpecBuilder
"""arXiv:1409.1556, for images of 224 pixels."""
VGG19_BN: _PlainSpecBuilder
"""arXiv:1409.1556, for images of 224 pixels."""
WideResNet50_2: _ResNetSpecBuilder
"""arXiv:1605.07146, for images of 224 pixels."""
WideResNet101_2: _ResNetSpecBuilder
"""arXiv:1605.07146, for images of 224 pixels."""
WRN16_8: _ResNetSpecBuilder
"""arXiv:1605.07146, for images of 32 pixels."""
WRN28_2: _ResNetSpecBuilder
"""arXiv:1605.07146, for images of 32 pixels."""
WRN28_10: _ResNetSpecBuilder
"""arXiv:1605.07146, for images of 32 pixels."""
WRN40_4: _ResNetSpecBuilder
"""arXiv:1605.07146, for images of 32 pixels."""
ZFNet: _EarlySpecBuilder
"""arXiv:1311.2901, for images of 224 pixels."""
