"""Forged weights of other makers: safetensors, and PyTorch's files."""

import json

import numpy as np

from surviving.forged import NESTED, Case, flipped, truncated


def safetensors(good, place, ran, rng):
    yield from truncated(good / "x.safetensors", place, rng, 6, weights=True)
    yield from flipped(good / "x.safetensors", place, rng, 6, weights=True)
    content = (good / "x.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    name = next(name for name in header if name.endswith("fc.weight"))

    def written(title, text, length=None, data=data):
        text = text if isinstance(text, bytes) else json.dumps(text).encode()
        path = place / f"{title}.safetensors"
        path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
        return Case(path, weights=True)

    for title, length in (("long", 1 << 62), ("longest", (1 << 64) - 1), ("short", 1), ("none", 0)):
        yield written(f"length_{title}", header, length)
    begin, end = header[name]["data_offsets"]
    for title, change in {
        "huge": {"shape": [1 << 40, 1 << 40]},
        "overflow": {"shape": [1 << 32, 1 << 32]},
        "negative": {"shape": [-3, 8]},
        "other_shape": {"shape": [8, 3]},
        "fraction": {"shape": [1.5, 16]},
        "integers": {"dtype": "I32"},
        "unknown": {"dtype": "F128"},
        "beyond": {"data_offsets": [begin, end + (1 << 40)]},
        "backwards": {"data_offsets": [end, begin]},
        "overlap": {"data_offsets": [0, end - begin]},
    }.items():
        yield written(title, header | {name: header[name] | change})
    yield written("nested", NESTED)
    yield written("metadata", header | {"__metadata__": {"kresnet": "{"}})
    yield written("metadata_nested", header | {"__metadata__": {"kresnet": NESTED.decode()}})
    yield written("left_over", header | {"../../more": {"dtype": "F32", "shape": [0], "data_offsets": [end, end]}})
    for title, number in (("nan", np.nan), ("infinite", np.inf)):
        array = np.full((end - begin) // 4, number, "<f4").tobytes()
        yield written(title, header, data=data[:begin] + array + data[end:])


def pth(good, place, ran, rng):
    import test_torch_file as torch

    command = torch.plain(f"touch {ran}")

    def written(name, data):
        (place / f"{name}.pth").write_bytes(data)
        return Case(place / f"{name}.pth", weights=True)

    for name in torch.GLOBALS:
        top = torch.dumped(w=torch.tensor(), x=torch.called(name, command))
        yield written(f"zip_{name}", torch.zipped(top))
        yield written(f"stream_{name}", torch.streamed(top))
    bombs = {
        "memo": torch.plain(1) + b"r\xff\xff\xff\xff",
        "bytes": b"\x8e" + (1 << 40).to_bytes(8, "little"),
        "lists": torch.nested(b"]", b"]", 1_000_000),
        "tuples": b"}" + torch.nested(b")", b"\x85") + torch.plain(1) + b"s",
        "copies": torch.plain([[i, 0] for i in range(5000)]) + b"r\0\0\1\0" + torch.COPIED * 3000,
    }
    for name, top in bombs.items():
        yield written(name, torch.zipped(b"\x80\x02" + top + b"."))
    arrays = {
        "shape": {"shape": (1 << 40, 2)},
        "strides": {"shape": (1 << 20, 1 << 20), "strides": (0, 0)},
        "offset": {"offset": 1 << 50},
        "storage": {"storage": torch.stored(1 << 60)},
    }
    for name, options in arrays.items():
        yield written(f"array_{name}", torch.zipped(torch.dumped(w=torch.tensor(**options))))
    traversal = torch.GOOD.replace(b"X\x01\0\0\x000", b"X\x03\0\0\0../")
    yield written("traversal", torch.zipped(traversal))
    yield written("other", torch.zipped(torch.GOOD))
    for name in ("checkpoint_zip", "module_zip", "script"):
        yield from truncated(torch.FILES / f"{name}.pth", place, rng, 4, weights=True)
