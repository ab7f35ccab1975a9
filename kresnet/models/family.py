"""What a family of networks is: its spec, its body and head, and the names that its weights have elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from kresnet import checks
from kresnet.layers.pixels import IMAGENET
from kresnet.models import ends
from kresnet.weights.layout import Layout

# A number above these is a slip: the largest published networks have 200 blocks in a stage, and 4096 channels.
MOST_BLOCKS, MOST_CHANNELS, MOST_CLASSES = 1000, 100_000, 10_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec:
    """The fields that every family's spec has. The family's own fields, and `stride`, are in its subclass.

    Class attributes:
        settings: the fields that change what a network computes, and neither the names nor the shapes of its weights.
        free: those that any checkpoint leaves open, such as dropout rates.
    """

    settings = ("mean", "std", "epsilon")
    free = ("head_dropout_rate", "momentum")

    mean: tuple[float, ...] = IMAGENET["mean"]  # of the training images' channels, in [0, 1]
    std: tuple[float, ...] = IMAGENET["std"]
    head_dropout_rate: float = 0.0  # in the head, before its dense layers
    epsilon: float = 1e-5  # of batch normalization
    momentum: float = 0.9  # of batch normalization: the share of the old statistics that a step keeps, as in Keras

    def __post_init__(self):
        for name in ("mean", "std"):
            value = getattr(self, name)
            ok = isinstance(value, tuple | list) and all(type(v) in (int, float) and abs(v) < 1e6 for v in value)
            checks.require(
                ok and len(value) > 0 and (name == "mean" or min(value) > 1e-6),
                f"`{name}` must be a number for each channel{'' if name == 'mean' else ', above 0'}",
                **{name: value},
            )
        checks.require(len(self.mean) == len(self.std), "`mean` and `std` must match", mean=self.mean, std=self.std)
        self._set(mean=tuple(self.mean), std=tuple(self.std))
        for name in ("head_dropout_rate", "momentum"):
            self._set(**{name: checks.number(name, getattr(self, name), 0, 1, "a fraction in [0, 1)")})
        self._set(epsilon=checks.number("epsilon", self.epsilon, 1e-12, 1, "in [1e-12, 1)"))

    def _set(self, **fields: Any) -> None:
        """Stores checked fields in their canonical type."""
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @property
    def stride(self) -> int:
        """Input pixels that one step of the last feature map spans."""
        raise NotImplementedError

    def scaled(self, depth: float, width: float) -> Spec:
        """Returns the spec with `depth` times the blocks, rounded up, and `width` times the channels; by 1 itself."""
        raise NotImplementedError


Maps = dict[str, ends.FeatureMap]
Body = Callable[[Any, Any], tuple[Any, Maps]]
Head = Callable[[Any, Any, int, str | None], Any]
Auxiliary = Callable[[Maps, Any, int, str | None], Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Family:
    """Networks that one body builds from specs of one kind.

    Attributes:
        name: what descriptions call it.
        spec: the class of its specs.
        body: from the numbers of the image (a tensor) and a spec to the last feature map, and to all stages'
            `FeatureMap`s by name, "stem" first.
        head: from the last feature map, a spec, the number of classes and the classifier's activation (None: logits) to
            the predictions, (batch, classes).
        layouts: the names that its layers have in PyTorch's checkpoints.
        auxiliary: classifiers at earlier places, which train along: from the feature maps and the rest of what `head`
            takes to predictions by the name of their layer. None: the family has none.
    """

    name: str
    spec: type[Spec]
    body: Body
    head: Head = ends.pooled_classifier
    layouts: tuple[Layout, ...] = ()
    auxiliary: Auxiliary | None = None
