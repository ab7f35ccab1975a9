"""Convolutional networks for Keras, exactly as their papers have them."""

import importlib.util
import pkgutil
from typing import Any

from kresnet import registration

__version__ = "0.1.0"

# Public names, and where each is: imported when it is asked for, since Keras takes seconds to import. The networks'
# names are in `kresnet.models.catalogue`; `make table` writes `__init__.pyi`, for editors, from both.
NAMES = {
    "CompoundScaling": "kresnet.models.scaling:CompoundScaling",
    "EfficientNet": "kresnet.models.mobile.efficientnet:EfficientNet",
    "MobileNet": "kresnet.models.mobile.mobilenet:MobileNetV1",  # as Keras's applications have it
    "ResNet": "kresnet.models.residual.networks:ResNet",
    "any_range": "kresnet.graph.ranges:any_range",
    "compare": "kresnet.search.compare:compare",
    "cost": "kresnet.graph.cost:cost",
    "create_model": "kresnet.models.registry:create_model",
    "data": "kresnet.data",
    "evaluate": "kresnet.evaluation.evaluate:evaluate",
    "export": "kresnet.deploy.export:export",
    "get_builder": "kresnet.models.registry:get_builder",
    "freeze": "kresnet.training.transfer:freeze",
    "grad_cam": "kresnet.evaluation.cam:grad_cam",
    "grow": "kresnet.training.growth:grow",
    "decode_predictions": "kresnet.weights.imagenet:decode_predictions",
    "list_models": "kresnet.models.registry:list_models",
    "list_weights": "kresnet.models.registry:list_weights",
    "on_devices": "kresnet.training.devices:on_devices",
    "predict": "kresnet.inference.predictors:predict",
    "preprocess_input": "kresnet.weights.imagenet:preprocess_input",
    "quantize_aware": "kresnet.deploy.quantize:quantize_aware",
    "recalibrate_batch_norm": "kresnet.training.transfer:recalibrate_batch_norm",
    "recipes": "kresnet.training.recipes",
    "reparameterize": "kresnet.graph.branches:reparameterize",
    "save_weights": "kresnet.models.saving:save_weights",
    "scaling": "kresnet.search.scaling",
    "train": "kresnet.training.train:train",
    "with_auxiliary_losses": "kresnet.training.auxiliary:with_auxiliary_losses",
}

# Modules that go by a short name as well: `kresnet.callbacks`. They are not in `__all__`.
MODULES = {name: f"kresnet.training.{name}" for name in ("callbacks", "losses", "optimizers")}


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return _public()
    place = (NAMES | MODULES).get(name)
    if place:
        found = pkgutil.resolve_name(place)
    elif name[:1].isupper():
        found = pkgutil.resolve_name("kresnet.models.registry:named")(name)
    elif name.isidentifier() and not name.startswith("_") and importlib.util.find_spec(f"kresnet.{name}"):
        found = importlib.import_module(f"kresnet.{name}")
    else:
        raise AttributeError(f"module 'kresnet' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_public()})


def _public() -> list[str]:
    rows = pkgutil.resolve_name("kresnet.models.catalogue:rows")
    return sorted({*NAMES, *(row["builder"] for row in rows())})


registration.register()
