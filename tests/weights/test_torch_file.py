"""PyTorch's files without PyTorch: right numbers out of real ones, and nothing but a ValueError out of any others.

`torch_files/make.py` wrote the real ones.
"""

import io
import pickle
import random
import re
import resource
import struct
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from kresnet.weights.torch_file import open_torch, strip_prefixes

FILES = Path(__file__).with_name("torch_files")
NUMBERS = np.array([1, 2, 3, 4], "<f4")
ROWS = np.arange(12, dtype="float32").reshape(3, 4)
DTYPES = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool".split()
ARRAYS = {name: np.array([0, 1, 3]).astype(name.replace("bfloat16", "float32")) for name in DTYPES} | {
    "transposed": ROWS.T,
    "last_row": ROWS[2],
    "every_other": ROWS[1:, ::2],
    "scalar": np.array(-2.5, "float32"),
    "empty": np.zeros((0, 3), "float32"),
    "expanded": np.full((2, 5), 7, "float32"),
    "channels_last": np.arange(24, dtype="float32").reshape(1, 2, 3, 4),
    "parameter": np.ones(2, "float32"),
}


def read(path):
    """Everything that a file gives: its arrays, and what is said of it."""
    with open_torch(Path(path)) as state:
        return {name: array.read() for name, array in state.items()}, state.said


def refused(path):
    """The error of a file that is refused."""
    with pytest.raises(ValueError, match=re.escape(f"Received: weights={str(path)!r}") + "$") as caught:
        read(path)
    return str(caught.value)


@pytest.fixture
def written(tmp_path):
    """Returns a function that writes bytes and returns their path."""

    def write(data, name="weights.pth"):
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return write


def plain(value):
    """The instructions that make a value of Python's own."""
    return pickle.dumps(value, 2)[2:-1]


def named(name):
    module, _, name = name.rpartition(".")
    return f"c{module}\n{name}\n".encode()


def called(name, *arguments):
    return named(name) + b"(" + b"".join(arguments) + b"tR"


def stored(numel=4, storage="torch.FloatStorage", key="0", more=None):
    parts = plain("storage") + named(storage) + plain(key) + plain("cpu") + plain(numel)
    return b"(" + parts + (plain(more) if more else b"") + b"tQ"


def tensor(offset=0, shape=(2, 2), strides=(2, 1), storage=None, version="_v2", more=()):
    arguments = [storage or stored(), *map(plain, (offset, shape, strides))]
    arguments += [plain(False), plain({}), *map(plain, more)] if version else []
    return called(f"torch._utils._rebuild_tensor{version}", *arguments)


def dumped(**items):
    """A pickled dict of items that are instructions."""
    return b"\x80\x02}(" + b"".join(plain(name) + item for name, item in items.items()) + b"u."


def zipped(top=None, method=zipfile.ZIP_STORED, **records):
    """An archive as `torch.save` makes it, around a pickle; other records, or None for none, by their names."""
    records = {"data.pkl": top, "byteorder": b"little", "data/0": NUMBERS.tobytes(), "version": b"3\n"} | records
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in records.items():
            if data is not None:
                archive.writestr(f"weights/{name}", data)
    return buffer.getvalue()


def streamed(top, keys=("0",), little_endian=True, numel=4, protocol=1001, data=None):
    """The older format around a pickle."""
    heads = (0x1950A86A20F9469CFC6C, protocol, {"protocol_version": 1001, "little_endian": little_endian})
    begin = b"".join(pickle.dumps(head, 2) for head in heads)
    return begin + top + pickle.dumps([*keys], 2) + struct.pack("<q", numel) + (data or NUMBERS.tobytes())


@pytest.mark.parametrize("kind", ["zip", "stream"])
def test_all_types_and_layouts(kind):
    arrays, said = read(FILES / f"arrays_{kind}.pth")
    assert said is None
    assert list(arrays) == list(ARRAYS)
    for name, expected in ARRAYS.items():
        assert arrays[name].dtype == expected.dtype, name
        assert arrays[name].flags.c_contiguous
        assert arrays[name].flags.writeable
        np.testing.assert_array_equal(arrays[name], expected, strict=True)
    with open_torch(FILES / f"arrays_{kind}.pth") as state:
        assert [state[name].dtype for name in DTYPES] == DTYPES
        assert all(array.shape == ARRAYS[name].shape for name, array in state.items())


