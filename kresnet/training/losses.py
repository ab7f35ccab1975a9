"""The loss and the accuracies that recipes train with: labels may be classes, or shares of them."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kresnet import checks


def _shares(labels: Any, classes: int) -> Any:
    """One-hot labels from integer classes, (batch,) or (batch, 1); shares, (batch, classes), pass."""
    labels = ops.convert_to_tensor(labels)
    if len(labels.shape) == 2 and labels.shape[1] == classes and classes > 1:
        return ops.cast(labels, "float32")
    return ops.one_hot(ops.cast(ops.reshape(labels, (-1,)), "int32"), classes)


@keras.saving.register_keras_serializable("kresnet")
class Crossentropy(keras.losses.Loss):
    """Cross-entropy of labels, (batch,) integer classes or (batch, classes) shares, and probabilities (batch, classes).

    Args:
        label_smoothing: share of each label that is spread over all classes, in [0, 1).
        binary: whether each class is a yes or no of its own, for networks that end in a sigmoid: the loss is then the
            mean over classes, and each class whose share is above a fifth counts as a whole yes.
        ...: as `keras.losses.Loss`.

    Raises:
        ValueError: if the smoothing is no such fraction.

    Source: label smoothing: Szegedy et al. 2016, arXiv:1512.00567, section 7. Binary: Wightman et al. 2021,
    arXiv:2110.00476, section 3.1; the threshold is its published configuration's.
    """

    def __init__(
        self, label_smoothing: float = 0.0, binary: bool = False, reduction="sum_over_batch_size", name="crossentropy"
    ) -> None:
        super().__init__(reduction=reduction, name=name)
        self.label_smoothing = checks.number("label_smoothing", label_smoothing, 0, 1, "a fraction in [0, 1)")
        self.binary = checks.boolean("binary", binary)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        classes = y_pred.shape[-1]
        shares = _shares(y_true, classes)
        if self.binary:
            shares = ops.cast(shares > 0.2, "float32")
        shares = shares * (1 - self.label_smoothing) + self.label_smoothing / classes
        if self.binary:
            return ops.mean(ops.binary_crossentropy(shares, y_pred), axis=-1)
        return ops.categorical_crossentropy(shares, y_pred)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "label_smoothing": self.label_smoothing, "binary": self.binary}


@keras.saving.register_keras_serializable("kresnet")
def top1(y_true: Any, y_pred: Any) -> Any:
    """Whether the likeliest class is the label's largest: 0 or 1, (batch,)."""
    shares = _shares(y_true, y_pred.shape[-1])
    return ops.cast(ops.equal(ops.argmax(shares, axis=-1), ops.argmax(y_pred, axis=-1)), "float32")


@keras.saving.register_keras_serializable("kresnet")
def top5(y_true: Any, y_pred: Any) -> Any:
    """Whether the label's largest class is among the five likeliest: 0 or 1, (batch,)."""
    classes = ops.argmax(_shares(y_true, y_pred.shape[-1]), axis=-1)
    return ops.cast(ops.in_top_k(ops.cast(classes, "int32"), y_pred, min(5, y_pred.shape[-1])), "float32")


def metrics(classes: int) -> list[keras.metrics.Metric]:
    """Returns new metrics "accuracy" and, from six classes on, "top5"."""
    wanted = [("accuracy", top1)] + ([("top5", top5)] if classes > 5 else [])
    return [keras.metrics.MeanMetricWrapper(function, name=name) for name, function in wanted]
