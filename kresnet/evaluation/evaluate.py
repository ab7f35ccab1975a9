"""What a network is worth, measured as the papers do: top-1, top-5, ten crops, many scales, ensembles."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from kresnet import checks
from kresnet.data import images, sources
from kresnet.data.loading import broken_image, load
from kresnet.data.samples import class_indices
from kresnet.evaluation.intervals import wilson
from kresnet.inference.predictors import Predictor, predictor
from kresnet.progress import tracked

CROPS = ("center", "ten", "full")

# A network's strides divide its input by 32 at most: sizes of whole multiples are padded alike at every stage.
MULTIPLE = 32


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        labels: integers, (examples,), in the data's order.
        probabilities: float32, (examples, classes): averaged over crops, scales and networks.
        class_names: in the order of the labels, or None.
        crops, scales: as asked for.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    class_names: tuple[str, ...] | None = None
    crops: str = "center"
    scales: tuple[int, ...] = ()

    @property
    def examples(self) -> int:
        return len(self.labels)

    def correct(self, k: int = 1) -> int:
        """Images whose class is among the k likeliest; of equally likely classes the first counts as likelier."""
        likeliest = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :k]
        return int((likeliest == self.labels[:, None]).sum())

    def accuracy(self, k: int = 1) -> float:
        """The share of images whose class is among the k likeliest, in [0, 1]."""
        return self.correct(k) / self.examples

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats; probabilities are scaled to a sum of 1, and at least 1e-7."""
        p = self.probabilities[np.arange(self.examples), self.labels] / self.probabilities.sum(axis=1)
        return float(-np.log(np.clip(p, 1e-7, 1)).mean())

    def summary(self) -> str:
        """Returns one line: counts, shares, and their 95 % confidence intervals."""
        ks = (1, 5) if self.probabilities.shape[1] > 5 else (1,)
        parts = []
        for k in ks:
            correct = self.correct(k)
            low, high = wilson(correct, self.examples)
            counts = f"{correct} of {self.examples}, 95 % interval {low:.2%} to {high:.2%}"
            parts.append(f"top-{k} {self.accuracy(k):.2%} ({counts})")
        return "  ".join([*parts, f"loss {self.loss:.4f}"])

    def to_dict(self) -> dict[str, Any]:
        """Returns the figures as plain values, for a JSON file."""
        found: dict[str, Any] = {
            "examples": self.examples,
            "loss": self.loss,
            "crops": self.crops,
            "scales": [*self.scales],
        }
        for k in (1, 5) if self.probabilities.shape[1] > 5 else (1,):
            found[f"top{k}"] = self.accuracy(k)
            found[f"top{k}_interval"] = list(wilson(self.correct(k), self.examples))
        return found


def evaluate(
    model: Any,
    data: Any,
    *,
    crops: str = "center",
    scales: Sequence[int] = (),
    image_size: int | None = None,
    split: str = "validation",
    batch_size: int = 32,
    crop_fraction: float | None = None,
    split_seed: int = 0,
    on_error: str = "raise",
    data_dir: str | os.PathLike | None = None,
    verbose: bool = True,
) -> Evaluation:
    """Measures accuracy and loss.

    Args:
        model: a Keras model, a `.keras` file, a run's folder, a `.tflite`, a SavedModel's folder; or a list of them, an
            ensemble whose probabilities are averaged.
        data: a source of `kresnet.data.load`, or a `tf.data.Dataset` of (images, integer labels) batches.
        crops: "center": each image once. "ten": the corners and the centre of a square 1 / 0.875 of the network's size,
            and their mirror images (Krizhevsky et al. 2012, section 4.1); of a dataset, crops of its images, which must
            be larger than the network's. "full": the network slides over the whole image, at each of `scales` (Simonyan
            and Zisserman 2015, arXiv:1409.1556, section 3.2).
        scales: for "full", the shorter sides in pixels, such as (224, 256, 384, 480, 640) (He et al. 2015,
            arXiv:1512.03385, section 3.4): multiples of 32, to one of which the longer side is cropped. Default: the
            network's own size.
        image_size: of a network of open size, in pixels.
        split, batch_size, crop_fraction, split_seed, on_error, data_dir: as in `kresnet.data.load`.
        verbose: whether to show a bar.

    Returns:
        An `Evaluation`.

    Raises:
        ValueError: if an argument makes no sense, the classes do not match, or an image cannot be decoded.
    """
    checks.choice("crops", crops, CROPS)
    checks.require(not scales or crops == "full", "`scales` are for crops='full'", scales=scales, crops=crops)
    predictors = [predictor(one) for one in (model if isinstance(model, list | tuple) else [model])]
    checks.require(len(predictors) > 0, "An ensemble has at least one network", model=model)
    size = image_size or predictors[0].image_shape[0]
    checks.require(size is not None, "The network's size is open: give `image_size`", image_size=image_size)
    for one in predictors:
        fits = all(side in (None, size) for side in one.image_shape[:2])
        checks.require(fits, f"{one.name} takes other images", image_size=size, image_shape=one.image_shape)
    loading = {"split_seed": split_seed, "on_error": on_error, "data_dir": data_dir}
    source = data if isinstance(data, str | os.PathLike) else None
    if crops == "full":
        scales = tuple(scales) or (size,)
        checks.require(
            all(s % MULTIPLE == 0 for s in scales) or scales == (size,),
            f"`scales` must be multiples of {MULTIPLE}",
            scales=scales,
        )
        predictors = [_open(one) for one in predictors]
        batches = _wholes(source, split, loading) if source is not None else data
        views = _at_scales(scales)
    else:
        loaded = round(size / 0.875) if crops == "ten" else size
        fraction = 1.0 if crops == "ten" else crop_fraction
        batches = data if source is None else _load(source, split, loaded, batch_size, fraction, loading)
        views = _ten_crops(size) if crops == "ten" else lambda x: [x]
    names = getattr(batches, "class_names", None)
    total = getattr(batches, "examples", None)

    labels, probabilities = [], []
    for x, y in _readable(tracked(batches, "evaluating", total, verbose)):
        seen = [one.run(view) for view in views(np.asarray(x)) for one in predictors]
        checks.require(
            len({p.shape for p in seen}) == 1,
            "An ensemble's networks must have the same classes",
            classes=[p.shape[1] for p in seen],
        )
        probabilities.append(np.mean(seen, axis=0, dtype="float32"))
        labels.append(class_indices(y).astype("int64"))
    checks.require(len(labels) > 0, "There are no images", data=data)
    found, truth = np.concatenate(probabilities), np.concatenate(labels)
    classes = found.shape[1]
    known = names or predictors[0].class_names
    checks.require(
        known is None or len(known) == classes,
        "The network must have the images' classes",
        network=classes,
        images=len(known or ()),
    )
    mismatch = names and predictors[0].class_names and tuple(names) != predictors[0].class_names
    checks.require(
        not mismatch,
        "The network was trained on other classes, or in another order",
        network=predictors[0].class_names,
        images=names,
    )
    checks.require(
        truth.min() >= 0 and truth.max() < classes, f"Labels must be in 0 to {classes - 1}", label=int(truth.max())
    )
    return Evaluation(truth, found, tuple(known) if known else None, crops, tuple(scales))


