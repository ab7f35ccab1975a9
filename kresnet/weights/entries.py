"""The arrays of a weights file by name, whatever its format, and what the file says of its network."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from kresnet import checks
from kresnet.archives import refuse_bombs
from kresnet.weights.torch_file import Array, open_torch, strip_prefixes

SAFETENSORS, PICKLES, KERAS = (".safetensors",), (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".tar"), (".h5", ".keras")
SUFFIXES = (*SAFETENSORS, *PICKLES, *KERAS)
# By their names in a safetensors header and in PyTorch's files.
_FLOATS = {"F16", "BF16", "F32", "F64", "float16", "bfloat16", "float32", "float64"}
# A counter that PyTorch's batch norms keep and no inference uses.
_COUNTER = "num_batches_tracked"
# What our own files say of their network, in the header of a safetensors.
METADATA = "kresnet"


def is_file_name(weights: Any) -> bool:
    """Tells whether `weights` reads like the path of a weights file, whether there is one or not."""
    return not isinstance(weights, str) or "/" in weights or weights.lower().endswith(SUFFIXES)


def of_pytorch(file: Path) -> bool:
    """Tells whether a file has PyTorch's names and forms, by its suffix."""
    return not file.name.lower().endswith(KERAS)


def checked(weights: Any) -> Path:
    """Returns the path of a weights file.

    Raises:
        ValueError: if it is none, there is none, or it is of an unknown kind.
    """
    file = Path(weights).expanduser()
    if not file.name.lower().endswith(SUFFIXES):
        raise ValueError(
            "`weights` must be None, the name of published weights, or the path of a .safetensors, .pth, .weights.h5 "
            f"or .keras file. Received: weights={str(weights)!r}"
        )
    checks.require(file.is_file(), "There is no such weights file", weights=str(weights))
    return file


@contextmanager
def opened(file: Path) -> Iterator[tuple[dict[str, Array], list[str]]]:
    """Opens a weights file.

    Yields:
        Its arrays by name, those of Keras's formats as "<layer>/<number>"; and lines that say what was passed over.

    Raises:
        ValueError: if it is damaged, or holds arrays of other types than floating point.
    """
    name = file.name.lower()
    if name.endswith(SAFETENSORS):
        with _safetensors(file) as arrays:
            yield _of_floats(*_without_prefix(arrays), file)
    elif name.endswith(PICKLES):
        with open_torch(file) as state:
            arrays, said = _without_prefix(state)
            yield _of_floats(arrays, [*([state.said] if state.said else []), *said], file)
    else:
        with _keras(file) as arrays:
            yield arrays, []


def metadata(file: Path) -> dict[str, Any]:
    """Returns what a file says of its network as our `kresnet_config`; {} where it says nothing.

    Raises:
        ValueError: if the file is damaged.
    """
    with _damage(file):
        if file.name.lower().endswith(SAFETENSORS):
            about = _header(file).get("__metadata__") or {}
            return json.loads(about.get(METADATA, "{}"))
        if file.suffix.lower() == ".keras":
            with zipfile.ZipFile(file) as archive:
                refuse_bombs(archive)
                config = json.loads(archive.read("config.json")).get("config") or {}
            return config.get("kresnet_config") or {}
    return {}


def layers(file: Path) -> list[str]:
    """Returns the names of the layers in one of Keras's files."""
    with _keras(file) as arrays:
        return [*dict.fromkeys(name.rpartition("/")[0] for name in arrays)]


def _without_prefix(arrays: dict[str, Array]) -> tuple[dict[str, Array], list[str]]:
    prefix, names = strip_prefixes(arrays)
    if not prefix:
        return arrays, []
    line = f"All names in it begin with the prefix {prefix!r}, which is passed over."
    return dict(zip(names, arrays.values(), strict=True)), [line]


