"""Local response normalization in a .tflite: LiteRT's own operator against kresnet's layer, on one thread.

    python benchmarks/response.py

A convolution to AlexNet's first map, 55x55 pixels of 96 channels, the normalization, and a pooling.
"""

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from timing import alternate

from kresnet.data.samples import natural_images
from kresnet.deploy import convert
from kresnet.deploy.quantize import quantize_aware
from kresnet.inference.tflite_file import TFLiteFile
from kresnet.layers import LocalResponseNormalization


class Native(LocalResponseNormalization):
    def call(self, inputs):
        return tf.nn.local_response_normalization(inputs, self.size // 2, self.bias, self.alpha, self.beta)


def main():
    images = natural_images(8, (57, 57, 3)).astype("float32")
    runs = {}
    for form in ("float32", "int8"):
        for name, norms in {"none": (), "native": (Native(),), "kresnet": (LocalResponseNormalization(),)}.items():
            keras.utils.set_random_seed(0)
            x = image = keras.Input((57, 57, 3), name="image")
            for layer in (keras.layers.Conv2D(96, 3, activation="relu"), *norms, keras.layers.MaxPooling2D(3, 2)):
                x = layer(x)
            model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))
            converted, options = model, {"quantize": "int8"} if form == "int8" else {}
            if form == "int8" and name == "kresnet":
                converted = quantize_aware(model, images)
            elif form == "int8":
                options["calibration"] = images
            content = convert.to_tflite(converted, **options)
            interpreter = Interpreter(model_content=content, num_threads=1)
            interpreter.allocate_tensors()
            classify = interpreter.get_signature_runner()
            got = np.concatenate([classify(image=image[None])["logits"] for image in images])
            error = np.abs(got - model(images)).max() / np.std(model(images))
            parts = len(TFLiteFile(content).partitions)
            runs[f"{form}, {name}: {parts} parts, error {error:.0e}"] = lambda run=classify: [
                run(image=images[:1]) for _ in range(10)
            ]
    print("Ten runs; errors in deviations of the outputs")
    alternate(runs, 30)


if __name__ == "__main__":
    main()
