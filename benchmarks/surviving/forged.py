"""What forged files are made of: the good ones, and the ways in which all kinds of file can be spoilt."""

import zipfile
from pathlib import Path
from typing import NamedTuple

SMALL = {"depths": (1,), "widths": (8,), "stem": "conv3", "input_shape": (32, 32, 3), "classes": 3}
NESTED = b"[" * 200_000
LAYER = "layers/dense/vars"


class Case(NamedTuple):
    """A file, whether it is given as weights, and whether it may also be read."""

    path: Path
    weights: bool = False
    may_pass: bool = False


def files(makers, folder, ran, rng):
    """Yields the cases of functions that make them from the good files of a network. Code in them writes `ran`."""
    import kresnet

    model = kresnet.ResNet(**SMALL)
    good = folder / "good"
    good.mkdir()
    model.save(good / "x.keras")
    model.save_weights(good / "x.weights.h5")
    kresnet.save_weights(model, good / "x.safetensors")
    for make in makers:
        place = folder / make.__name__
        place.mkdir()
        yield from make(good, place, ran, rng)
    ran.unlink(missing_ok=True)


def exported(good, name):
    """Returns the path of an export of the good network."""
    import keras

    import kresnet

    if not (good / name).exists():
        kresnet.export(keras.saving.load_model(good / "x.keras"), good / name, labels=["a", "b", "c"], latency=False)
    return good / name


def truncated(file, place, rng, count=4, **options):
    content = file.read_bytes()
    for size in (0, 5, *(rng.randrange(len(content)) for _ in range(count - 3)), len(content) - 3):
        path = place / f"cut_at_{size}{''.join(file.suffixes)}"
        path.write_bytes(content[:size])
        yield Case(path, **options)


def flipped(file, place, rng, count, **options):
    for i in range(count):
        content = bytearray(file.read_bytes())
        for _ in range(rng.choice((1, 4, 32))):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path = place / f"flipped_{i}{''.join(file.suffixes)}"
        path.write_bytes(content)
        yield Case(path, may_pass=True, **options)


def archive(path, entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def entries_of(file):
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}
