"""Exports networks, runs the files on this x86 machine and on emulated ARM64 ones, and compares the predictions.

    bash benchmarks/arm64/run.sh

which sets up what it needs first. Ends with 1 where a file's predictions differ by more than the bound: 1e-4 of
probability for float32; for int8, one step of the logits, the last integers. It tells about correctness, not about
speed. With `--kernels builtin`, LiteRT's own instead of XNNPACK's, which apps get, int8 files do fail: there some
integers of a thousand behind a convolution are a step apart on ARM64 and on x86, which random networks magnify.
"""

import argparse
import math
import os
import pathlib
import platform
import subprocess
import sys

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
from ai_edge_litert.tools import flatbuffer_utils
from rich.console import Console
from rich.progress import track
from rich.table import Table

import kresnet

HERE = pathlib.Path(__file__).parent
NETWORKS = ("resnet18", "resnext50_32x4d", "mobilenetv2_100", "efficientnet_b0", "efficientnet_lite0")
FORMS = {"float32": None, "int8": "int8"}  # as the exporter calls them
SIZE, CLASSES, IMAGES, CALIBRATION = 64, 10, 16, 64
FLOAT_BOUND = 1e-4

# What Linux says of the processors, which LiteRT reads to choose its kernels. The first has neither dot products nor
# half-precision arithmetic, as cheap phones; the second has both.
PART = {"cortex-a53": "0xd03", "cortex-a76": "0xd0b"}
FEATURES = {
    "cortex-a53": "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid",
    "cortex-a76": "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
}
CPU_LISTS = ("kernel_max", "possible", "present", "online")


def photographs(rng: np.random.Generator, count: int) -> np.ndarray:
    """Blobs of colour at four scales, (count, SIZE, SIZE, 3) of uint8: noise alone looks the same to a network."""
    total = np.zeros((count, SIZE, SIZE, 3))
    for cells in (2, 4, 16, SIZE):
        noise = rng.normal(size=(count, cells, cells, 3)) * 90 / np.sqrt(cells)
        total += np.array(keras.ops.image.resize(noise, (SIZE, SIZE), interpolation="bicubic"))
    return np.clip(128 + total, 0, 255).astype("uint8")


def random_network(key: str, images: np.ndarray) -> keras.Model:
    """A network of random weights that answers each image differently, since equal answers would compare nothing.

    The batch norms get random scales and offsets and the statistics of the images; the classifier is scaled until its
    logits deviate by 2, and centred.
    """
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    model = kresnet.create_model(key, input_shape=(SIZE, SIZE, 3), classes=CLASSES)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.gamma.assign(rng.uniform(0.5, 1.5, layer.gamma.shape))
            layer.beta.assign(rng.normal(0, 0.3, layer.beta.shape))
            layer.momentum = 0.0  # one pass sets the statistics
    model(images, training=True)
    classifier = model.layers[-1]
    classifier.bias.assign(np.zeros(CLASSES))
    classifier.activation = keras.activations.linear
    logits = np.array(model(images, training=False))
    centred = logits - logits.mean(0)
    classifier.kernel.assign(keras.ops.convert_to_numpy(classifier.kernel) * 2 / centred.std())
    classifier.bias.assign(-logits.mean(0) * 2 / centred.std())
    classifier.activation = keras.activations.softmax
    return model


def logit_step(file: pathlib.Path) -> float:
    """Returns the step between the integers that an int8 file's logits are."""
    model = flatbuffer_utils.read_model(file)
    graph = model.subgraphs[0]
    names = [flatbuffer_utils.opcode_to_name(model, operator.opcodeIndex) for operator in graph.operators]
    if names[-2:] != ["DEQUANTIZE", "SOFTMAX"]:
        sys.exit(f"{file} should end with DEQUANTIZE and SOFTMAX. Received: end={names[-2:]}")
    return float(graph.tensors[graph.operators[-2].inputs[0]].quantization.scale[0])


def logit_difference(there: np.ndarray, here: np.ndarray) -> np.ndarray:
    """Returns how far each image's logits lie apart, from its probabilities, which leave their common offset open.

    Whole steps, but for float32's rounding.
    """
    difference = np.log(there) - np.log(here)
    return np.abs(difference - np.median(difference, axis=1, keepdims=True)).max(1)


