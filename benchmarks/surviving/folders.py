"""Hostile folders. Survived: what is no image is left out or named, the images are read, within 10 s and 500 MB.

Each try is one thing in an otherwise good folder of pictures: `check` looks through it and `load` reads it to its end,
or says what is wrong in one line that names it.
"""

import os
import socket
import struct
import zlib

from surviving.child import attempt

MEMORY, SECONDS, QUICK = 500e6, 10, 5


def tries(folder, rng, quick):
    cases = [(name, make) for name, make in globals().items() if name.startswith("_with_")]
    for name, make in rng.sample(cases, QUICK) if quick else cases:
        photos = folder / name.removeprefix("_with_")
        from pictures import write_folder

        write_folder(photos, 2)
        word = make(photos)
        outcome = attempt(_read, photos, seconds=SECONDS)
        wrong = _wrong(outcome, word)
        yield wrong and f"{photos.name}: {wrong}"


def _wrong(outcome, word):
    if outcome.ended:
        return outcome.ended
    if outcome.growth > MEMORY:
        return f"it took {outcome.growth / 1e6:.0f} MB"
    if outcome.error:
        return None if word in outcome.error[1] and outcome.error[0] == "ValueError" else f"{outcome.error}"
    said, loaded = outcome.value
    if loaded < 6:
        return f"only {loaded} images were read"
    if word and not any(word in line for line in said):
        return f"nothing is said of {word}: {said}"
    return None


def _read(photos):
    """Returns what is said of a folder, and how many images are read from it."""
    from kresnet import data
    from kresnet.data.check import check

    found = check(photos)
    said = [*found.errors, *found.warnings]
    loaded = data.load(photos, "all", 32, 4, shuffle=False, on_error="skip")
    count = sum(len(labels) for _, labels in loaded)
    return said, count


# Each function puts something into the folder, and returns what must be said of it: nothing of what is read as it is.


def _with_pipe(photos):
    os.mkfifo(photos / "red" / "pipe.jpg")
    return "pipe.jpg"


def _with_pipe_without_suffix(photos):
    os.mkfifo(photos / "red" / "pipe")
    return "files that are no images"


def _with_pipe_beside_the_classes(photos):
    os.mkfifo(photos / "pipe.png")
    return ""


def _with_linked_pipe(photos):
    os.mkfifo(photos / "red" / "pipe")
    (photos / "red" / "link.png").symlink_to("pipe")
    return "link.png"


def _with_socket(photos):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(photos / "red" / "s.png"))
    return "s.png"


def _with_endless_device(photos):
    (photos / "red" / "zero.png").symlink_to("/dev/zero")
    return "zero.png"


def _with_random_device(photos):
    (photos / "red" / "random.jpg").symlink_to("/dev/urandom")
    return "random.jpg"


def _with_terminal(photos):
    (photos / "red" / "tty.jpg").symlink_to("/dev/tty")
    return "tty.jpg"


def _with_loop(photos):
    (photos / "red" / "loop").symlink_to(".")
    return "loop"


def _with_two_loops(photos):
    for name in ("loop", "loop2"):
        (photos / "red" / name).symlink_to(".")
    return "loop2"


def _with_loop_to_the_top(photos):
    (photos / "red" / "up").symlink_to("..")
    return "the same image in two classes"


def _with_loops_in_each_other(photos):
    for name, other in (("red", "blue"), ("blue", "red")):
        (photos / name / other).symlink_to(photos / other)
    return "links to a folder that was read already"


def _with_link_to_itself(photos):
    (photos / "red" / "self.png").symlink_to("self.png")
    return "self.png"


def _with_class_that_is_a_loop(photos):
    (photos / "again").symlink_to(".")
    return "again"


def _with_link_out(photos):
    outside = photos.parent / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "a.png").write_bytes((photos / "red" / "1.png").read_bytes() + b"\0")
    (photos / "red" / "out").symlink_to(outside)
    return "a link out of the folder"


def _with_link_to_a_file_outside(photos):
    (photos.parent / "outside.png").write_bytes((photos / "red" / "1.png").read_bytes() + b"\0")
    (photos / "red" / "out.png").symlink_to(photos.parent / "outside.png")
    return "a link out of the folder"


def _with_secret(photos):
    (photos / "red" / "passwd.jpg").symlink_to("/etc/passwd")
    return "passwd.jpg"


def _with_broken_link(photos):
    (photos / "red" / "gone.jpg").symlink_to(photos / "nowhere.jpg")
    return "gone.jpg"


def _with_name_that_is_no_text(photos):
    os.rename(photos / "red" / "0.jpg", os.fsdecode(os.fsencode(photos / "red") + b"/caf\xe9.jpg"))
    return ""


def _with_class_that_is_no_text(photos):
    os.rename(photos / "red", os.fsdecode(os.fsencode(photos) + b"/r\xe9d"))
    return "r\\xe9d"


def _with_newlines(photos):
    os.rename(photos / "red" / "0.jpg", photos / "red" / "a\nb.jpg")
    return ""


def _with_lying_jpeg(photos):
    data = bytearray((photos / "red" / "0.jpg").read_bytes())
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", 9990, 9990)
    (photos / "red" / "lies.jpg").write_bytes(data)
    return "lies.jpg"


def _with_lying_png(photos):
    (photos / "red" / "lies.png").write_bytes(_png(60_000, 60_000, b""))
    return "lies.png"


def _with_two_large_pngs(photos):
    for i in range(2):
        rows = zlib.compress((bytes([0]) + bytes([i]) * 10_000) * 10_000, 1)
        (photos / "red" / f"large{i}.png").write_bytes(_png(10_000, 10_000, rows))
    return ""


def _with_pixel_bomb(photos):
    rows = zlib.compress(bytes(30_001) * 30_000, 9)
    (photos / "red" / "bomb.png").write_bytes(_png(30_000, 30_000, rows))
    return "bomb.png"


def _with_text_bomb(photos):
    rows = zlib.compress(bytes(33) * 32)
    text = b"Comment\0\0" + zlib.compress(bytes(1 << 29), 9)
    (photos / "red" / "text.png").write_bytes(_png(32, 32, rows, (b"zTXt", text)))
    return ""


def _with_large_gif(photos):
    (photos / "red" / "large.gif").write_bytes(b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x08\0;")
    return "large.gif"


def _with_lying_bmp(photos):
    data = bytearray(b"BM" + struct.pack("<IHHI", 1 << 30, 0, 0, 54) + struct.pack("<IiiHHIIiiII", *_bmp(9000, 9000)))
    (photos / "red" / "lies.bmp").write_bytes(data)
    return "lies.bmp"


def _with_lying_webp(photos):
    from pictures import encoded, picture

    data = bytearray(encoded(picture("red"), "webp"))
    place = data.index(b"\x9d\x01\x2a") + 3
    data[place : place + 4] = struct.pack("<HH", 16383, 6000)
    (photos / "red" / "lies.webp").write_bytes(data)
    return "lies.webp"


def _with_folder_named_as_an_image(photos):
    (photos / "red" / "a.jpg").mkdir()
    return ""


def _with_deep_folders(photos):
    deep = photos / "red"
    for _ in range(300):
        deep = deep / "d"
        deep.mkdir()
    return ""


def _bmp(width, height):
    return 40, width, height, 1, 24, 0, 0, 2835, 2835, 0, 0


def _png(width, height, rows, *more):
    """Returns a grey PNG of rows that are compressed already."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), *more, (b"IDAT", rows), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n"
    for kind, content in chunks:
        data += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return data
