"""A functional model that knows what it is, also after it was saved and loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import keras

from kresnet.graph.inputs import input_range
from kresnet.graph.places import block
from kresnet.graph.ranges import RangeCheck, watched
from kresnet.graph.remat import rematerialized


@keras.saving.register_keras_serializable(package="kresnet")
class Network(keras.Model):
    """A `keras.Model` of inputs and outputs that carries a description of itself in its config.

    Where kresnet is not imported, Keras loads its files as plain functional models, without the description.
    `keras.models.clone_model` and `.h5` files leave that out as well.

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
        self._in_training: Callable[[Any], Any] | None = None

    @property
    def kresnet_config(self) -> dict[str, Any]:
        """What is known of the network; a new dictionary each time, which `describe` adds to.

        "key", "builder", "family" and "paper" (arXiv number or DOI) name the published network, "changes" are the
        fields of its spec in which this one differs, and "spec" are all of them. "include_preprocessing" tells whether
        the inputs are pixels, "include_top" and "classes" what it ends in, "weights" the file that was loaded,
        "licence" that of the weights, "crop_fraction" and "interpolation" how images are cropped and resized for
        evaluation, "labels" the classes' names, "feature_strides" the input pixels to a step of each feature map, and
        "kresnet" the version that built it.
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

    def rematerialize(self) -> None:
        """Lets training keep what lies between blocks alone, and compute what is within them again for the gradient.

        A step takes longer, and less memory, by the more, the deeper the blocks are. What is learned, predicted and
        saved stays the same. Call it before `compile`; it is not kept in files.

        Raises:
            ValueError: if the network has more than one input.

        Source: Chen et al. 2016, arXiv:1604.06174; of DenseNet: Pleiss et al. 2017, arXiv:1707.06990.
        """
        self._in_training = rematerialized(self, lambda name: block(name) or name)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if training and self._in_training is not None:
            return self._in_training(self._standardize_inputs(inputs)[0])
        return super().call(inputs, training=training, mask=mask)

    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """As `keras.Model.fit`; refuses images of another range than the network's first layers are made for.

        Raises:
            ValueError: if the first batch is plainly of another range; see `kresnet.any_range`.
        """
        check = RangeCheck(input_range(self), "x", once=True)
        self._build_optimizer()
        try:
            return super().fit(watched(x, check), *args, **kwargs)
        except Exception:
            if check.refusal is not None:  # inside a dataset it became an error of TensorFlow's
                raise check.refusal from None
            raise

    def _build_optimizer(self) -> None:
        """Makes the optimizer's variables: a step of TensorFlow's that had to make them would be traced twice."""
        optimizer = getattr(self, "optimizer", None)
        if keras.backend.backend() == "tensorflow" and optimizer is not None and not optimizer.built:
            with self.distribute_strategy.scope():
                optimizer.build(self.trainable_variables)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"kresnet_config": self.kresnet_config}

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        # Keras pickles a model as its file, and a method of the class that reads it: pickle does not find ours, below.
        _, file = super().__reduce__()
        return keras.Model._unpickle_model, file


# Where kresnet is not imported, Keras looks for a class by the module and name in the file: it finds its own functional
# model, which passes over the arguments that it does not know.
Network.__module__, Network.__name__ = "keras.src.models.functional", "Functional"


def like(model: keras.Model, inputs: Any, outputs: Any) -> keras.Model:
    """Returns a model of the same name, and with the same description where the given one has it."""
    if isinstance(model, Network):
        return Network(inputs, outputs, name=model.name, kresnet_config=model.kresnet_config)
    return keras.Model(inputs, outputs, name=model.name)


def description(model: Any) -> dict[str, Any]:
    """Returns a model's `kresnet_config`, {} where it has none."""
    return model.kresnet_config if isinstance(model, Network) else {}
