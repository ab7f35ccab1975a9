"""Auxiliary classifiers, whose losses train along, and which nothing else sees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from kresnet import checks
from kresnet.graph.network import Network, description, like
from kresnet.weights.layout import HEAD


class WithAuxiliaryLosses(Network):
    """A network in training with its auxiliary classifiers.

    In `fit` the loss of each is added, times a weight; metrics, validation and `predict` know the network alone, which
    is also what is saved.

    Args:
        inputs, outputs, name, kresnet_config: as `Network`'s; of the outputs, by name, one is "predictions".
        weight: of each auxiliary loss.

    Attributes:
        network: the network alone, of the same layers.
    """

    def __init__(self, inputs: Any, outputs: Mapping[str, Any], name: str | None = None, **kwargs: Any):
        self._weight = kwargs.pop("weight")
        super().__init__(inputs, outputs, name=name, **kwargs)

    @property
    def network(self) -> keras.Model:
        return like(self, self.input, self.output[HEAD])

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        outputs = super().call(inputs, training=training, mask=mask)
        return outputs if training else outputs[HEAD]

    def compile(self, *args: Any, loss: keras.losses.Loss, **kwargs: Any) -> None:
        """As `keras.Model.compile`; `loss` is the predictions', and each auxiliary classifier's.

        Raises:
            ValueError: if `loss` is no `keras.losses.Loss`.
        """
        checks.require(isinstance(loss, keras.losses.Loss), "`loss` must be a keras.losses.Loss", loss=loss)
        super().compile(*args, loss=loss, **kwargs)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        outputs = dict(y_pred) if isinstance(y_pred, Mapping) else {HEAD: y_pred}
        total = super().compute_loss(x, y, outputs.pop(HEAD), sample_weight, training)
        return sum((self._weight * self.loss(y, output, sample_weight) for output in outputs.values()), start=total)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        output = y_pred[HEAD] if isinstance(y_pred, Mapping) else y_pred
        return super().compute_metrics(x, y, output, sample_weight)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """As `keras.Model.save`, of the network alone."""
        self.network.save(*args, **kwargs)


def with_auxiliary_losses(model: keras.Model, weight: float = 0.3) -> WithAuxiliaryLosses:
    """Returns what trains a network with its auxiliary classifiers by `compile` and `fit`, as one with a single output.

    The layers are the model's own: what is trained is trained there too. `train` does this by itself where a recipe has
    an `auxiliary_weight`.

    Args:
        model: a network built with `auxiliary=True`: its outputs are a dictionary, of which one is "predictions".
        weight: by what to multiply each auxiliary loss, at least 0.

    Returns:
        A model to be compiled with a `keras.losses.Loss`. Its `network` is the one without auxiliary classifiers, as is
        what it saves, predicts and validates.

    Raises:
        ValueError: if the model has no such outputs, or the weight makes no sense.

    Source: Szegedy et al. 2014, arXiv:1409.4842, section 5.
    """
    checks.require(
        has_auxiliary(model),
        '`model` must have auxiliary outputs, as a builder\'s with `auxiliary=True`: a dictionary with "predictions"',
        model=type(model).__name__,
        outputs=getattr(model, "output_names", None),
    )
    checks.number("weight", weight, 0, 1e6, "a number of at least 0")
    known = description(model)
    return WithAuxiliaryLosses(model.input, model.output, name=model.name, weight=weight, kresnet_config=known)


def parts(model: keras.Model, weight: float | None) -> tuple[keras.Model, keras.Model, keras.Model]:
    """Returns a network with all its outputs, what is to be fitted, and the network alone: of most, three times it.

    Args:
        model: a network, perhaps with auxiliary classifiers.
        weight: of their losses, if there are some.

    Raises:
        ValueError: if there are auxiliary classifiers and no weight.
    """
    if not has_auxiliary(model):
        return model, model, model
    checks.require(
        weight is not None,
        "`model` has auxiliary classifiers: the recipe must have an `auxiliary_weight`, such as 0.3",
        auxiliary_weight=weight,
    )
    fitted = with_auxiliary_losses(model, weight)
    return model, fitted, fitted.network


def has_auxiliary(model: Any) -> bool:
    """Tells whether a model has, besides its predictions, auxiliary outputs."""
    output = getattr(model, "output", None) if isinstance(model, keras.Model) and model.built else None
    return isinstance(output, Mapping) and HEAD in output and len(output) > 1
