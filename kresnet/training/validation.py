"""Validation on several devices, or by several processes."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from kresnet import checks
from kresnet.evaluation.evaluate import evaluate
from kresnet.graph.devices import agree
from kresnet.inference.predictors import predictor
from kresnet.training import hosts


class Validation(keras.callbacks.Callback):
    """Adds "val_accuracy", "val_loss" and, for more than five classes, "val_top5" to the logs of each epoch.

    They are `evaluate`'s, and so those of one device, whatever is left for the last batch: what `fit` validates must
    divide among the devices. Callbacks that look at these logs must come after it.

    Args:
        data: a dataset of batches of (images, labels); of several processes, each its own share.
    """

    def __init__(self, data: Any) -> None:
        super().__init__()
        spec = getattr(data, "element_spec", (None, None))
        checks.require(len(spec) == 2, "On several devices `validation_data` has no weights", element_spec=spec)
        self.data = data

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.predictor = predictor(self.model)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        agree(self.model)
        found = evaluate(self.predictor, self.data, verbose=False)
        own = [found.examples, found.loss * found.examples, found.correct(1), found.correct(5)]
        images, loss, top1, top5 = hosts.summed(np.array(own, "float64"))
        logs |= {"val_accuracy": top1 / images, "val_loss": loss / images}
        if found.probabilities.shape[1] > 5:
            logs["val_top5"] = top5 / images