@pytest.mark.parametrize("kind", ["zip", "stream", "protocol4"])
def test_the_state_dict_in_a_checkpoint(kind):
    arrays, said = read(FILES / f"checkpoint_{kind}.pth")
    assert said == "read from the file's 'state_dict'; the file also holds 'model_ema.module'"
    weights = {f"0.{name}": 0.5 for name in ("weight", "bias")} | {"1.weight": 0.5, "1.bias": 0.5}
    weights |= {"1.running_mean": 0, "1.running_var": 1, "1.num_batches_tracked": 0}
    assert {name: array.ravel()[0] for name, array in arrays.items()} == {f"module.{k}": v for k, v in weights.items()}
    assert arrays["module.0.weight"].shape == (2, 1, 1, 1)
    assert strip_prefixes(arrays) == ("module.", list(weights))


def test_where_the_state_dict_is(written):
    def inside(*keys):
        item = dumped(w=tensor())[2:-1]
        for key in reversed(keys):
            item = b"}(" + plain(key) + item + plain("epoch") + plain(3) + b"u"
        return item

    def place(top):
        arrays, said = read(written(zipped(b"\x80\x02" + top + b".")))
        assert [*arrays] == ["w"]
        return said

    assert place(inside()) is None
    assert place(inside("net")) == "read from the file's 'net'"
    assert place(inside("model_ema", "module")) == "read from the file's 'model_ema.module'"
    assert place(inside("model", "state_dict", "module")) == "read from the file's 'model.state_dict.module'"
    both = b"}(" + plain("state_dict_ema") + inside() + plain("state_dict") + inside() + b"u"
    assert place(both) == "read from the file's 'state_dict'; the file also holds 'state_dict_ema'"
    # A module may be called "model", and an entry need be no array.
    flat = written(zipped(dumped(model=tensor(), _extra_state=plain({"a": 1}), step=plain(7))))
    assert [*read(flat)[0]] == ["model"]


@pytest.mark.parametrize(
    ("names", "prefix", "bare"),
    [
        (["module.a.w", "module.b"], "module.", ["a.w", "b"]),
        (["module._orig_mod.a", "module._orig_mod.b"], "module._orig_mod.", ["a", "b"]),
        (["_orig_mod.module.model.a"], "_orig_mod.module.model.", ["a"]),
        (["backbone.a", "head.b"], "", ["backbone.a", "head.b"]),
        (["model.encoder.a", "model.head.b"], "model.", ["encoder.a", "head.b"]),
        (["modules.a"], "", ["modules.a"]),
        ([], "", []),
    ],
)
def test_prefixes(names, prefix, bare):
    assert strip_prefixes(iter(names)) == (prefix, bare)


def test_what_old_pytorch_and_python_2_wrote(written):
    """Parts of storages, parameters as a class with a state, items in lists, text in bytes."""
    part = tensor(1, (2,), (1,), stored(more=("1", 1, 3)), version="")
    parameter = called("torch.nn.parameter.Parameter", tensor()) + plain((True, False, {})) + b"b"
    name = b"U\x01"  # SHORT_BINSTRING of one letter
    items = b"](](" + name + b"p" + part + b"e](" + name + b"q" + parameter + b"ee"
    arrays, _ = read(written(streamed(b"\x80\x02" + called("collections.OrderedDict", items) + b".")))
    assert {name: array.tolist() for name, array in arrays.items()} == {"p": [3, 4], "q": [[1, 2], [3, 4]]}
    too_far = tensor(1, (3,), (1,), stored(more=("1", 1, 3)), version="")
    assert "reaches beyond its storage of 3 numbers" in refused(written(streamed(dumped(w=too_far))))


def test_an_axis_of_one_number_has_any_stride(written):
    array = read(written(zipped(dumped(w=tensor(0, (1, 4), (1 << 62, 1))))))[0]["w"]
    assert array.tolist() == [[1, 2, 3, 4]]


def test_arrays_are_read_when_asked_for(written):
    data = zipped(dumped(good=tensor(), bad=tensor(storage=stored(key="1"))), **{"data/1": b"\1" * 15 + b"\2"})
    path = written(data.replace(b"\1" * 15 + b"\2", b"\1" * 16))
    with open_torch(path) as state:
        assert state["good"].read().tolist() == [[1, 2], [3, 4]]
        with pytest.raises(ValueError, match=r"damaged.*Bad CRC-32.*weights/data/1.*Received: weights='.*'$"):
            state["bad"].read()
    with pytest.raises(ValueError, match=r"closed.*Received: weights="):
        state["bad"].read()


CURE = "safetensors.torch.save_file"
GLOBALS = [
    "posix.system",
    "os.system",
    "builtins.eval",
    "builtins.getattr",
    "importlib.import_module",
    "runpy.run_path",
]
GLOBALS += ["subprocess.Popen", "torch.hub.load", "torch._utils._rebuild_qtensor", "numpy._core.multiarray.scalar"]
GLOBALS += [
    "collections.namedtuple",
    "collections.OrderedDict.fromkeys",
    "pickle.loads",
    "torch.storage._load_from_bytes",
]


