"""Seconds to build a network, against that of keras.applications, on every installed backend.

    python benchmarks/build_time.py [NETWORK ...]

Each build runs in a fresh process, as it would for a user, and imports are not counted. The two alternate.
"""

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys

from rich.progress import track

ROUNDS = 3
BUILDS = {"kresnet": "import kresnet as z", "keras.applications": "import keras.applications as z"}
CODE = """
import time, keras
{imports}
keras.ops.zeros(1)  # starts the backend
start = time.perf_counter()
z.{network}(weights=None)
print(time.perf_counter() - start)
"""


def seconds(backend: str, imports: str, network: str) -> float:
    environment = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    code = [sys.executable, "-c", CODE.format(imports=imports, network=network)]
    return float(subprocess.run(code, env=environment, capture_output=True, text=True, check=True).stdout.split()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=["ResNet50"], help="names in kresnet and keras.applications")
    for network in parser.parse_args().networks:
        print(network)
        compare(network)


def compare(network: str) -> None:
    for backend in ("tensorflow", "jax", "torch"):
        if importlib.util.find_spec(backend) is None:
            print(f"{backend:12} not installed")
            continue
        times: dict[str, list[float]] = {name: [] for name in BUILDS}
        for _ in track(range(ROUNDS), backend, transient=True):
            for name, imports in BUILDS.items():
                times[name].append(seconds(backend, imports, network))
        medians = {name: statistics.median(values) for name, values in times.items()}
        listed = ", ".join(f"{name} {value:.1f} s" for name, value in medians.items())
        print(f"{backend:12} {listed}: {medians['keras.applications'] / medians['kresnet']:.1f} times faster")


if __name__ == "__main__":
    main()
