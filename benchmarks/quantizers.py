"""Two quantizers to int8, on small networks trained on handwritten digits: tf.lite's and ai-edge-quantizer's.

    pip install ai-edge-quantizer
    python benchmarks/quantizers.py [--epochs 12]

Both get the same float32 network and the same 256 calibration images. ai-edge-quantizer's own calibration clips, since
it uses moving averages of the smallest and largest values; here it gets the true ones, found image by image. It also
quantizes everything except the classifier, or except the first convolution, to show what leaving them out gains.
"""

import argparse
import re

import keras
import numpy as np
from ai_edge_quantizer import quantizer, recipe, recipe_manager
from rich.progress import track
from sklearn.datasets import load_digits

import kresnet
from kresnet.data.samples import draw, full_range
from kresnet.deploy import convert, lint
from kresnet.deploy.lowering import lower
from kresnet.deploy.proof import compare, with_logits
from kresnet.graph.fold import fold_batch_norm
from kresnet.inference.tflite_file import TFLiteFile

Operator = recipe.TFLOperationName
SPARED = ("CONV_2D", "FULLY_CONNECTED")
TABLE = ((1, 16, 1, 1, 3, 0.25), (4, 24, 2, 2, 3, 0.25), (4, 40, 2, 2, 3, 0.25))
SMALL = {"table": TABLE, "stem_width": 16, "head_width": 128, "classes": 10, "input_shape": (32, 32, 1)}
NETWORKS = {
    "ResNet": (kresnet.ResNet, {"depths": (2, 2), "widths": (16, 32), "stem": "conv3", "classes": 10}),
    "MobileNetV2": (kresnet.MobileNetV2, {**SMALL, "table": tuple(row[:4] for row in TABLE)}),
    "EfficientNet": (kresnet.EfficientNet, SMALL),
}


def ai_edge(content: bytes, calibration: np.ndarray, spared: tuple[str, str] | None = None) -> bytes:
    """Quantizes a float32 .tflite to int8 with the true minima and maxima, except a spared (operator, tensor name)."""
    forms = recipe_manager.RecipeManager()
    forms.add_static_config(regex=".*", operation_name=Operator.ALL_SUPPORTED, activation_num_bits=8, weight_num_bits=8)
    if spared:
        operator, tensor = Operator(spared[0]), f".*{re.escape(spared[1])}.*"
        none = recipe.AlgorithmName.NO_QUANTIZE
        forms.add_quantization_config(regex=tensor, operation_name=operator, algorithm_key=none)
    tool = quantizer.Quantizer(bytearray(content), forms.get_quantization_recipe())
    ranges: dict = {}
    for image in track(calibration, "Calibrating", transient=True):
        for name, values in tool.calibrate({"serving_default": [{"image": image[None].astype("float32")}]}).items():
            merged = ranges.setdefault(name, dict(values))
            for key, pick in (("min", np.minimum), ("max", np.maximum)):
                merged[key] = pick(merged[key], values[key])
    return bytes(tool.quantize(ranges).quantized_model)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=12)
    options = parser.parse_args()
    digits = load_digits()
    images = np.kron(digits.images[..., None] * 255 / 16, np.ones((1, 4, 4, 1))).astype("uint8")
    split = 1300
    print("Differences of logits in standard deviations")
    print(f"{'network':13} {'quantizer':20} {'MB':>6} {'mean':>8} {'largest':>8} {'same class':>10} {'accuracy':>8}")
    for name, (build, fields) in NETWORKS.items():
        keras.utils.set_random_seed(0)
        model = build(**{"input_shape": (32, 32, 1), **fields})
        model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy")
        model.fit(images[:split], digits.target[:split], 64, options.epochs, verbose=0)
        calibration = draw(images[:split], 256, (32, 32, 1), "calibration")
        lowered = lower(fold_batch_norm(model), True)
        floating = convert.to_tflite(lowered)
        pixels = full_range(calibration)
        graph = lint.operators(TFLiteFile(floating))
        (first, *_), (classifier,) = ([op.layer for op in graph if op.name == kind] for kind in SPARED)
        contents = {
            "tf.lite": convert.to_tflite(lowered, quantize="int8", io="float32", calibration=calibration),
            "ai-edge-quantizer": ai_edge(floating, pixels),
            "- except classifier": ai_edge(floating, pixels, (SPARED[1], classifier)),
            "- except first layer": ai_edge(floating, pixels, (SPARED[0], first)),
        }
        for label, content in contents.items():
            test = images[split:], digits.target[split:]
            file = TFLiteFile(content)
            found = compare(file, model, test, logits=with_logits(file))
            logits, same, right = found["logits"], found["top1_agreement"], found["accuracy"]["file"]
            print(
                f"{name:13} {label:20} {len(content) / 1e6:6.3f} "
                f"{logits['mean_difference'] / logits['deviation']:8.4f} {logits['largest_of_deviation']:8.3f} "
                f"{same['value']:10.2%} {right['value']:8.2%}",
                flush=True,
            )
        print(f"{name:13} {'Keras':20} {'':6} {'':8} {'':8} {'':10} {found['accuracy']['keras']['value']:8.2%}")


if __name__ == "__main__":
    main()
