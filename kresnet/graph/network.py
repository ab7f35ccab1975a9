"""A functional model that knows what it is, also after it was saved and loaded."""

from __future__ import annotations

import json
from typing import Any

import keras


@keras.saving.register_keras_serializable(package="kresnet")
class Network(keras.Model):
    """A `keras.Model` of inputs and outputs that carries a description of itself in its config.

    Its files hold Keras's own classes wherever these compute the same, so that Keras loads them where kresnet is not
    imported: as a plain functional model, without the description. `keras.models.clone_model` leaves that out as well.

    Args:
        inputs, outputs, name: as `keras.Model`'s.
        kresnet_config: what is known of the network, ready for JSON; see `kresnet_config`.
    """

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None, **kwargs: Any):
        # Keras serializes a graph only of classes whose `__init__` has just these arguments.
        known = kwargs.pop("kresnet_config", None)
        super().__init__(inputs, outputs, name=name, **kwargs)
        # As text, since Keras would wrap a dictionary in classes of its own.
        self._kresnet_config = json.dumps(known or {})

    @property
    def kresnet_config(self) -> dict[str, Any]:
        """What is known of the network; a new dictionary each time, which `describe` adds to.

        "key", "builder", "family" and "paper" (arXiv number) name the published network, "changes" are the fields of
        its spec in which this one differs, and "spec" are all of them. "include_preprocessing" tells whether the inputs
        are pixels, "weights" the file that was loaded, "labels" the classes' names, "feature_strides" the input pixels
        to a step of each feature map, and "kresnet" the version that built it.
        """
        return json.loads(self._kresnet_config)

    def describe(self, **facts: Any) -> None:
        """Adds facts to `kresnet_config`, ready for JSON, in the place of those of the same names."""
        self._kresnet_config = json.dumps(self.kresnet_config | facts)

    @property
    def feature_strides(self) -> dict[str, int]:
        """Of a network built with `features`: the input pixels that a step of each feature map spans."""
        strides = self.kresnet_config.get("feature_strides")
        if strides is None:
            raise AttributeError("Only a network built with `features` has `feature_strides`")
        return strides

    def get_config(self) -> dict[str, Any]:
        return _exchanged(super().get_config(), _OURS, _KERAS) | {"kresnet_config": self.kresnet_config}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Network:
        return super().from_config(_exchanged(config, _KERAS, _OURS), custom_objects)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        # Keras pickles a model as its file, and a method of the class that reads it: pickle does not find ours, below.
        _, file = super().__reduce__()
        return keras.Model._unpickle_model, file


# Where kresnet is not imported, Keras looks for a class by the module and name in the file: it finds its own functional
# model, which passes over the arguments that it does not know.
Network.__module__, Network.__name__ = "keras.src.models.functional", "Functional"

# The initializers draw from the same distributions; ours, faster under JAX.
_OURS = {
    "module": "kresnet.layers.initializers",
    "class_name": "VarianceScaling",
    "registered_name": "kresnet>VarianceScaling",
}
_KERAS = {"module": "keras.initializers", "class_name": "VarianceScaling", "registered_name": None}


def _exchanged(config: Any, old: dict[str, Any], new: dict[str, Any]) -> Any:
    """Returns a copy of a config in which one serialized class stands for another."""
    if isinstance(config, list | tuple):
        return type(config)(_exchanged(item, old, new) for item in config)
    if not isinstance(config, dict):
        return config
    copied = {key: _exchanged(value, old, new) for key, value in config.items()}
    return copied | new if all(copied.get(key, "") == value for key, value in old.items()) else copied


def like(model: keras.Model, inputs: Any, outputs: Any) -> keras.Model:
    """Returns a model of the same name, and with the same description where the given one has it."""
    if isinstance(model, Network):
        return Network(inputs, outputs, name=model.name, kresnet_config=model.kresnet_config)
    return keras.Model(inputs, outputs, name=model.name)


def description(model: Any) -> dict[str, Any]:
    """Returns a model's `kresnet_config`, {} where it has none."""
    return model.kresnet_config if isinstance(model, Network) else {}
