"""Residual, plain and mobile networks for Keras, exactly as their papers have them."""

import pkgutil
from typing import Any

from kresnet import serializable

__version__ = "0.1.0"

# Public names, and where each is: imported when it is asked for, since Keras takes seconds to import. The networks'
# names stand in `kresnet.models.catalogue`; `make table` writes `__init__.pyi`, for editors, from both.
NAMES = {
    "CompoundScaling": "kresnet.models.scaling:CompoundScaling",
    "EfficientNet": "kresnet.models.mobile.efficientnet:EfficientNet",
    "ResNet": "kresnet.models.residual.networks:ResNet",
    "callbacks": "kresnet.training.callbacks",
    "cost": "kresnet.graph.cost:cost",
    "create_model": "kresnet.models.registry:create_model",
    "data": "kresnet.data",
    "deploy": "kresnet.deploy",
    "evaluate": "kresnet.evaluation.evaluate:evaluate",
    "export": "kresnet.deploy.export:export",
    "get_builder": "kresnet.models.registry:get_builder",
    "layers": "kresnet.layers",
    "list_models": "kresnet.models.registry:list_models",
    "losses": "kresnet.training.losses",
    "optimizers": "kresnet.training.optimizers",
    "quantize_aware": "kresnet.deploy.quantize:quantize_aware",
    "recipes": "kresnet.training.recipes",
    "scaling": "kresnet.search.scaling",
    "train": "kresnet.training.train:train",
}


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return _public()
    if name in NAMES:
        found = pkgutil.resolve_name(NAMES[name])
    elif name[:1].isupper():  # a network
        found = pkgutil.resolve_name("kresnet.models.registry:named")(name)
    else:  # of a module too, which an import statement then looks for
        raise AttributeError(f"module 'kresnet' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_public()})


def _public() -> list[str]:
    from kresnet.models import catalogue

    return sorted({*NAMES, *(row["builder"] for row in catalogue.rows())})


serializable.register()
