"""What an evaluation found."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np

from kresnet.evaluation.intervals import wilson
from kresnet.files import replacing_csv


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation.

    Attributes:
        labels: integers, (examples,), in the order of the data.
        probabilities: float32, (examples, classes), averaged over crops, scales and networks.
        class_names: in the order of the labels; None if they are not known.
        crops, scales: the arguments of `evaluate`.
        file_paths: of the images, in the same order; None where they are not files of a folder.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    class_names: tuple[str, ...] | None = None
    crops: str = "center"
    scales: tuple[int, ...] = ()
    file_paths: tuple[str, ...] | None = None

    @property
    def examples(self) -> int:
        """The number of images."""
        return len(self.labels)

    def correct(self, k: int = 1) -> int:
        """Returns how many images have their class among the k likeliest; ties are won by the lower class index."""
        likeliest = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :k]
        return int((likeliest == self.labels[:, None]).sum())

    def accuracy(self, k: int = 1) -> float:
        """Returns the top-k accuracy, in [0, 1]."""
        return self.correct(k) / self.examples

    @property
    def loss(self) -> float:
        """The mean cross-entropy in nats. Probabilities are normalized to a sum of 1, and clipped to at least 1e-7."""
        p = self.probabilities[np.arange(self.examples), self.labels] / self.probabilities.sum(axis=1)
        return float(-np.log(np.clip(p, 1e-7, 1)).mean())

    def summary(self) -> str:
        """Returns accuracies with their counts and 95 % confidence intervals, and the loss, in one line."""
        parts = []
        for k in self._ks:
            correct = self.correct(k)
            low, high = wilson(correct, self.examples)
            counts = f"{correct} of {self.examples}, 95 % interval {low:.2%} to {high:.2%}"
            parts.append(f"top-{k} {self.accuracy(k):.2%} ({counts})")
        return "  ".join([*parts, f"loss {self.loss:.4f}"])

    def to_dict(self) -> dict[str, Any]:
        """Returns the results as plain values, for a JSON file."""
        values = {"examples": self.examples, "loss": self.loss, "crops": self.crops, "scales": [*self.scales]}
        for k in self._ks:
            values[f"top{k}"] = self.accuracy(k)
            values[f"top{k}_interval"] = list(wilson(self.correct(k), self.examples))
        return values

    def to_csv(self, path: str | os.PathLike) -> None:
        """Writes a row for each image: its file or index, its class, the likeliest class, and both probabilities."""
        names = self.class_names or [str(i) for i in range(self.probabilities.shape[1])]
        files = self.file_paths or range(self.examples)
        with replacing_csv(path) as writer:
            writer.writerow(("image", "label", "predicted", "probability", "probability_of_label"))
            for image, label, p in zip(files, self.labels, self.probabilities, strict=True):
                best = int(p.argmax())
                writer.writerow((image, names[label], names[best], f"{p[best]:.6g}", f"{p[label]:.6g}"))

    @property
    def _ks(self) -> tuple[int, ...]:
        """Top-5 says nothing of five classes or fewer."""
        return (1, 5) if self.probabilities.shape[1] > 5 else (1,)
