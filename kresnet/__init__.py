"""Residual networks for Keras, exactly as their papers have them."""

import pathlib
import sys

__version__ = "0.1.0"

# Importing kresnet registers its layers, so that Keras can load saved models. The command `kresnet` alone imports what
# it needs when it needs it: its --help must not wait seconds for Keras.
if pathlib.Path(*sys.argv[:1]).stem != "kresnet":
    from kresnet.export import export
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
    from kresnet.zoo import create_model, get_builder, list_models

    __all__ = [name for name in dir() if not name.startswith("_") and name not in ("pathlib", "sys")]
