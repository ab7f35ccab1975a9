"""Compares our architectures that have timm's names with timm's, holding the same weights.

    python tools/check_architectures.py PYTHON [name ...]

PYTHON is one of an environment of its own that has PyTorch 2.13.0 and timm 1.0.31; no test needs it. Of residual
networks only few blocks are compared, since the others are like the last, but the whole network's parameters. Without
names it goes through all residual and mobile ones, in a quarter of an hour. Run it when timm or an engine has changed.
`--store FILE` keeps what timm's networks computed: tests/parity/README.md.
"""

import argparse
import gzip
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

FOLDER = pathlib.Path(__file__).parent.parent / "tests" / "parity"
sys.path.insert(0, str(FOLDER))
from reference_weights import image, tensor  # noqa: E402

DEPTHS = (1, 2, 1, 1)
SIZES = (64, 65)  # pixels: even as far as it can be, and odd
CLASSES = 10
SMALLEST = 1e-4  # of the logits' standard deviation: what rounding explains


def of_timm(name: str) -> dict:
    """Returns what timm's network of that name computes, by PyTorch: JSON's types only."""
    import timm
    import torch

    with torch.device("meta"):
        parameters = sum(p.numel() for p in timm.create_model(name).parameters())
    cut = {"layers": DEPTHS} if "net" in name and not name.startswith(("mobilenet", "efficientnet", "tf_")) else {}
    model = timm.create_model(name, num_classes=CLASSES, **cut).eval()
    state = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    model.load_state_dict({key: torch.from_numpy(np.asarray(tensor(key, shape))) for key, shape in state.items()})
    images = {size: torch.from_numpy(image(size)).permute(0, 3, 1, 2) for size in SIZES}
    with torch.no_grad():
        logits = {str(size): model(images[size])[0].tolist() for size in SIZES}
    return {"parameters": parameters, "cut": bool(cut), "state": state, "logits": logits}


def difference(name: str, theirs: dict) -> float:
    """Returns the largest difference of our network's logits from theirs, as a share of these's standard deviation."""
    import dataclasses

    from safetensors.numpy import save_file

    import kresnet
    from kresnet.models import architectures
    from kresnet.models.build import build

    spec = architectures.known()[name]
    if theirs["cut"]:
        spec = dataclasses.replace(spec, depths=DEPTHS)
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, f"{name}.safetensors")
        save_file({key: np.asarray(tensor(key, shape)) for key, shape in theirs["state"].items()}, file)
        options = {"classifier_activation": None, "include_preprocessing": False, "input_shape": (None, None, 3)}
        model = build(kresnet.get_builder(name).family, spec, weights=str(file), classes=CLASSES, **options)
    found = 0.0
    for size, logits in theirs["logits"].items():
        ours = np.asarray(model(image(int(size))))[0]
        found = max(found, float(np.abs(ours - logits).max() / np.std(logits)))
    return found


def _parameters(name: str) -> int:
    import keras

    import kresnet

    keras.backend.clear_session()
    return sum(int(np.prod(v.shape)) for v in kresnet.create_model(name).trainable_variables)


def _answer() -> None:
    """Answers names, one a line, with JSON."""
    import torch

    if not hasattr(torch.ops.torchvision, "nms"):  # a torchvision without its compiled operators wants them declared
        operators = torch.library.Library("torchvision", "DEF")
        operators.define("nms(Tensor boxes, Tensor scores, float threshold) -> Tensor")
        operators.define("qnms(Tensor boxes, Tensor scores, float threshold) -> Tensor")
    for line in sys.stdin:
        print(json.dumps(of_timm(line.strip())), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--store")
    arguments = parser.parse_intermixed_args()

    from kresnet import layers
    from kresnet.models.mobile.architectures import ARCHITECTURES as MOBILE
    from kresnet.models.residual.architectures import ARCHITECTURES as RESIDUAL

    layers.VarianceScaling.__call__ = lambda self, shape, dtype=None: np.zeros(shape, dtype)  # drawing takes long
    command = [arguments.python, __file__, "--answer"]
    wrong, stored = [], {}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        for name in arguments.names or [*RESIDUAL, *MOBILE]:
            print(name, file=other.stdin, flush=True)
            stored[name] = theirs = json.loads(other.stdout.readline())
            counted, found = _parameters(name), difference(name, theirs)
            ok = counted == theirs["parameters"] and found < SMALLEST
            print("ok   " if ok else "WRONG", f"{name}: {counted} parameters, {found:.1e} apart", flush=True)
            wrong += [] if ok else [name]
        other.stdin.close()
    if arguments.store:
        pathlib.Path(arguments.store).write_bytes(gzip.compress(json.dumps(stored).encode(), mtime=0))
    print(f"{len(wrong)} of {len(stored)} wrong: {' '.join(wrong)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    if sys.argv[1:] == ["--answer"]:
        _answer()
    else:
        sys.exit(main())