def _of_floats(arrays: dict[str, Array], said: list[str], file: Path) -> tuple[dict[str, Array], list[str]]:
    arrays = {name: array for name, array in arrays.items() if not name.endswith(_COUNTER)}
    others = [f"{name!r} is {array.dtype}" for name, array in arrays.items() if array.dtype not in _FLOATS]
    checks.require(
        not others,
        "Weights are floating-point numbers (16, 32 or 64 bits), and the file holds others, as quantized ones are: "
        f"{listed(others)}",
        weights=str(file),
    )
    return arrays, said


def listed(texts: Sequence[str], most: int = 3) -> str:
    """Returns the first few of many, and the number of the others."""
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


@contextmanager
def _damage(file: Path) -> Iterator[None]:
    """Makes what readers raise for a damaged file one error that names it."""
    import safetensors

    errors = (OSError, KeyError, RuntimeError, UnicodeDecodeError, json.JSONDecodeError, zipfile.BadZipFile)
    try:
        yield
    except (*errors, safetensors.SafetensorError) as error:
        raise ValueError(f"The weights file is damaged ({error}). Received: weights={str(file)!r}") from error


@contextmanager
def _safetensors(file: Path) -> Iterator[dict[str, Array]]:
    import safetensors

    with _damage(file), safetensors.safe_open(file, framework="numpy") as tensors:
        header = _header(file)
        yield {
            name: Array(tuple(about["shape"]), about["dtype"], lambda name=name: tensors.get_tensor(name))
            for name, about in header.items()
            if name != "__metadata__"
        }


def _header(file: Path) -> dict[str, Any]:
    """Reads the header of a safetensors, in which no name may be twice."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1] if len({*names}) < len(names) else []
        checks.require(not twice, f"The weights file has two entries of one name, {listed(twice)}", weights=str(file))
        return dict(pairs)

    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        text = stream.read(min(length, file.stat().st_size))
    return json.loads(text, object_pairs_hook=unique)


@contextmanager
def _keras(file: Path) -> Iterator[dict[str, Array]]:
    """Opens Keras's weights by the names of the layers, which a file holds besides Keras's own numbering."""
    import h5py

    with _damage(file):
        source: Any = file
        if file.suffix.lower() == ".keras":
            with zipfile.ZipFile(file) as archive:
                refuse_bombs(archive)
                source = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(source, "r") as weights:
            arrays: dict[str, Array] = {}

            def collect(path: str, item: Any) -> None:  # visits neither soft nor external links
                match = re.fullmatch(r"(?:_layer_checkpoint_dependencies|layers)/[^/]+/vars/(\d+)", path)
                if match and isinstance(item, h5py.Dataset) and not item.is_virtual and not item.external:
                    layer = item.parent.attrs.get("name", item.parent.parent.name)
                    arrays[f"{layer}/{match[1]}"] = Array(
                        tuple(item.shape), str(item.dtype), lambda: np.asarray(item[()])
                    )

            weights.visititems(collect)
            yield arrays or _by_layer(weights)


def _inside(group: Any, path: str) -> Any:
    """Returns the array of a path, which no link may lead out of the file."""
    import h5py

    for name in path.split("/"):
        ok = isinstance(group, h5py.Group) and isinstance(group.get(name, getlink=True), h5py.HardLink)
        group = group[name] if ok else None
    if not isinstance(group, h5py.Dataset) or group.is_virtual or group.external:
        raise KeyError(f"{path} is not in it")
    return group


def _by_layer(weights: Any) -> dict[str, Array]:
    """Returns the arrays of the format before Keras 3, in which a layer's attribute lists its weights in order."""
    arrays = {}
    weights = weights.get("model_weights", weights)  # of a whole model
    for layer in weights.attrs.get("layer_names", ()):
        layer = layer.decode() if isinstance(layer, bytes) else str(layer)
        for i, name in enumerate(weights[layer].attrs.get("weight_names", ())):
            item = _inside(weights, f"{layer}/{name.decode() if isinstance(name, bytes) else name}")
            arrays[f"{layer}/{i}"] = Array(tuple(item.shape), str(item.dtype), lambda item=item: np.asarray(item[()]))
    return arrays