def emulated(build: pathlib.Path, cpu: str) -> tuple[list[str], dict[str, str]]:
    """Makes the emulated machine one of this processor; returns the command and environment that run Python on it."""
    root = build / "arm64"
    entry = f"processor\t: 0\nFeatures\t: {FEATURES[cpu]}\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
    entry += f"CPU variant\t: 0x0\nCPU part\t: {PART[cpu]}\nCPU revision\t: 0\n\n"
    machine = {"proc/cpuinfo": entry} | {f"sys/devices/system/cpu/{name}": "0\n" for name in CPU_LISTS}
    for name, content in machine.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    (python,) = root.glob("usr/bin/python3.[0-9]*[0-9]")
    command = [str(build / "qemu-aarch64"), "-cpu", cpu, "-L", str(root), str(python), "-S"]
    return command, {"PYTHONPATH": str(build / "site")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("build", type=pathlib.Path, help="the folder that run.sh has set up")
    parser.add_argument("--networks", nargs="+", default=NETWORKS, choices=kresnet.list_models(), metavar="KEY")
    parser.add_argument("--cpu", nargs="+", default=list(PART), choices=PART, help="processors to emulate")
    parser.add_argument("--reuse", action="store_true", help="compare the files that are there already")
    parser.add_argument("--kernels", default="xnnpack", choices=("xnnpack", "builtin", "reference"))
    args = parser.parse_args()
    if platform.machine() != "x86_64":
        sys.exit(
            f"It compares ARM64 with x86-64, so it must run on the latter. Received: machine={platform.machine()!r}"
        )

    build = args.build.resolve()
    images, calibration = np.split(photographs(np.random.default_rng(0), IMAGES + CALIBRATION), [IMAGES])
    np.save(build / "images.npy", images)
    files = [build / f"{key}_{form}.tflite" for key in args.networks for form in FORMS]
    for key in track(() if args.reuse else args.networks, "Exporting", transient=True):
        model = random_network(key, calibration)
        for form, quantize in FORMS.items():
            # Random networks magnify what differs between layers, so the exporter's own bounds are not for them.
            bounds = {"tolerance": math.inf, "agreement": 0.0, "latency": False}
            kresnet.export(model, build / f"{key}_{form}.tflite", quantize=quantize, calibration=calibration, **bounds)
        keras.backend.clear_session()

    results = {}
    for machine in track(("x86", *args.cpu), "Running", transient=True):
        command, environment = ([sys.executable], {}) if machine == "x86" else emulated(build, machine)
        program = [HERE / "predict.py", args.kernels, build / "images.npy", build / f"{machine}.npz", *files]
        subprocess.run([*command, *map(str, program)], env=os.environ | environment, check=True)
        results[machine] = dict(np.load(build / f"{machine}.npz"))
    expected = results.pop("x86")

    kernels = f"{args.kernels} kernels on both sides"
    table = Table(title=f"ARM64 against x86: {IMAGES} images of {SIZE} pixels, {CLASSES} classes, {kernels}")
    for column in ("network", "form", "processor", "probabilities", "steps of logits", "top-1", "within the bound"):
        table.add_column(column, justify="left" if column in ("network", "form", "processor") else "right")
    failed = False
    for file in files:
        network, form = file.stem.rsplit("_", 1)
        here = expected[file.name]
        if not (np.isfinite(here).all() and here.argmax(1).std() > 0):
            sys.exit(f"{file} gives all images one class on x86, so that it can show nothing.")
        for cpu, result in results.items():
            there = result[file.name]
            difference = np.abs(there - here).max()
            steps = logit_difference(there, here).max() / logit_step(file) if form == "int8" else 0.0
            within = steps < 1.5 if form == "int8" else difference <= FLOAT_BOUND
            failed |= not within
            same = np.mean(there.argmax(1) == here.argmax(1))
            shown = f"{steps:.0f}" if form == "int8" else ""
            table.add_row(network, form, cpu, f"{difference:.1e}", shown, f"{same:.0%}", "yes" if within else "NO")
    Console(width=120).print(table)
    sys.exit("Predictions differ by more than the bound." if failed else 0)


if __name__ == "__main__":
    main()
