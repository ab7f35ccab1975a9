"""Images a second in training on a GPU: kresnet beside what else one would take, each loop in a process of its own.

    python benchmarks/gpu.py [NETWORK[:BATCH] ...] [--size 224] [--steps 20] [--windows 5] [--rounds 2] [--loops ...]

The loops (`gpu_steps.py`): `kresnet` and `keras.applications` train by `model.fit` on JAX, `kresnet, as keras` is ours
with the arguments that make it keras.applications' network, `jax` is a step written by hand (ResNet-50 only), `timm` is
PyTorch's, compiled, channels last. All compute in bfloat16 and are given uint8 images
in the host's memory. They take turns, `--rounds` times; compiled programs are kept between rounds. The median is over
all windows of all rounds. A loop that is not installed, or has no such network, is left out and said so.

The floor is the time in which the device, at the rates of a copy and of a matrix product, could move the bytes of a
step, or compute it, whichever is longer.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

DEFAULT = ("ResNet50:256", "ResNet50:512", "EfficientNetB0:256", "ResNeXt50_32x4d:256", "WRN28_10:256")
LOOPS = ("kresnet", "kresnet, as keras", "keras.applications", "jax", "timm")
HAVE = {
    "kresnet, as keras": ("ResNet50", "EfficientNetB0"),
    "keras.applications": ("ResNet50", "EfficientNetB0"),
    "jax": ("ResNet50",),
    "timm": ("ResNet50", "ResNeXt50_32x4d", "EfficientNetB0"),
}


def run(loop, network="ResNet50", batch=1, options=None, cache=""):
    """Runs a loop in a process of its own; returns what it printed, or None, having said why it failed."""
    size = 32 if network.startswith("WRN") else options.size
    command = [sys.executable, str(pathlib.Path(__file__).with_name("gpu_steps.py")), loop, network]
    command += [f"--batch={batch}", f"--size={size}", f"--steps={options.steps}", f"--windows={options.windows}"]
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "TORCHINDUCTOR_CACHE_DIR": f"{cache}/torch",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        print(f"  {loop:20} failed: {(done.stderr.strip() or 'without a word').splitlines()[-1]}", flush=True)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def compare(network, batch, options, rates, cache):
    """Runs the loops of one network in turn and prints their medians."""
    loops = [loop for loop in options.loops if network in HAVE.get(loop, (network,))]
    seconds, last = {loop: [] for loop in loops}, {}
    for _ in range(options.rounds):
        for loop in list(seconds):
            result = run(loop, network, batch, options, cache)
            if result is None:
                del seconds[loop]
            else:
                seconds[loop] += result["seconds"]
                last[loop] = result
    images = options.steps * batch
    ours = statistics.median(seconds["kresnet"]) if "kresnet" in seconds else None
    print(f"{network}, batches of {batch}")
    for loop, times in seconds.items():
        median, peak = statistics.median(times), last[loop]["peak_bytes"]
        spread = f"({images / max(times):.0f} to {images / min(times):.0f})"
        ratio = f"kresnet / this: {median / ours:.3f}" if ours and loop != "kresnet" else ""
        memory = f"{peak / 2**30:5.1f} GiB" if peak else "         "
        print(f"  {loop:20} {images / median:8.1f} images/s {spread:20} {memory}  {ratio}".rstrip(), flush=True)
    if rates and "kresnet" in seconds:
        floor = last["kresnet"]
        moving, computing = floor["bytes"] / rates["bytes_per_second"], floor["flops"] / rates["flops_per_second"]
        share = max(moving, computing) * images / ours
        print(
            f"  floor: {floor['bytes'] / 2**20:.0f} MiB an image, {1 / moving:.0f} images/s; "
            f"{floor['flops'] / 1e9:.1f} GFLOP, {1 / computing:.0f} images/s; kresnet reaches {share:.0%} of it",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=DEFAULT, help=f"default: {' '.join(DEFAULT)}")
    parser.add_argument("--size", type=int, default=224, help="height and width in pixels; Wide ResNets have 32")
    parser.add_argument("--steps", type=int, default=20, help="of a window")
    parser.add_argument("--windows", type=int, default=5, help="counted of each process, after one that compiles")
    parser.add_argument("--rounds", type=int, default=2, help="processes of each loop")
    parser.add_argument("--loops", nargs="+", default=LOOPS, choices=LOOPS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        rates = run("ceilings", options=options, cache=cache)
        if rates:
            copy, product = rates["bytes_per_second"] / 1e12, rates["flops_per_second"] / 1e12
            print(f"a copy moves {copy:.2f} TB/s, a matrix product takes {product:.1f} TFLOP/s in bfloat16", flush=True)
        for network in options.networks:
            name, _, batch = network.partition(":")
            compare(name, int(batch or 256), options, rates, cache)


if __name__ == "__main__":
    main()
