"""What kresnet survives: kills and full disks in saving, hostile files and folders, odd images, wrong calls, attacks.

    python benchmarks/survival.py [--quick] [--only saves disks files folders images builders demo] [--seed 0]

Prints what was tried and what was survived of each class, names what was not, and ends with 1 if anything was not. What
counts as survived is said at the top of each class's module in `surviving/`. Kills of a training that has to go on to
the bit have a benchmark of their own, `kill_and_resume.py`. Full disks are a small tmpfs where this is root, and
elsewhere a limit on files' sizes. `--quick` tries a few of each class, in less than a minute. Needs `kresnet[test]`.
"""

import argparse
import importlib
import os
import pathlib
import random
import sys
import tempfile

CLASSES = {
    "saves": "kills while saving",
    "disks": "full disks while saving",
    "files": "hostile files",
    "folders": "hostile folders",
    "images": "kinds of image",
    "builders": "invalid builder calls",
    "demo": "attacks on the demo",
}
# Of what the tests make, the classes take their pictures, their PyTorch files and their odd arguments.
TESTS = pathlib.Path(__file__).parents[1] / "tests"


def tried(name, seed, quick):
    """Yields of each try in a class what was wrong, or None, and shows how far it is on a terminal."""
    module = importlib.import_module(f"surviving.{name}")
    with tempfile.TemporaryDirectory(prefix="survival-") as folder:
        for number, wrong in enumerate(module.tries(pathlib.Path(folder), random.Random(seed), quick), 1):
            if sys.stderr.isatty():
                print(f"\r{CLASSES[name]}: {number} ", end="", file=sys.stderr, flush=True)
            yield wrong
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few of each class")
    parser.add_argument("--only", nargs="+", choices=CLASSES, default=list(CLASSES), metavar="CLASS")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    sys.path += [str(TESTS), *(str(TESTS / room) for room in ("models", "weights"))]
    print(f"{'class':<25} | tried | survived", flush=True)
    lost = []
    for name in options.only:
        found = list(tried(name, options.seed, options.quick))
        wrong = [one for one in found if one is not None]
        lost += [f"{CLASSES[name]}: {one}" for one in wrong]
        print(f"{CLASSES[name]:<25} | {len(found):5} | {len(found) - len(wrong):8}", flush=True)
    print("\n".join(lost))
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
