"""Measures accuracy and loss as the papers do: top-1 and top-5, ten crops, several scales, ensembles."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from kresnet import checks
from kresnet.data import images, resizing, sources
from kresnet.data.loading import broken_image, ended, load
from kresnet.data.samples import class_indices
from kresnet.evaluation.result import Evaluation
from kresnet.graph.ranges import RangeCheck
from kresnet.graph.rebuild import copy_weights
from kresnet.inference import preprocessing
from kresnet.inference.predictors import Predictor, held_out_by, predictor
from kresnet.progress import tracked

CROPS = ("center", "ten", "full")

# Networks divide their input's size by up to 32. At multiples of it, every stage pads alike at every scale.
MULTIPLE = 32


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
    interpolation: str | None = None,
    split_seed: int | None = None,
    on_error: str = "raise",
    data_dir: str | os.PathLike | None = None,
    verbose: bool = True,
) -> Evaluation:
    """Measures accuracy and loss.

    Args:
        model: a Keras model, a `.keras`, `.tflite` or `.onnx` file, or the folder of a run or of a SavedModel; or a
            list of these, an ensemble whose probabilities are averaged.
        data: a source of `kresnet.data.load`, or a `tf.data.Dataset` of batches of (images, integer labels).
        crops: which parts of an image the network sees.
            - "center": the central crop.
            - "ten": the four corners and the centre of a square 1 / 0.875 times the network's size, and their mirror
              images (Krizhevsky et al. 2012, section 4.1). The images of a `tf.data.Dataset` are cropped as they are,
              and must be at least as large as the network's input.
            - "full": the whole image, which a fully convolutional network slides over, at each of `scales` (Simonyan
              and Zisserman 2015, arXiv:1409.1556, section 3.2).
        scales: for "full", lengths of the shorter side in pixels, multiples of 32, such as (224, 256, 384, 480, 640)
            (He et al. 2015, arXiv:1512.03385, section 3.4). The longer side is cropped to a multiple of 32. Default:
            the network's own size.
        image_size: height and width in pixels, for a network whose input size is open.
        split, batch_size, on_error, data_dir: as in `kresnet.data.load`.
        split_seed: likewise. Default: the one by which the run that a network is of held images out; else 0.
        crop_fraction: of the central crop of a source's images, as in `kresnet.data.load`. Default: what the network
            says of itself (`kresnet_config`), such as what the authors of its weights evaluated it with; else that
            function's default.
        interpolation: "bilinear" or "bicubic", for one or ten crops of a source's images, as in `kresnet.data.load`.
            Default: likewise.
        verbose: whether to show a progress bar.

    Returns:
        An `Evaluation`.

    Raises:
        ValueError: if an argument makes no sense, the classes do not match, an image cannot be decoded, or the networks
            of an ensemble want their images cropped or resized differently, or held other images out, and the argument
            is not given.
    """
    checks.choice("crops", crops, CROPS)
    checks.require(not scales or crops == "full", "`scales` are for crops='full'", scales=scales, crops=crops)
    predictors = [predictor(one) for one in (model if isinstance(model, list | tuple) else [model])]
    size = _common_size(predictors, image_size)
    loading = {"split_seed": _split_seed(model, split_seed), "on_error": on_error, "data_dir": data_dir}
    is_source = isinstance(data, str | os.PathLike)
    checks.require(
        crop_fraction is None or (is_source and crops == "center"),
        "`crop_fraction` is for the central crop of a source's images",
        crop_fraction=crop_fraction,
        crops=crops,
        data=data,
    )
    checks.require(
        interpolation is None or (is_source and crops != "full"),
        "`interpolation` is for crops of a source's images",
        interpolation=interpolation,
        crops=crops,
        data=data,
    )
    if not is_source:
        _check_batched(data)
    batches, grey = data, all(one.image_shape[2] == 1 for one in predictors)
    if crops == "full":
        scales = tuple(scales) or (size,)
        checks.require(
            all(s % MULTIPLE == 0 for s in scales) or scales == (size,),
            f"`scales` must be multiples of {MULTIPLE}",
            scales=scales,
        )
        predictors = [_for_any_size(one) for one in predictors]
        views = _at_scales(scales)
        if is_source:
            batches = _WholeImages(data, split, grey, **loading)
    else:
        views = _ten_crops(size) if crops == "ten" else lambda images: [images]
        if is_source:
            loaded_size, fraction = (round(size / 0.875), 1.0) if crops == "ten" else (size, crop_fraction)
            loading |= preprocessing.wanted(predictors, size, fraction, interpolation)
            batches = load(data, split, loaded_size, batch_size, shuffle=False, grey=grey, **loading)

    labels, probabilities, seen = [], [], 0
    total = getattr(batches, "examples", None)
    in_range = [RangeCheck(one.input_range, "data") for one in predictors]
    for x, y in _naming_broken_images(tracked(batches, "evaluating", total, verbose)):
        x = np.asarray(x)
        _check_finite(x, seen, "Images must be finite numbers")
        for check in in_range:
            check(x)
        outputs = [one.run(view) for view in views(x) for one in predictors]
        for output in outputs:
            _check_finite(output, seen, "The network gives numbers that are not finite")
        seen += len(x)
        checks.require(
            len({p.shape for p in outputs}) == 1,
            "The networks of an ensemble must have the same classes",
            classes=[p.shape[1] for p in outputs],
        )
        probabilities.append(np.mean(outputs, axis=0, dtype="float32"))
        labels.append(class_indices(y, two=outputs[0].shape[1] == 2))
    checks.require(len(labels) > 0, "There are no images", data=data)
    result = Evaluation(np.concatenate(labels), np.concatenate(probabilities), crops=crops, scales=tuple(scales))
    names = _class_names(result, getattr(batches, "class_names", None), predictors[0].class_names)
    files = getattr(batches, "file_paths", None) if is_source else None
    if files is not None and batches.skipped:
        skipped = set(batches.skipped)
        files = tuple(file for file in files if file not in skipped)
    return dataclasses.replace(result, class_names=names, file_paths=files)


def _split_seed(model: Any, given: int | None) -> int:
    """Returns the seed of the split: what a run was trained on would be measured too well."""
    if given is not None:
        return given
    models = model if isinstance(model, list | tuple) else [model]
    seeds = {seed for one in models if (seed := held_out_by(one)) is not None}
    checks.require(len(seeds) < 2, "These runs held out different images: give `split_seed`", split_seeds=sorted(seeds))
    return seeds.pop() if seeds else 0


def _check_batched(data: Any) -> None:
    """Refuses what is no dataset of batches of (images, labels), with what makes one of it."""
    cure = "tf.data.Dataset.from_tensor_slices((images, labels)).batch(32)"
    ok = hasattr(data, "__iter__") and not isinstance(data, tuple | np.ndarray | keras.Model)
    kind = type(data).__name__
    checks.require(ok, f"`data` must be a source's name or a dataset of batches, such as {cure}", data=kind)
    spec = getattr(data, "element_spec", None)
    if spec is None:
        return
    checks.require(
        isinstance(spec, tuple) and len(spec) > 1, "`data` must hold batches of (images, labels)", element_spec=spec
    )
    rank = getattr(getattr(spec[0], "shape", None), "rank", None)
    checks.require(
        rank in (None, 4),
        "`data` must hold batches of images, (batch, height, width, channels); see `Dataset.batch`",
        images=spec[0].shape,
    )


def _check_finite(numbers: np.ndarray, first: int, text: str) -> None:
    """Refuses numbers that are not finite, by the index of their image; `first` is that of the batch's first."""
    finite = np.isfinite(numbers).reshape(len(numbers), -1).all(axis=1) if numbers.dtype.kind == "f" else True
    checks.require(np.all(finite), text, image=first + int(np.argmin(finite)))


