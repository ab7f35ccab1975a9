"""Residual and mobile networks for Keras, exactly as their papers have them."""

import pathlib
import sys

__version__ = "0.1.0"

# Importing kresnet registers its layers, so that Keras can load saved models. The command `kresnet` alone imports what
# it needs when it needs it: its --help must not wait seconds for Keras.
if pathlib.Path(*sys.argv[:1]).stem != "kresnet":
    from kresnet import data, recipes, scaling
    from kresnet.cost import cost
    from kresnet.evaluate import evaluate
    from kresnet.export import export
    from kresnet.models.efficientnet import (
        EfficientNet,
        EfficientNetB0,
        EfficientNetB1,
        EfficientNetB2,
        EfficientNetB3,
        EfficientNetB4,
        EfficientNetB5,
        EfficientNetB6,
        EfficientNetB7,
        EfficientNetLite0,
        EfficientNetLite1,
        EfficientNetLite2,
        EfficientNetLite3,
        EfficientNetLite4,
    )
    from kresnet.models.mobilenet import (
        MobileNetV1,
        MobileNetV2,
        MobileNetV2_035,
        MobileNetV2_050,
        MobileNetV2_075,
        MobileNetV2_140,
    )
    from kresnet.models.resnet import (
        ResNet,
        ResNet18,
        ResNet26,
        ResNet34,
        ResNet50,
        ResNet101,
        ResNet152,
        PlainNet18,
        PlainNet34,
        ResNet50C,
        ResNet101C,
        ResNet18D,
        ResNet26D,
        ResNet34D,
        ResNet50D,
        ResNet101D,
        ResNet152D,
        ResNet18V2,
        ResNet34V2,
        ResNet50V2,
        ResNet101V2,
        ResNet152V2,
        ResNet200V2,
        ResNeXt50_32x4d,
        ResNeXt50D_32x4d,
        ResNeXt101_32x4d,
        ResNeXt101_32x8d,
        ResNeXt101_64x4d,
        SEResNet18,
        SEResNet34,
        SEResNet50,
        SEResNet101,
        SEResNet152,
        SEResNet152D,
        SEResNeXt50_32x4d,
        SEResNeXt101_32x4d,
        SENet154,
        WideResNet50_2,
        WideResNet101_2,
        ResNet20,
        ResNet32,
        ResNet44,
        ResNet56,
        ResNet110,
        ResNet1202,
        PlainNet20,
        PlainNet32,
        PlainNet44,
        PlainNet56,
        PlainNet110,
        ResNet110V2,
        ResNet164V2,
        ResNet1001V2,
        WRN16_8,
        WRN28_2,
        WRN28_10,
        WRN40_4,
        ResNeXt29_8x64d,
        ResNeXt29_16x64d,
    )
    from kresnet.quantize import quantize_aware
    from kresnet.scaling import CompoundScaling
    from kresnet.train import train
    from kresnet.zoo import create_model, get_builder, list_models

    # Of the modules only these are spoken of by their names.
    __all__ = [
        name
        for name, value in list(globals().items())
        if not name.startswith("_") and (name in ("data", "recipes", "scaling") or not isinstance(value, type(sys)))
    ]