@pytest.mark.parametrize("name", GLOBALS)
def test_what_a_file_asks_for_is_not_run(name, written, tmp_path):
    command = plain(f"touch {tmp_path / 'ran'}")
    stack_global = b"".join(map(plain, name.rpartition(".")[::2])) + b"\x93(" + command + b"tR"
    for call in (called(name, command), stack_global):
        for data in (zipped(dumped(w=tensor(), x=call)), streamed(dumped(x=call)), dumped(x=call), call + b"."):
            if data[:1] in b"P\x80c":
                message = refused(written(data))
                assert f"asks for `{name}`" in message
                assert CURE in message
    assert not (tmp_path / "ran").exists()


def test_other_ways_of_asking(written, tmp_path):
    """Old instructions that look classes up, and admitted names used otherwise."""
    run = plain(f"touch {tmp_path / 'ran'}")
    size, ordered = named("torch.Size"), named("collections.OrderedDict")
    for call in (
        *(b"(" + run + b"ios\nsystem\n", b"\x82\x01", size + b")\x81", b"(" + size + run + b"o", b"Pid\n"),
        *(size + plain({"a": 1}) + b"b", plain("text") + plain(("a",)) + b"R", ordered + b"(" + run + b"tR"),
        *(named("torch.FloatStorage") + b"(" + run + b"tR", stored(storage="torch.Size"), stored(storage="torch.nn.X")),
        *(plain("storage") + b"Q", size + b"}R", plain([]) + plain({}) + b"b", plain({}) + plain([]) + b"a"),
    ):
        refused(written(zipped(dumped(w=tensor(), x=call))))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("namespace_zip", "asks for `argparse.Namespace`"),
        ("module_zip", "asks for `__main__.Twice`"),
        ("module_stream", "asks for `__main__.Twice`"),
        ("script", "TorchScript"),
    ],
)
def test_real_files_of_other_kinds(name, message):
    told = refused(FILES / f"{name}.pth")
    assert message in told
    assert "state_dict()`" in told


GOOD = dumped(w=tensor())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"\n<!DOCTYPE html><html>", "an HTML or XML page: its download failed"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b'\x10\0\0\0\0\0\0\0{"w":{}}', "a safetensors file"),
        (b"pickle".ljust(257, b"\0") + b"ustar", "a tar archive, PyTorch's format before 0.1.10"),
        (b"Not found", "none of torch.save's: it begins with b'Not found'"),
        (pickle.dumps({"w": 1}, 2), "a pickle, but none of torch.save's"),
        (zipped(GOOD)[:-30], "File is not a zip file"),
        (zipped(GOOD)[:40], "File is not a zip file"),
        (
            zipped(GOOD).replace(b"data.pkl", b"data.bin"),
            r"none of torch\.save's, which has one data\.pkl: .*data\.bin",
        ),
        (zipped(GOOD, zipfile.ZIP_DEFLATED), "is compressed"),
        (zipped(GOOD, byteorder=b"big"), "are big-endian"),
        (streamed(GOOD, little_endian=False), "are big-endian"),
        (zipped(GOOD, **{"data/0": None}), "no item named 'weights/data/0'"),
        (zipped(GOOD, **{"data/0": b"12345678"}), "'weights/data/0' has 8 bytes and is said to have 16"),
        (zipped(GOOD.replace(b"X\x01\0\0\x000", b"X\x03\0\0\0../")), r"no item named 'weights/data/\.\./"),
        (zipped(GOOD[:-1]), "before seeing STOP"),
        (zipped(GOOD + bytes(9 << 20)), "is larger than a state dict's"),
        (zipped(dumped(epoch=plain(3))), r"no state dict .* but a dict with the keys \['epoch'\]"),
        (zipped(b"\x80\x02" + tensor() + b"."), "no state dict .* but a value of type Tensor"),
        (streamed(GOOD)[:-1], "cut off: at byte .* should be 4 numbers"),
        (streamed(GOOD, numel=5), "cut off: at byte .* should be 4 numbers"),
        (streamed(GOOD, keys=("0", "1")), "list of storages"),
        (streamed(GOOD, keys=()), "KeyError: '0'"),
        (streamed(GOOD, protocol=1000), "version should be 1001 and is 1000"),
        (streamed(dumped(w=tensor(), x=tensor(0, (2,), (1,), stored(2)))), "the storage '0' in two sizes"),
    ],
    # Not by the bytes, which hold the time at which they were zipped.
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_damaged_and_other_files(data, message, written):
    assert re.search(message, refused(written(data)))