def _common_size(predictors: Sequence[Predictor], image_size: int | None) -> int:
    """Returns the height and width of the images that all networks take, in pixels."""
    checks.require(len(predictors) > 0, "An ensemble needs at least one network", model=predictors)
    size = image_size or predictors[0].image_shape[0]
    checks.require(size is not None, "The network's input size is open: give `image_size`", image_size=image_size)
    for one in predictors:
        fits = all(side in (None, size) for side in one.image_shape[:2])
        checks.require(fits, f"{one.name} takes images of another size", image_size=size, image_shape=one.image_shape)
    return size


def _class_names(
    result: Evaluation, of_data: Sequence[str] | None, of_network: Sequence[str] | None
) -> tuple[str, ...] | None:
    """Returns the names of the classes, None if neither side knows them, after checking that both sides agree."""
    classes = result.probabilities.shape[1]
    names = of_data or of_network
    checks.require(
        names is None or len(names) == classes,
        "The network must have as many classes as the images",
        network=classes,
        images=len(names or ()),
    )
    checks.require(
        not (of_data and of_network) or tuple(of_data) == tuple(of_network),
        "The network was trained on other classes, or on the same ones in another order",
        network=of_network,
        images=of_data,
    )
    lowest, highest = int(result.labels.min()), int(result.labels.max())
    in_range = lowest >= 0 and highest < classes
    checks.require(in_range, f"Labels must be in 0 to {classes - 1}", label=highest if lowest >= 0 else lowest)
    return tuple(names) if names else None


