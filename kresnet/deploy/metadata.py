"""Labels and a description inside a .tflite, in the form that MediaPipe and Android read.

A flatbuffer of its own, in a buffer of the model's named TFLITE_METADATA, says what goes in and comes out; and an
archive appended to the file holds `labels.txt`, one class a line.

Source: the schema `metadata_schema.fbs`, version 1.5.0, in github.com/google-ai-edge/mediapipe.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from typing import Any

from kresnet import checks

FIELD = "TFLITE_METADATA"
IDENTIFIER = b"M001"
# Values of the schema's enumerations and unions.
_AXIS_LABELS, _RGB, _GRAYSCALE, _IMAGE, _FEATURE, _NORMALIZATION = 2, 1, 2, 2, 1, 1


def attach(
    content: bytes,
    *,
    name: str,
    description: str,
    labels: Sequence[str] | None,
    image_shape: tuple[int, int, int],
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
) -> bytes:
    """Puts metadata into a .tflite image classifier.

    Args:
        content: the file's content.
        name: the network's name.
        description: what a reader should know of it.
        labels: the classes' names, or None.
        image_shape: (height, width, channels) in pixels.
        mean, std: what an app must do to pixels, 0 to 255: subtract the mean and divide by the deviation. For all
            channels, or one for each. The defaults: nothing.

    Returns:
        The new content.
    """
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    file = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    buffer = schema.BufferT()
    buffer.data = list(_metadata(name, description, labels, image_shape, mean, std))
    field = schema.MetadataT()
    field.name, field.buffer = FIELD, len(file.buffers)
    file.buffers.append(buffer)
    file.metadata = [*(file.metadata or []), field]
    whole = io.BytesIO(flatbuffer_utils.convert_object_to_bytearray(file))
    if labels is not None:
        with zipfile.ZipFile(whole, "a") as archive:  # a date of its own would make no two files equal
            archive.writestr(zipfile.ZipInfo("labels.txt"), "".join(f"{label}\n" for label in labels))
    return whole.getvalue()


def check_labels(labels: Any, classes: int) -> list[str]:
    """Returns the labels as a list if they name that many classes, each in one line of text."""
    labels = list(labels)
    checks.require(
        len(labels) == classes, f"`labels` must name the network's {classes} classes, one each", number=len(labels)
    )
    wrong = [label for label in labels if not isinstance(label, str) or not label or len(label.splitlines()) != 1]
    checks.require(not wrong, "`labels` must be names of one line", labels=wrong[:3])
    return labels


def _metadata(name: str, description: str, labels: Any, shape: Any, mean: Any, std: Any) -> bytes:
    """Packs the flatbuffer. Tables are written from the inside out; a field's number is its place in the schema."""
    import flatbuffers

    b = flatbuffers.Builder()

    def table(fields: dict[int, tuple[str, Any]]) -> int:
        b.StartObject(max(fields) + 1)
        for slot, (kind, value) in fields.items():
            getattr(b, f"Prepend{kind}Slot")(slot, value, 0)
        return b.EndObject()

    def offset(value: int) -> tuple[str, int]:
        return "UOffsetTRelative", value

    def text(value: str) -> tuple[str, int]:
        return offset(b.CreateString(value))

    def vector(items: Sequence[Any], floats: bool = False) -> tuple[str, int]:
        b.StartVector(4, len(items), 4)
        for item in reversed(items):
            b.PrependFloat32(float(item)) if floats else b.PrependUOffsetTRelative(item)
        return offset(b.EndVector())

    height, width, channels = shape
    colours = _RGB if channels == 3 else _GRAYSCALE if channels == 1 else 0
    size = table({0: ("Uint32", width), 1: ("Uint32", height)})
    properties = table({0: ("Int8", colours), 1: offset(size)})
    content = table({0: ("Uint8", _IMAGE), 1: offset(properties)})
    normalization = table({0: vector(mean, floats=True), 1: vector(std, floats=True)})
    unit = table({0: ("Uint8", _NORMALIZATION), 1: offset(normalization)})
    lowest, highest = ([(edge - m) / s for m, s in zip(mean, std, strict=True)] for edge in (0, 255))
    stats = table({0: vector(highest, floats=True), 1: vector(lowest, floats=True)})
    image = {0: text("image"), 1: text("RGB pixels, 0 to 255" if channels == 3 else "pixels, 0 to 255")}
    image = table({**image, 3: offset(content), 4: vector([unit]), 5: offset(stats)})

    features = table({0: ("Uint8", _FEATURE), 1: offset(table({0: ("Int8", 0)}))})
    probs = {0: text("probs"), 1: text("one number for each class"), 3: offset(features)}
    if labels is not None:
        file = {0: text("labels.txt"), 1: text("the classes' names, one a line"), 2: ("Int8", _AXIS_LABELS)}
        probs[6] = vector([table(file)])
    probs = table(probs)
    graph = table({2: vector([image]), 3: vector([probs])})
    fields = {0: text(name), 1: text(description), 3: vector([graph]), 7: text("1.0.0")}
    b.Finish(table(fields), IDENTIFIER)
    return bytes(b.Output())