@pytest.mark.parametrize(
    "options",
    [
        *({"offset": 1}, {"offset": -1}, {"offset": True}, {"shape": (3, 2)}, {"shape": (-2, 2)}, {"shape": (2, 2, 1)}),
        *({"strides": (3, 1)}, {"strides": (-2, 1)}, {"shape": [2, 2]}, {"shape": (2.0, 2)}, {"shape": (1 << 40, 2)}),
        *({"shape": (1 << 20, 1 << 20), "strides": (0, 0)}, {"shape": (0, 1 << 62)}, {"shape": (1 << 63, 0)}),
        *({"shape": (1,) * 33, "strides": (1,) * 33}, {"more": [{"conj": True}]}, {"shape": (2, "2")}),
        *({"storage": stored(-4)}, {"storage": stored(1 << 60)}, {"storage": stored(4, "torch.DoubleStorage")}),
        *({"storage": stored(more=("1", start, 2)), "shape": (2,), "strides": (1,)} for start in (3, -1)),
        {"storage": plain(4)},
    ],
)
def test_arrays_that_cannot_be(options, written):
    """Each is refused when the file is opened, before anything is made of its size."""
    for data in (zipped(dumped(w=tensor(**options))), streamed(dumped(w=tensor(**options)))):
        with pytest.raises(ValueError, match="Received: weights="), open_torch(written(data)):
            pytest.fail("it was opened")


def test_a_record_larger_than_its_archive(written):
    """The archive's directory says the same size as the pickle, and the file is small."""
    data = bytearray(zipped(dumped(w=tensor(shape=(1 << 28,), strides=(0,), storage=stored(1 << 28)))))
    entry = data.rindex(b"PK\1\2", 0, data.rindex(b"weights/data/0"))
    data[entry + 20 : entry + 28] = struct.pack("<II", 1 << 30, 1 << 30)
    assert "'weights/data/0' is said to have more bytes than there are" in refused(written(data))


def peak():
    """The most memory that this process has had, in bytes (Linux counts it in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


COPIED = named("collections.OrderedDict") + b"j\0\0\1\0\x85R"


def nested(start, step, times=200_000):
    return start + step * times


@pytest.mark.slow
@pytest.mark.parametrize(
    "top",
    [
        plain(1) + b"r\xff\xff\xff\xff",  # a memo of 2**32 places
        b"\x8e" + struct.pack("<q", 1 << 40),  # 2**40 bytes
        b"\x96" + struct.pack("<q", 1 << 40),
        b"}" + nested(b")", b"\x85") + plain(1) + b"s",  # a key whose hash would overflow the stack
        b"})" + b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(99)) + plain(1) + b"s",
        nested(b"]", b"]", 1_000_000),
        called("torch._utils._rebuild_tensor", nested(b")", b"\x85"), plain(0), plain(()), plain(())),
        plain([[i, 0] for i in range(5000)]) + b"r\0\0\1\0" + COPIED * 3000,  # a list that is copied time and again
    ],
)
def test_small_files_stay_small(top, written):
    """Neither memory nor time without end, nor a crash of the interpreter."""
    path, time_before, peak_before = written(zipped(b"\x80\x02" + top + b".")), time.process_time(), peak()
    refused(path)
    assert peak() - peak_before < 1 << 28
    assert time.process_time() - time_before < 20


def test_a_dict_in_itself(written):
    itself = b"\x80\x02}q\x00(" + plain("model").replace(b"q\x00", b"") + b"h\x00" + plain("w")[:-2] + tensor() + b"u."
    assert [*read(written(zipped(itself)))[0]] == ["w"]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in FILES.glob("*.pth")))
def test_no_other_error_whatever_the_bytes(name, written):
    """Changed bytes, and files cut short: a right answer or a ValueError, and no memory taken for it."""
    whole, draw = (FILES / f"{name}.pth").read_bytes(), random.Random(name)
    errors, before = [], peak()
    for _ in range(100):
        data = bytearray(whole)
        for _ in range(draw.choice((1, 1, 2, 8))):
            data[draw.randrange(len(data))] = draw.choice((draw.randrange(256), *b"\0\xff.0(t"))
        for changed in (data, data[: draw.randrange(len(data))]):
            path = written(bytes(changed))
            try:
                read(path)
            except ValueError as error:
                errors.append(str(error))
    assert len(errors) >= 100
    assert [error for error in errors if not error.endswith(f". Received: weights={str(path)!r}")] == []
    assert peak() - before < 1 << 28
