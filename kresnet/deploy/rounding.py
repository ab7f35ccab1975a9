"""What rounding alone does to a network's numbers: the difference that a sound file may have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from kresnet.deploy import convert, proof
from kresnet.graph.fold import NORMS, affine
from kresnet.graph.memory import in_parts
from kresnet.graph.rebuild import duplicate, rebuild

IMAGES, DRAWS = 16, 3


def measure(
    run: proof.Run, model: keras.Model, data: Any, deviation: float, *, logits: bool, half: bool
) -> dict[str, float] | None:
    """Measures what rounding alone does to a network, and what it leaves unexplained of a file's difference from it.

    A sum of float32 numbers depends on its order, by as much as its terms are rounded, and what comes of that depends
    on the network. So each of its weights is moved by one step of float32, up or down at random.

    Args:
        run: gives the file's outputs, or its logits.
        model: the network that the file was made from, in float32.
        data: images, as for `proof.prove`; 16 are used.
        deviation: standard deviation of the network's numbers, the unit of the result.
        logits: whether what the last softmax or sigmoid takes is compared.
        half: whether the file holds its weights in float16. What it should compute is then the network with weights
            rounded so.

    Returns:
        The largest differences that come from each cause: "weights", from storing them in float16, 0 if they are not;
        "sums", from the order of sums; and "file", between the file and what it should compute. None where all
        numbers are the same, and for a model without a graph, of which it is not known what a float16 file computes.
    """
    if not deviation or (half and not convert.is_rewritable(model)):
        return None
    images = proof.some_images(model, data, IMAGES)
    network = proof.compared(model, logits)
    ideal = proof.compared(halved(convert.prepared(model)), logits) if half else network
    expected = _outputs(ideal, images)
    rng = np.random.default_rng(0)

    def one_step(weights: np.ndarray) -> np.ndarray:
        return np.nextafter(weights, np.float32(np.inf) * rng.choice(np.float32([-1, 1]), weights.shape))

    moved = max(_largest(_outputs(ideal, images, one_step), expected) for _ in range(DRAWS))
    found = {
        "weights": _largest(_outputs(network, images), expected) if half else 0.0,
        "sums": moved,
        "file": _largest(run(images), expected),
    }
    return {cause: difference / deviation for cause, difference in found.items()}


def halved(model: keras.Model) -> keras.Model:
    """Returns a copy of a functional model with weights and constants rounded to float16, which computes in float32."""

    def copy(operation: Any) -> Any:
        if isinstance(operation, keras.layers.Rescaling):
            return keras.layers.Rescaling(_half(operation.scale).tolist(), _half(operation.offset).tolist())
        if isinstance(operation, keras.layers.Normalization) and not operation.invert:
            # As the converter computes it: less the mean, and times the inverse of the deviation.
            mean, variance = (keras.ops.convert_to_numpy(value) for value in (operation.mean, operation.variance))
            scale = _half(1 / np.maximum(np.sqrt(variance), keras.config.epsilon()))
            return lambda x, **_: (x - _half(mean)) * scale
        if type(operation) in NORMS:  # one that was not folded: the converter makes a product and a sum of it
            scale, shift = (_half(numbers) for numbers in affine(operation))
            return lambda x, **_: x * scale + shift
        return duplicate(operation)

    _, new = rebuild(model, copy)
    new.set_weights([_half(weights) for weights in new.get_weights()])
    return new


def _half(numbers: Any) -> np.ndarray:
    with np.errstate(over="ignore"):  # beyond 65504 they become infinite, there as in the file
        return np.asarray(numbers, "float32").astype("float16").astype("float32")


def _outputs(
    model: keras.Model, images: np.ndarray, change: Callable[[np.ndarray], np.ndarray] | None = None
) -> np.ndarray:
    """Runs a model, if `change` is given with its weights changed by it; the model keeps its own."""

    def changed(variables: list[Any]) -> list[Any]:
        values = [keras.ops.convert_to_numpy(variable) for variable in variables]
        return [change(value) if value.dtype == "float32" else value for value in values]

    if change is None:
        run = model
    else:
        weights = changed(model.trainable_variables), changed(model.non_trainable_variables)

        def run(part: np.ndarray, training: bool) -> Any:
            return model.stateless_call(*weights, part, training=training)[0]

    parts = in_parts(model)(images.astype(model.inputs[0].dtype))
    return np.concatenate([keras.ops.convert_to_numpy(run(part, training=False)) for part in parts])


def _largest(numbers: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(numbers - expected).max())
