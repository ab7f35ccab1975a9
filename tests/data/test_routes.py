"""Files come to pixels by two routes, through tf.data's graph or through Python: which of them must not show."""

import io
import logging
import struct
from pathlib import Path

import numpy as np
import pytest
import skimage
import tensorflow as tf
from PIL import Image
from sklearn.datasets import load_sample_image

from kresnet import data
from kresnet.data import graph_decoding, images

SIZE = 96


def photographs():
    folder = Path(skimage.__file__).parent / "data"
    rocket = Image.open(folder / "rocket.jpg").resize((320, 214))  # 640x427, as most photographs are larger than needed
    return [Image.fromarray(load_sample_image("china.jpg")), rocket]


def encoded(image, kind="jpeg", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def sized(data, height, width):
    """Returns a JPEG whose header says another size."""
    place = data.index(b"\xff\xc0") + 5
    return data[:place] + struct.pack(">HH", height, width) + data[place + 4 :]


def oriented(order, kind, count, value):
    """Returns Exif data of one entry, an orientation: the order of bytes, and the entry's type, count and value."""
    head = struct.pack(order + "2sHIH", {"<": b"II", ">": b"MM"}[order], 42, 8, 1)
    short = "HH" if kind == 3 else "I"
    values = (value, 0)[: len(short)]
    return b"Exif\0\0" + head + struct.pack(f"{order}HHI{short}I", 0x0112, kind, count, *values, 0)


def healthy(image):
    """Returns what most folders hold: JPEGs as they are to be shown."""
    upright = Image.Exif()
    upright[0x0112], upright[0x010F] = 1, "a camera"
    return {
        "plain.jpg": encoded(image, quality=90),
        "progressive.jpg": encoded(image, progressive=True),
        "grey.jpg": encoded(image.convert("L")),
        "upright.jpg": encoded(image, exif=upright),
        "profile.jpg": encoded(image, subsampling=0, icc_profile=bytes(70_000)),
        "trailing.jpg": encoded(image) + b"more" * 9,
        "jpeg.png": encoded(image),
        "strip.jpg": encoded(image.resize((500, 3))),
        "one.jpg": encoded(image.resize((1, 1))),
    }


def odd(image):
    """Returns what Python decodes."""
    turned = Image.Exif()
    turned[0x0112] = 6
    deep = Image.fromarray(np.asarray(image.convert("L")).astype("uint16") * 256 + 9)
    return {
        "larger.jpg": encoded(image.resize((image.width * 2, image.height * 2))),
        "turned.jpg": encoded(image, exif=turned),
        "motorola.jpg": encoded(image, exif=oriented(">", 3, 1, 8)),
        "long.jpg": encoded(image, exif=oriented("<", 4, 1, 3)),
        "cmyk.jpg": encoded(image.convert("CMYK"), quality=90),
        "png.jpg": encoded(image, "png"),
        "deep.png": encoded(deep, "png"),
        "alpha.png": encoded(image.convert("RGBA"), "png"),
        "gif.jpg": encoded(image.quantize(32), "gif"),
        "photo.webp": encoded(image, "webp"),
        "several.jpg": encoded(image, "mpo", save_all=True, append_images=[image.resize((80, 60))]),
    }


def broken(image):
    """Returns what no route decodes, and what is said of it."""
    whole = encoded(image)
    return {
        "cut.jpg": (whole[:-2000], "its data end early or are damaged"),
        "head.jpg": (whole[:300], "not a complete image"),
        "empty.jpg": (b"", "the file is empty"),
        "text.jpg": (b"no image at all", "not JPEG, PNG, GIF, BMP or WebP"),
        "lies.jpg": (sized(encoded(image.resize((8, 8))), 1500, 1500), "its header lies"),
        "nothing.jpg": (sized(whole, 0, 0), "not a complete image"),
        "short.png": (encoded(image, "png")[:-900], "not a complete image"),
        "bomb.png": (encoded(Image.new("L", (2000, 1500)), "png"), "2000 x 1500 pixels are more than the limit"),
    }


@pytest.fixture(scope="module")
def messy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("messy")
    for name, image in zip("ab", photographs(), strict=True):
        (folder / name).mkdir()
        files = healthy(image) | odd(image) | {f"broken-{key}": file for key, (file, _) in broken(image).items()}
        for key, file in files.items():
            (folder / name / key).write_bytes(file)
    return folder


def collect(dataset):
    batches = [(np.asarray(x), np.asarray(y)) for x, y in dataset]
    return np.concatenate([x for x, _ in batches]), np.concatenate([y for _, y in batches])


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"augment": "inception", "shuffle": True, "drop_remainder": False, "seed": 3},
        {"augment": "flip-crop", "grey": True},
        {"interpolation": "bicubic"},
    ],
    ids=["none", "inception", "flip-crop", "bicubic"],
)
def test_both_routes_give_the_same_batches(messy, how, monkeypatch):
    def load():
        loaded = data.load(messy, "all", SIZE, 5, on_error="skip", pixel_limit=2_500_000, **how)
        return collect(loaded), loaded.skipped

    (x, y), skipped = load()
    monkeypatch.setattr(graph_decoding, "decoder", lambda policy, size, limit, in_python: in_python)
    (expected, labels), skipped_there = load()
    np.testing.assert_array_equal(x, expected)
    np.testing.assert_array_equal(y, labels)
    assert skipped == skipped_there
    assert len(x) == 2 * 28 - len(skipped)
    bad = set(map(str, messy.rglob("broken-*")))
    assert bad >= set(skipped) >= {path for path in bad if "cut" not in path}  # a window may lie before the cut


