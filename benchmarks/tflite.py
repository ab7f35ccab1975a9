"""Size and latency of .tflite files: the four forms of five networks, and keras.applications' own exports.

    python benchmarks/tflite.py [NETWORK ...] [--size 224] [--rounds 60] [--threads 1]

One image, XNNPACK; all files of a network take turns in one process. An app runs the same file over and over, so each
is timed on its second run in a row, when the processor's caches hold its weights and not another file's. The weights
are random, so this says nothing about accuracy. Takes a quarter of an hour, mostly for conversion.
"""

import argparse
import functools
import random
import statistics
import time

import keras
import numpy as np
from rich.progress import track

import kresnet
from kresnet.data.samples import natural_images
from kresnet.deploy import convert
from kresnet.inference.tflite_file import TFLiteFile

# The fields with which our network does the same arithmetic as that of keras.applications with its name.
NETWORKS = {
    "ResNet50": {"stride_in": "1x1"},
    "ResNeXt50_32x4d": None,
    "SEResNet50": None,
    "MobileNetV2": {"padding": "same"},
    "EfficientNetB0": {"padding": "same"},
}
FORMS = (None, "float16", "dynamic", "int8")


def ours(model: keras.Model, quantize: str | None = None, io: str = "uint8") -> bytes:
    calibration = natural_images(8, model.input_shape[1:]) if quantize == "int8" else None
    return convert.to_tflite(
        convert.prepared(model, quantize == "int8"), quantize=quantize, io=io, calibration=calibration
    )


def theirs(name: str, size: int, preprocessing: bool) -> bytes:
    """Returns keras.applications' network, converted as it is.

    Its EfficientNets normalize their input, but without trained weights by the identity, which the converter removes.
    With `preprocessing` they normalize as they do with ImageNet's weights.
    """
    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3))
    if preprocessing:
        (norm,) = [layer for layer in model.layers if isinstance(layer, keras.layers.Normalization)]
        norm.set_weights([np.array([0.485, 0.456, 0.406]), np.square([0.229, 0.224, 0.225]), np.array(0)])
        norm.finalize_state()
        image = keras.Input((size, size, 3))
        x = keras.layers.Rescaling([1 / 0.229**0.5, 1 / 0.224**0.5, 1 / 0.225**0.5])(norm(model.layers[1](image)))
        rest = keras.Model(model.get_layer("stem_conv_pad").input, model.output)
        model = keras.Model(image, rest(x))
    return convert.to_tflite(model)


def files(name: str, size: int) -> dict[str, bytes]:
    build = functools.partial(getattr(kresnet, name), input_shape=(size, size, 3))
    model = build()
    found = {quantize or "float32": ours(model, quantize) for quantize in FORMS}
    same = NETWORKS[name]
    if same:
        bare = build(include_preprocessing=False, **same)
        found["float32, bare, as keras.applications'"] = ours(bare, io="float32")
        found["keras.applications' float32"] = theirs(name, size, preprocessing=False)
    if name == "EfficientNetB0":
        found["float32, preprocessing inside"] = ours(build(**same), io="float32")
        found["keras.applications' float32, preprocessing inside"] = theirs(name, size, preprocessing=True)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), help=f"default: {' '.join(NETWORKS)}")
    parser.add_argument("--size", type=int, default=224, help="pixels to a side")
    parser.add_argument("--rounds", type=int, default=60, help="runs of each file")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    image = natural_images(1, (options.size, options.size, 3))
    for name in options.networks:
        contents = files(name, options.size)
        models = {label: TFLiteFile(content, options.threads) for label, content in contents.items()}
        times = {label: [] for label in models}
        for turn in track(range(options.rounds + 3), "Measuring", transient=True):
            for label in random.sample(list(models), len(models)):  # so that none always follows the same one
                models[label](image)
                start = time.perf_counter()
                models[label](image)
                if turn > 2:
                    times[label].append(time.perf_counter() - start)
        medians, best = ({n: pick(t) for n, t in times.items()} for pick in (statistics.median, min))
        print(f"\n{name}, {options.size} pixels, {options.threads} thread(s), {options.rounds} rounds")
        print(f"{'form':52} {'MB':>6} {'parts':>5} {'ms':>7} {'of float32':>10} {'fastest':>8} {'of float32':>10}")
        for label, content in contents.items():
            print(
                f"{label:52} {len(content) / 1e6:6.1f} {len(models[label].partitions):5} {medians[label] * 1e3:7.2f} "
                f"{medians[label] / medians['float32']:10.2f} {best[label] * 1e3:8.2f} "
                f"{best[label] / best['float32']:10.2f}",
                flush=True,
            )
        for label in models:
            if label.startswith("keras.applications'"):
                same = label.replace("keras.applications' float32", "float32")
                same = "float32, bare, as keras.applications'" if same == "float32" else same
                ratio, least = medians[same] / medians[label], best[same] / best[label]
                print(f"  {same} / {label}: {ratio:.3f} (fastest: {least:.3f})")
        keras.backend.clear_session()


if __name__ == "__main__":
    main()
