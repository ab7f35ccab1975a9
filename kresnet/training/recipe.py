"""`Recipe`: how a network is trained, and the schedule, optimizer, loss and callbacks that follow from it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from kresnet import checks
from kresnet.data.augment import POLICIES
from kresnet.training.losses import Crossentropy
from kresnet.training.optimizers import SGD, AdamW, Lamb, RMSprop, WarmUp

OPTIMIZERS = ("sgd", "rmsprop", "lamb", "adamw")
SCHEDULES = ("constant", "plateau", "steps", "exponential", "cosine")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained.

    Learning rates are for batches of `batch_size` images; for others, `optimizer_for` scales them linearly (Goyal et
    al. 2017, arXiv:1706.02677). Lengths are in epochs, or in steps (updates) of `batch_size` images. The milestones of
    a schedule are fractions of the total length, and so move with it.
    """

    paper: str = ""  # arXiv number and section
    # Length: one of `epochs` and `steps`
    epochs: float | None = None
    steps: int | None = None
    batch_size: int = 256  # images
    # Optimizer
    optimizer: str = "sgd"
    momentum: float = 0.9
    nesterov: bool = False
    rho: float = 0.9  # RMSprop's decay of the mean square
    epsilon: float = 1e-7  # of RMSprop, LAMB and AdamW
    weight_decay: float = 1e-4  # added to the gradient; in LAMB inside the trust ratio, in AdamW decoupled
    decay_norms_and_biases: bool = True
    clip_norm: float | None = None  # the global norm to which the gradients are clipped
    ema: float | None = None  # decay of the moving average of the weights, which is what is evaluated and saved
    # Learning rate
    learning_rate: float = 0.1
    schedule: str = "cosine"
    milestones: tuple[float, ...] = ()  # of "steps"
    factor: float = 0.1  # multiplies at each milestone or plateau, or, in "exponential", every `decay_epochs`
    decay_epochs: float = 1.0  # of "exponential"
    plateau_epochs: int = 5  # epochs without a better accuracy that make a plateau
    warmup_epochs: float = 0.0
    warmup_steps: int = 0
    warmup_learning_rate: float = 0.0
    warmup_linear: bool = True  # False: constant
    warmup_shifts: bool = False  # whether the schedule starts after the warm-up
    # Loss
    label_smoothing: float = 0.0
    binary: bool = False  # a sigmoid per class
    auxiliary_weight: float | None = None  # of auxiliary classifiers' losses; None: they are left out
    # Images
    image_size: int | None = None  # pixels; None: the network's own
    crop_fraction: float | None = None  # of evaluation; see `kresnet.data.load`
    augment: str | None = None  # "auto": "cifar" below 64 pixels, else "inception"
    flip: bool = True  # whether augmentation mirrors images
    mixup: float = 0.0
    cutmix: float = 0.0
    repeats: int = 1  # how often an image occurs in an epoch; see `kresnet.data.load`
    # Fields of a network that is built for the recipe; None: the network's own
    dropout_rate: float | None = None  # inside blocks
    head_dropout_rate: float | None = None
    drop_path_rate: float | None = None
    zero_init_residual: bool | None = None

    def __post_init__(self) -> None:
        checks.choice("optimizer", self.optimizer, OPTIMIZERS)
        checks.choice("schedule", self.schedule, SCHEDULES)
        checks.require(
            (self.epochs is None) != (self.steps is None),
            "Give exactly one of `epochs` and `steps`",
            epochs=self.epochs,
            steps=self.steps,
        )
        checks.require(
            self.schedule != "plateau" or not (self.warmup_epochs or self.warmup_steps),
            'Warm-up is of schedules that are known in advance, which "plateau" is not',
            warmup_epochs=self.warmup_epochs,
            warmup_steps=self.warmup_steps,
        )
        for name in ("batch_size", "steps", "image_size", "plateau_epochs", "repeats"):
            if getattr(self, name) is not None:
                checks.integer(name, getattr(self, name))
        for name in ("learning_rate", "epochs", "decay_epochs", "factor", "clip_norm"):
            if getattr(self, name) is not None:
                checks.number(name, getattr(self, name), 1e-12, 1e12, "a positive number")
        for name in (
            "weight_decay",
            "warmup_epochs",
            "warmup_steps",
            "warmup_learning_rate",
            "mixup",
            "auxiliary_weight",
        ):
            if getattr(self, name) is not None:
                checks.number(name, getattr(self, name), 0, 1e12, "a number of at least 0")
        checks.number("cutmix", self.cutmix, 0, math.nextafter(1, 2), "a number in [0, 1]")
        for name in ("momentum", "label_smoothing", "ema"):
            if getattr(self, name) is not None:
                checks.number(name, getattr(self, name), 0, 1, "a fraction in [0, 1)")
        base = str(self.augment).split("-m")[0].split("-n")[0].split("-p")[0]
        checks.choice("augment", None if self.augment is None else base, (*POLICIES, "auto", None))
        ordered = list(self.milestones) == sorted(self.milestones) and all(0 < m < 1 for m in self.milestones)
        checks.require(ordered, "`milestones` must be increasing fractions in (0, 1)", milestones=self.milestones)

    def replace(self, **fields: Any) -> Recipe:
        """Returns the recipe with some fields replaced. `epochs` replaces `steps`, and the other way round.

        Raises:
            ValueError: if there is no such field, or a value makes no sense.
        """
        names = [field.name for field in dataclasses.fields(self)]
        for name in fields:
            checks.choice("field of a recipe", name, names)
        if fields.get("epochs") is not None:
            fields.setdefault("steps", None)
        if fields.get("steps") is not None:
            fields.setdefault("epochs", None)
        return dataclasses.replace(self, **fields)

    def total_steps(self, steps_per_epoch: int, batch_size: int | None = None) -> int:
        """Returns the number of steps of a whole run, at least 1.

        If the recipe's length is in steps, other batches give the number of steps with as many images in all.
        """
        if self.epochs is not None:
            return max(1, round(self.epochs * steps_per_epoch))
        return max(1, round(self.steps * self.batch_size / (batch_size or self.batch_size)))

    def learning_rates(self, steps_per_epoch: int, batch_size: int | None = None) -> Any:
        """Returns the learning rate, or its schedule, for batches of `batch_size` images (default: the recipe's)."""
        schedules = keras.optimizers.schedules
        scale = (batch_size or self.batch_size) / self.batch_size
        rate, total = self.learning_rate * scale, self.total_steps(steps_per_epoch, batch_size)
        warmup = round(self.warmup_epochs * steps_per_epoch) or round(self.warmup_steps / scale)
        if self.schedule == "steps":
            # Keras changes the rate in the step after its boundary, the papers in the step of the milestone.
            boundaries = [max(1, round(milestone * total)) - 1 for milestone in self.milestones]
            values = [rate * self.factor**i for i in range(len(boundaries) + 1)]
            result = schedules.PiecewiseConstantDecay(boundaries, values)
        elif self.schedule == "exponential":
            every = max(1, round(self.decay_epochs * steps_per_epoch))
            result = schedules.ExponentialDecay(rate, every, self.factor, staircase=True)
        elif self.schedule == "cosine":
            result = schedules.CosineDecay(rate, max(1, total - warmup * self.warmup_shifts))
        else:
            result = rate
        if warmup:
            start = self.warmup_learning_rate * scale
            result = WarmUp(result, warmup, start, linear=self.warmup_linear, shift=self.warmup_shifts)
        return result

    def optimizer_for(
        self, steps_per_epoch: int, batch_size: int | None = None, layer_rates: Mapping[str, float] | None = None
    ) -> keras.optimizers.Optimizer:
        """Returns a new optimizer.

        Args:
            steps_per_epoch: steps in an epoch, at least 1.
            batch_size: images in a batch. Default: the recipe's.
            layer_rates: by what to multiply the learning rate of some variables, by the ends of their paths; see
                `kresnet.training.transfer.layer_rates`.
        """
        common = {
            "learning_rate": self.learning_rates(steps_per_epoch, batch_size),
            "weight_decay": self.weight_decay or None,
            "global_clipnorm": self.clip_norm,
            "use_ema": self.ema is not None,
            "ema_momentum": 0.99 if self.ema is None else self.ema,
        }
        common |= {"decay_norms_and_biases": self.decay_norms_and_biases, "layer_rates": layer_rates}
        if self.optimizer == "adamw":
            return AdamW(**common | {"weight_decay": self.weight_decay}, epsilon=self.epsilon)
        if self.optimizer == "sgd":
            return SGD(**common, momentum=self.momentum, nesterov=self.nesterov)
        if self.optimizer == "rmsprop":
            return RMSprop(**common, rho=self.rho, momentum=self.momentum, epsilon=self.epsilon)
        return Lamb(**common, epsilon=self.epsilon)

    def loss(self, from_logits: bool = False) -> keras.losses.Loss:
        """Returns the loss, which takes class indices and soft labels, and probabilities or logits."""
        return Crossentropy(self.label_smoothing, self.binary, from_logits)

    def callbacks(self, validation: Sequence[keras.callbacks.Callback] = ()) -> list[keras.callbacks.Callback]:
        """Returns the callbacks that are part of the recipe: for the moving average, and for the "plateau" schedule.

        They come first in a run: those after them see the averaged weights.

        Args:
            validation: what validates, if `fit` does not: between the two, of which the second looks at its results.
        """
        callbacks: list[keras.callbacks.Callback] = []
        if self.ema is not None:
            callbacks.append(keras.callbacks.SwapEMAWeights(swap_on_epoch=True))
        callbacks += validation
        if self.schedule == "plateau":
            callbacks.append(
                keras.callbacks.ReduceLROnPlateau(
                    "val_accuracy", self.factor, self.plateau_epochs, mode="max", min_delta=0
                )
            )
        return callbacks

    def model_fields(self) -> dict[str, Any]:
        """Returns the arguments of a network's builder that the recipe sets."""
        names = ("dropout_rate", "head_dropout_rate", "drop_path_rate", "zero_init_residual")
        fields = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        fields |= {"classifier_activation": "sigmoid"} if self.binary else {}
        return fields | ({"auxiliary": True} if self.auxiliary_weight is not None else {})
