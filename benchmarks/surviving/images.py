"""Kinds of image. Survived: the pixels are those of Pillow's, upright and on white, or the error names the file."""

import io

import numpy as np
from PIL import Image, ImageOps

QUICK = 30
NAME = "photos/cat/1.img"


def tries(folder, rng, quick):
    from kresnet.data import images

    made = list(_kinds(rng))
    for name, data, good in rng.sample(made, QUICK) if quick else made:
        wrong = None
        try:
            found = images.decode(data, NAME)
            images.verify(data, NAME)
        except images.ImageError as error:
            said = str(error)
            wrong = f"refused: {said}" if good else None if said.startswith(NAME) and "\n" not in said else f"{said!r}"
        except Exception as error:
            wrong = f"{type(error).__name__}: {error}"
        else:
            wrong = _difference(found, data) if good else "it was read"
        yield wrong and f"{name}: {wrong}"


def _difference(found, data):
    """Returns how an image differs from what Pillow makes of it; None if by no more than JPEG decoders do."""
    with Image.open(io.BytesIO(data)) as image:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):
            image = Image.fromarray((np.asarray(image).astype("uint32") >> 8).astype("uint8"))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        expected = np.asarray(image.convert("RGB")).astype(int)
    if expected.shape != found.shape:
        return f"{found.shape} and not {expected.shape}"
    largest = np.abs(expected - found).max()
    return None if largest <= 3 else f"pixels differ by up to {largest}"


def _kinds(rng):
    """Yields a name, the bytes of a file, and whether it is a whole image of a kind that is read."""
    colours = np.random.default_rng(0).integers(0, 256, (6, 8, 3), "uint8")
    picture = Image.fromarray(colours).resize((48, 36), Image.Resampling.BICUBIC)
    alpha = Image.linear_gradient("L").resize(picture.size)
    rgba = picture.copy()
    rgba.putalpha(alpha)
    deep = Image.fromarray(np.asarray(picture.convert("L")).astype("uint16") * 257)
    whole = {}

    def saved(image, kind, **options):
        file = io.BytesIO()
        image.save(file, kind, **options)
        return file.getvalue()

    modes = {mode: picture.convert(mode) for mode in ("1", "L", "P", "RGB", "CMYK")} | {"RGBA": rgba, "I;16": deep}
    modes |= {"LA": rgba.convert("LA"), "palette of 4": picture.quantize(4), "palette of 2": picture.quantize(2)}
    modes |= {"palette of 16": picture.quantize(16), "clear palette": rgba.quantize(16)}
    for name, image in modes.items():
        for kind, allowed in (
            ("png", name != "CMYK"),
            ("jpeg", image.mode in ("1", "L", "RGB", "CMYK")),
            ("gif", image.mode in ("1", "L", "P", "RGB", "RGBA")),
            ("bmp", image.mode in ("1", "L", "P", "RGB", "RGBA")),
            ("webp", image.mode in ("L", "P", "RGB", "RGBA", "LA")),
        ):
            if allowed:
                whole[f"{kind}, {name}"] = saved(image, kind)
    tags = Image.Exif()
    for orientation in (*range(1, 9), 0, 9):
        tags[0x0112] = orientation
        for kind, options in (("jpeg", {"quality": 95}), ("png", {}), ("webp", {"lossless": True})):
            whole[f"{kind}, turned {orientation}"] = saved(picture, kind, exif=tags, **options)
    for name, options in {
        "progressive": {"progressive": True},
        "4:4:4": {"subsampling": 0},
        "4:2:2": {"subsampling": 1},
        "4:2:0": {"subsampling": 2},
        "quality 1": {"quality": 1},
        "quality 100": {"quality": 100},
        "restarts": {"restart_marker_blocks": 2},
        "comment": {"comment": b"\xff\xd9" * 100},
        "profile": {"icc_profile": b"no profile"},
    }.items():
        whole[f"jpeg, {name}"] = saved(picture, "jpeg", **options)
    whole["png, see-through grey"] = saved(picture.convert("L"), "png", transparency=120)
    whole["png, see-through colour"] = saved(Image.new("RGB", (9, 9), "red"), "png", transparency=(255, 0, 0))
    whole["webp, lossless"] = saved(rgba, "webp", lossless=True)
    frames = [picture, picture.rotate(90), picture.rotate(180)]
    for kind in ("gif", "webp", "png"):
        lossless = {"lossless": True} if kind == "webp" else {}
        whole[f"{kind}, animated"] = saved(picture, kind, save_all=True, append_images=frames, duration=10, **lossless)
    for size in ((1, 1), (1, 500), (500, 1), (7, 9)):
        for kind in ("jpeg", "png"):
            whole[f"{kind}, {size[0]} x {size[1]}"] = saved(picture.resize(size), kind)
    whole["gif, interlaced"] = saved(picture.convert("P"), "gif", interlace=True)
    whole["jpeg, two in a file"] = saved(picture, "mpo", save_all=True, append_images=frames[1:2])
    whole["jpeg, more behind it"] = whole["jpeg, RGB"] + b"more"
    for name, data in whole.items():
        yield name, data, True
    for name in (
        "jpeg, RGB",
        "jpeg, progressive",
        "jpeg, CMYK",
        "png, RGB",
        "png, I;16",
        "gif, P",
        "bmp, RGB",
        "webp, RGB",
    ):
        data = whole[name]
        for share in (0.0, 0.05, 0.5, 0.9):
            yield f"{name}, cut at {share:.0%}", data[: int(share * len(data))], False
    for kind in ("tiff", "ico", "ppm", "tga", "jpeg2000", "pdf", "eps", "avif"):
        try:
            other = saved(picture, kind)
        except (KeyError, OSError):  # Pillow was built without it
            continue
        yield f"{kind}, which is not read", other, False
    for name, data in {
        "HEIC": b"\0\0\0\x18ftypheic" + bytes(100),
        "HTML": b"<!DOCTYPE html><html></html>",
        "zeros": bytes(1000),
        "noise": rng.randbytes(1000),
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    }.items():
        yield f"{name} under an image's name", data, False
