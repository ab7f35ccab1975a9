"""Exports every registered network in full size as float32 and int8 .tflite, verifies each file and prints its facts.

    python benchmarks/export_all.py [PATTERN] [--input PIXELS]

The weights are random, so this says nothing about the accuracy of int8. Takes about an hour at 64 pixels on 2 cores.
"""

import argparse
import gc
import json
import sys
import tempfile
import time
import warnings
from pathlib import Path

import keras

import kresnet
from kresnet.data.samples import natural_images
from kresnet.graph.memory import at_once
from kresnet.inference.preprocessing import description_of


def settled(key: str, size: int) -> keras.Model:
    """Returns the network with the statistics of images in its norms, and with most activations in their linear part.

    With the initial statistics a deep network is chaotic: in a plain one of 110 layers, two roundings of the same input
    give different classes.
    """
    keras.utils.set_random_seed(0)
    model = kresnet.create_model(key, input_shape=(size, size, 3))
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for norm in norms:
        norm.momentum = 0.0  # so that one pass sets the statistics
        norm.gamma.assign(0.3 * norm.gamma)
        norm.beta.assign(norm.beta + 0.4)
    model(natural_images(min(64, 4 * at_once(model, (size, size, 3))), (size, size, 3), seed=1), training=True)
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pattern", nargs="?", default="*", help="of the networks' keys (default: all)")
    parser.add_argument("--input", type=int, metavar="PIXELS", help="height and width (default: as published)")
    options = parser.parse_args()
    warnings.simplefilter("error", UserWarning)  # no network should give a slow file
    print(f"{'network':20} {'form':8} {'pixels':>6} {'MB':>7} {'difference':>10} {'partitions':>10} {'seconds':>8}")
    failed = []
    for key in kresnet.list_models(options.pattern):
        size = options.input or kresnet.get_builder(key).input_size
        model = settled(key, size)
        int8 = {"calibration": natural_images(16, (size, size, 3)), "agreement": 0}
        for quantize, settings in ((None, {}), ("int8", int8)):
            form, start = quantize or "float32", time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "x.tflite"
                try:
                    kresnet.export(model, path, quantize=quantize, latency=False, **settings)
                except (ValueError, UserWarning) as error:
                    failed.append(f"{key} {form}")
                    print(f"{key:20} {form:8} {size:6} {error}", flush=True)
                    continue
                proof = json.loads(description_of(path).read_text())["proof"]
            difference = proof["logits"]["largest_of_deviation"]
            print(
                f"{key:20} {form:8} {size:6} {proof['size_bytes'] / 1e6:7.1f} {difference:10.1e} "
                f"{proof['xnnpack_partitions']:10} {time.perf_counter() - start:8.1f}",
                flush=True,
            )
        del model
        keras.backend.clear_session()
        gc.collect()
    if failed:
        sys.exit(f"Not exported: {', '.join(failed)}")


if __name__ == "__main__":
    main()
