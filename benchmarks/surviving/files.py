"""Hostile files. Survived: a ValueError of one line that names the file, within 10 s and 500 MB, and no code was run.

A file whose odd part nothing reads, such as an entry of an archive that leads out of it, may also be read as if it were
not there. Of bytes that were changed at random there may be no error, but no crash.
"""

import numpy as np

from surviving import forged, forged_exports, forged_keras, forged_weights
from surviving.child import attempt

MEMORY, SECONDS = 500e6, 10
QUICK = 10
KINDS = (
    *(forged_keras.keras, forged_keras.hdf5, forged_weights.safetensors, forged_exports.run),  # the quickest
    *(forged_keras.bombs, forged_weights.pth, forged_exports.tflite, forged_exports.saved_model, forged_exports.onnx),
)


def tries(folder, rng, quick):
    ran = folder / "ran"
    cases = list(forged.files(KINDS[:4] if quick else KINDS, folder, ran, rng))
    if quick:
        cases = rng.sample(cases, QUICK)
    for case in cases:
        ran.unlink(missing_ok=True)
        outcome = attempt(_read, case.path, case.weights, seconds=SECONDS)
        wrong = _wrong(case, outcome) or ("its code was run" if ran.exists() else None)
        yield wrong and f"{case.path.relative_to(folder)}: {wrong}"


def _wrong(case, outcome):
    if outcome.ended:
        return outcome.ended
    if outcome.growth > MEMORY:
        return f"it took {outcome.growth / 1e6:.0f} MB ({outcome.error})"
    if outcome.seconds > SECONDS:
        return f"it took {outcome.seconds:.0f} s"
    if outcome.error is None:
        return None if case.may_pass else "it was read"
    kind, said = outcome.error
    if kind != "ValueError":
        return f"{kind}: {said}"
    if "\n" in said or case.path.name not in said:
        return f"not one line that names the file: {said!r}"
    return None


def _read(path, weights):
    """Reads a file as kresnet's functions do: weights into a network, or a network, which runs."""
    import kresnet
    from kresnet.inference.predictors import predictor

    if weights:
        kresnet.ResNet(**forged.SMALL, weights=path)
        return
    network = predictor(path)
    shape = [size or 8 for size in network.image_shape]
    if np.prod(shape, dtype=float) < 1e7:
        network.run(np.zeros((1, *shape), "uint8"))
