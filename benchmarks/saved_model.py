"""Processor seconds of a SavedModel export, which runs what it has written, against Keras's `model.export`.

    python benchmarks/saved_model.py [NETWORK] [--rounds 3]

The two alternate in one process. Ours folds batch norms, writes, and runs 16 images through file and network.
"""

import argparse
import pathlib
import tempfile
import time

from timing import alternate, describe

import kresnet


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", nargs="?", default="ResNet50")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    model = getattr(kresnet, options.network)()
    print(f"{options.network}, {describe()}")
    with tempfile.TemporaryDirectory() as folder:
        theirs, ours = pathlib.Path(folder, "theirs"), pathlib.Path(folder, "ours")
        candidates = {
            "model.export": lambda: model.export(theirs, verbose=False),
            "kresnet.export": lambda: kresnet.export(model, ours),
        }
        times = alternate(candidates, options.rounds, clock=time.process_time)
    print(f"ours / Keras's: {times['kresnet.export'] / times['model.export']:.2f}")


if __name__ == "__main__":
    main()
