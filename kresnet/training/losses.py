"""The loss and the accuracies of the recipes. Labels may be class indices or soft (one probability per class)."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kresnet import checks
from kresnet.graph.outputs import say_of_two


def _soft_labels(labels: Any, classes: int) -> Any:
    """Returns labels as float32 (batch, classes): indices, (batch,) or (batch, 1), one-hot; soft ones as they are.

    Of one class, which is class 1 of 0 and 1, they are its probability.
    """
    labels = ops.convert_to_tensor(labels)
    if classes == 1:
        return ops.cast(ops.reshape(labels, (-1, 1)), "float32")
    if len(labels.shape) == 2 and labels.shape[1] == classes:
        return ops.cast(labels, "float32")
    return ops.one_hot(ops.cast(ops.reshape(labels, (-1,)), "int32"), classes)


@keras.saving.register_keras_serializable("kresnet")
class Crossentropy(keras.losses.Loss):
    """Cross-entropy between labels and predictions, (batch, classes).

    Labels are class indices, (batch,) or (batch, 1), or soft, (batch, classes). A single output, behind a sigmoid, is
    the probability of class 1, and labels are 0 and 1.

    Args:
        label_smoothing: fraction of each label that is spread evenly over all classes, in [0, 1).
        binary: whether each class is a separate yes-or-no decision, for networks that end in a sigmoid. The loss is
            then averaged over the classes, and soft labels become 1 where they are above 0.2, and 0 elsewhere.
        from_logits: whether predictions are logits, of a network without a softmax or sigmoid, and no probabilities.
        reduction, name: as in `keras.losses.Loss`.

    Attributes:
        plain: whether labels are left as they are, and probabilities are those of one decision, normalized to a sum of
            1; as `kresnet.evaluate` does.

    Raises:
        ValueError: if `label_smoothing` is not in [0, 1), or `binary` is not a bool.

    Source: label smoothing: Szegedy et al. 2016, arXiv:1512.00567, section 7. Binary: Wightman et al. 2021,
    arXiv:2110.00476, section 3.1; the threshold is that of its published configuration.
    """

    def __init__(
        self,
        label_smoothing: float = 0.0,
        binary: bool = False,
        from_logits: bool = False,
        reduction="sum_over_batch_size",
        name="crossentropy",
    ) -> None:
        super().__init__(reduction=reduction, name=name)
        self.label_smoothing = checks.number("label_smoothing", label_smoothing, 0, 1, "a fraction in [0, 1)")
        self.binary = checks.boolean("binary", binary)
        self.from_logits = checks.boolean("from_logits", from_logits)
        self.plain = False

    def call(self, y_true: Any, y_pred: Any) -> Any:
        classes = y_pred.shape[-1]
        labels = _soft_labels(y_true, classes)
        if classes == 1:
            say_of_two()
        decisions = self.binary and not self.plain
        if decisions:
            labels = ops.cast(labels > 0.2, "float32")
        if not self.plain:
            labels = labels * (1 - self.label_smoothing) + self.label_smoothing / max(2, classes)
        if decisions or classes == 1:
            return ops.mean(ops.binary_crossentropy(labels, y_pred, from_logits=self.from_logits), axis=-1)
        if self.binary and not self.from_logits:  # a new tensor: of a sigmoid's, Keras would take the logits
            y_pred = y_pred / ops.sum(y_pred, axis=-1, keepdims=True)
        return ops.categorical_crossentropy(labels, y_pred, from_logits=self.from_logits)

    def get_config(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("label_smoothing", "binary", "from_logits")}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("kresnet")
def top1(y_true: Any, y_pred: Any) -> Any:
    """Returns 1 where the likeliest class is the label (if soft, its largest class), else 0: float32 (batch,)."""
    labels = _soft_labels(y_true, y_pred.shape[-1])
    return ops.cast(ops.equal(ops.argmax(labels, axis=-1), ops.argmax(y_pred, axis=-1)), "float32")


@keras.saving.register_keras_serializable("kresnet")
def top5(y_true: Any, y_pred: Any) -> Any:
    """Returns 1 where the label (if soft, its largest class) is among the five likeliest, else 0: float32 (batch,)."""
    classes = ops.argmax(_soft_labels(y_true, y_pred.shape[-1]), axis=-1)
    return ops.cast(ops.in_top_k(ops.cast(classes, "int32"), y_pred, min(5, y_pred.shape[-1])), "float32")


@keras.saving.register_keras_serializable("kresnet")
def of_two(y_true: Any, y_pred: Any, from_logits: bool = False) -> Any:
    """Returns 1 where a single output chooses the label, 0 or 1, else 0: float32 (batch,)."""
    chosen = ops.reshape(y_pred, (-1,)) > (0.0 if from_logits else 0.5)
    labels = ops.cast(ops.reshape(y_true, (-1,)), "float32")
    return ops.cast(ops.equal(chosen, labels > 0.5), "float32")


def metrics(classes: int, from_logits: bool = False) -> list[keras.metrics.Metric]:
    """Returns new metrics: "accuracy" and, for more than five classes, "top5".

    Args:
        classes: of the network; 1 where its only output is that of class 1 of 0 and 1.
        from_logits: whether the network gives logits.
    """
    if classes == 1:
        return [keras.metrics.MeanMetricWrapper(of_two, name="accuracy", from_logits=from_logits)]
    functions = {"accuracy": top1, **({"top5": top5} if classes > 5 else {})}
    return [keras.metrics.MeanMetricWrapper(function, name=name) for name, function in functions.items()]