def _load(source: Any, split: str, size: int, batch_size: int, crop_fraction: float | None, loading: dict) -> Any:
    return load(source, split, size, batch_size, shuffle=False, crop_fraction=crop_fraction, **loading)


def _readable(batches: Iterator) -> Iterator:
    """Passes batches on; an image that cannot be decoded is an error of one line."""
    try:
        yield from batches
    except Exception as error:
        broken = broken_image(error)
        if broken is None:
            raise
        raise ValueError(broken) from None


def _ten_crops(size: int) -> Callable[[np.ndarray], list[np.ndarray]]:
    def views(x: np.ndarray) -> list[np.ndarray]:
        height, width = x.shape[1:3]
        checks.require(min(height, width) >= size, f"Ten crops need images of at least {size} pixels", images=x.shape)
        bottom, right = height - size, width - size
        corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
        crops = [x[:, top : top + size, left : left + size] for top, left in corners]
        return [*crops, *(crop[:, :, ::-1] for crop in crops)]

    return views


def _at_scales(scales: Sequence[int]) -> Callable[[np.ndarray], list[np.ndarray]]:
    def view(x: np.ndarray, scale: int) -> np.ndarray:
        height, width = x.shape[1:3]
        ratio = scale / min(height, width)
        sides = [max(scale, round(side * ratio)) for side in (height, width)]
        if sides != [height, width]:
            x = np.asarray(keras.ops.image.resize(x.astype("float32"), sides, antialias=True))
        keep = [scale if side < scale + MULTIPLE else side // MULTIPLE * MULTIPLE for side in sides]
        top, left = ((side - kept) // 2 for side, kept in zip(sides, keep, strict=True))
        return x[:, top : top + keep[0], left : left + keep[1]]

    return lambda x: [view(x, scale) for scale in scales]


def _open(one: Predictor) -> Predictor:
    """The same network for images of any size."""
    if one.image_shape[0] is None:
        return one
    checks.require(
        one.model is not None,
        f"crops='full' needs a Keras model: {one.name} has one input size",
        image_shape=one.image_shape,
    )
    image = keras.Input((None, None, one.image_shape[2]), dtype=one.model.inputs[0].dtype)
    opened = keras.models.clone_model(one.model, input_tensors=image)
    opened.set_weights(one.model.get_weights())
    return dataclasses.replace(predictor(opened), name=one.name, class_names=one.class_names)


class _wholes:
    """Whole images, one to a batch, each of its own size."""

    def __init__(self, source: Any, split: str, loading: dict) -> None:
        self.found = sources.find(source, split, seed=loading["split_seed"], data_dir=loading["data_dir"])
        self.class_names, self.examples, self.on_error = self.found.class_names, self.found.count, loading["on_error"]

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for read, label in sources.each(self.found):
            try:
                image = read()
            except images.ImageError:
                if self.on_error == "raise":
                    raise
                continue
            yield image[None], np.array([label])
