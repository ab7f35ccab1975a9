"""Runs .tflite files over stored images, on NumPy and LiteRT alone: the part that each machine runs.

    python predict.py KERNELS IMAGES.npy OUT.npz FILE.tflite...

KERNELS: "xnnpack", as apps have it; "builtin", LiteRT's own kernels for the machine; "reference", its portable ones.
OUT.npz holds an array (images, classes) of float32 by each file's name.
"""

import pathlib
import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

KERNELS = {
    "xnnpack": OpResolverType.AUTO,
    "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    "reference": OpResolverType.BUILTIN_REF,
}


def predict(file: pathlib.Path, images: np.ndarray, kernels: str) -> np.ndarray:
    interpreter = Interpreter(str(file), num_threads=1, experimental_op_resolver_type=KERNELS[kernels])
    classify = interpreter.get_signature_runner()
    dtype = classify.get_input_details()["image"]["dtype"]
    return np.concatenate([classify(image=image[None].astype(dtype))["probs"] for image in images])


if __name__ == "__main__":
    kernels, images, out, *files = sys.argv[1:]
    images = np.load(images)
    np.savez(out, **{pathlib.Path(file).name: predict(pathlib.Path(file), images, kernels) for file in files})