def test_healthy_jpegs_do_not_wait_for_python(tmp_path, monkeypatch):
    for name, image in zip("ab", photographs(), strict=True):
        (tmp_path / name).mkdir()
        for key, file in healthy(image).items():
            (tmp_path / name / key).write_bytes(file)
    calls = []
    monkeypatch.setattr(images, "decode", lambda *arguments: calls.append(arguments) or np.zeros((9, 9, 3), "uint8"))
    loaded = data.load(tmp_path, "all", 200, 5)  # for which none is twice as large as needed
    assert len(collect(loaded)[0]) == 18
    assert not calls
    (tmp_path / "a" / "one.jpg").write_bytes(encoded(photographs()[0], "png"))
    collect(loaded)
    assert len(calls) == 1


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("kind", "count"), [(3, 1), (3, 2), (4, 1)])
def test_files_that_pillow_turns_have_a_mark(order, kind, count):
    for value in range(10):
        file = encoded(Image.new("L", (8, 8)), exif=oriented(order, kind, count, value))
        turned = Image.open(io.BytesIO(file)).getexif().get(0x0112) in range(2, 9)
        marked = any(tf.strings.regex_replace(file, mark, "") != file for mark in images.MARKS)
        assert marked or not turned
        assert turned or not marked or (kind, count) != (3, 1), "most files are decoded in the graph"


@pytest.fixture
def few(tmp_path):
    """Returns a folder of seven photographs, and the path of the sixth."""
    for i in range(7):
        (tmp_path / "ab"[i // 4]).mkdir(exist_ok=True)
        (tmp_path / "ab"[i // 4] / f"{i}.jpg").write_bytes(encoded(photographs()[1]))
    return tmp_path, tmp_path / "b" / "5.jpg"


@pytest.mark.slow
def test_an_error_names_the_file_whichever_route_failed(few):
    folder, path = few
    loaded = data.load(folder, "all", SIZE, 2, pixel_limit=2_500_000)
    assert len(list(loaded)) == 4
    for file, said in broken(photographs()[0]).values():
        path.write_bytes(file)
        batches = iter(loaded)
        assert [len(next(batches)[0]) for _ in range(2)] == [2, 2]  # those before it come
        with pytest.raises(Exception, match=f"{path}: .*{said}"):
            next(batches)
    path.unlink()
    with pytest.raises(Exception, match=f"{path}: No such file or directory"):
        list(loaded)


@pytest.mark.parametrize("drop", [False, True])
def test_skipped_images_wherever_they_are(few, drop, caplog):
    folder, _ = few
    loaded = data.load(folder, "all", SIZE, 3, on_error="skip", drop_remainder=drop)
    files = sorted(folder.rglob("*.jpg"))
    whole = [path.read_bytes() for path in files]
    for bad in ([0], [6], [5, 6], [0, 1, 2], [2, 3, 4], [1, 3, 5], [0, 1, 2, 3, 4, 5], [*range(7)]):
        for i, path in enumerate(files):
            path.write_bytes(whole[i][:500] if i in bad else whole[i])
        loaded.skipped.clear()
        caplog.clear()
        with caplog.at_level(logging.WARNING, "kresnet"):
            sizes = [len(x) for x, _ in loaded]
        left = 7 - len(bad)
        assert sizes == [3] * (left // 3) + ([left % 3] if left % 3 and not drop else [])
        assert loaded.skipped == [str(files[i]) for i in bad]
        assert all(caplog.text.count(str(files[i])) == 1 for i in bad)
