"""Small files that unpack to gigabytes are refused before they do."""

import zipfile

import h5py
import keras
import numpy as np
import pytest

import kresnet
from kresnet.archives import refuse_bombs, refuse_keras_bombs
from kresnet.inference.predictors import predictor

SMALL = {"input_shape": (32, 32, 3), "depths": (1, 1), "widths": (8, 16), "classes": 3}
LARGE = 1 << 27  # bytes


def written(path, entries, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


@pytest.fixture(scope="module")
def entries(tmp_path_factory):
    """What a whole `.keras` holds."""
    file = tmp_path_factory.mktemp("whole") / "x.keras"
    kresnet.ResNet(**SMALL).save(file)
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5"])
def test_an_archive(name, entries, tmp_path):
    file = written(tmp_path / "bomb.keras", entries | {name: bytes(LARGE)})
    for read in (predictor, lambda file: kresnet.ResNet(**SMALL, weights=file)):
        with pytest.raises(ValueError, match=r"bytes unpack to 13\d+, which no network's do.* Received: .*bomb\.keras"):
            read(file)


def test_packed_arrays(entries, tmp_path):
    with h5py.File(tmp_path / "x.weights.h5", "w") as file:
        shape, options = (LARGE // 8000, 2000), {"chunks": (1000, 2000), "compression": "gzip"}
        file.create_dataset("layers/dense/vars/0", shape, "float32", **options)[:1000] = 0
    packed = entries | {"model.weights.h5": (tmp_path / "x.weights.h5").read_bytes()}
    file = written(tmp_path / "packed.keras", packed, zipfile.ZIP_STORED)
    with pytest.raises(ValueError, match=r"packed\.keras is not a complete Keras model: .* unpack to 134216000"):
        predictor(file)


def test_what_shrinks_well_but_is_small_or_honest_is_none(entries, tmp_path):
    refuse_keras_bombs(written(tmp_path / "deflated.keras", entries))
    model = keras.Sequential([keras.Input((100,)), keras.layers.Dense(10_000, kernel_initializer="zeros")])
    model.save(tmp_path / "zeros.keras")
    refuse_keras_bombs(tmp_path / "zeros.keras")
    noise = np.random.default_rng(0).bytes(LARGE // 8)
    with zipfile.ZipFile(written(tmp_path / "noise.zip", {"noise": noise, "zeros": bytes(LARGE)})) as archive:
        refuse_bombs(archive)