def _naming_broken_images(batches: Iterator) -> Iterator:
    """Yields the batches unchanged; an image that cannot be decoded becomes a `ValueError` of one line."""
    try:
        yield from batches
        return
    except Exception as error:
        broken = broken_image(error)
        if broken is None:
            raise
    del batches
    ended()
    raise ValueError(broken)  # outside of `except`: see `ended`


def _ten_crops(size: int) -> Callable[[np.ndarray], list[np.ndarray]]:
    """Returns a function from a batch of images to ten batches of crops."""

    def views(x: np.ndarray) -> list[np.ndarray]:
        height, width = x.shape[1:3]
        checks.require(min(height, width) >= size, f"Ten crops need images of at least {size} pixels", images=x.shape)
        bottom, right = height - size, width - size
        corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
        crops = [x[:, top : top + size, left : left + size] for top, left in corners]
        return [*crops, *(crop[:, :, ::-1] for crop in crops)]

    return views


def _at_scales(scales: Sequence[int]) -> Callable[[np.ndarray], list[np.ndarray]]:
    """Returns a function from a batch of images to one resized batch for each scale."""

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


def _for_any_size(one: Predictor) -> Predictor:
    """Returns the same network, rebuilt for images of any size."""
    if one.image_shape[0] is None:
        return one
    checks.require(
        one.model is not None,
        f"crops='full' needs a Keras model; {one.name} is not one, and has a fixed input size",
        image_shape=one.image_shape,
    )
    image = keras.Input((None, None, one.image_shape[2]), dtype=one.model.inputs[0].dtype)
    clone = keras.models.clone_model(one.model, input_tensors=image)
    copy_weights(one.model, clone)
    return dataclasses.replace(predictor(clone), name=one.name, class_names=one.class_names)


class _WholeImages:
    """Batches of one uncropped image each, since the images differ in size."""

    def __init__(
        self, source: str | os.PathLike, split: str, grey: bool, split_seed: int, on_error: str, data_dir: Any
    ) -> None:
        self.grey = grey
        self.source = sources.find(source, split, seed=split_seed, data_dir=data_dir)
        self.class_names, self.examples, self.on_error = self.source.class_names, self.source.count, on_error
        self.file_paths, self.skipped = self.source.file_paths, []

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for index, (decode, label) in enumerate(sources.decoders(self.source)):
            try:
                image = decode()
            except images.ImageError:
                if self.on_error == "raise":
                    raise
                self.skipped.append(self.file_paths[index] if self.file_paths else str(index))
                continue
            yield (resizing.grey(image) if self.grey else image)[None], np.array([label])
