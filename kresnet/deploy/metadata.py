"""Labels and a description inside a .tflite, in the form that MediaPipe and Android read.

A separate flatbuffer, in the model's buffer named TFLITE_METADATA, describes the input and the output; an archive
appended to the file holds `labels.txt`, one class per line, and `description.json`, from which kresnet's own readers
know the file.

Source: the schema `metadata_schema.fbs`, version 1.5.0, in github.com/google-ai-edge/mediapipe.
"""

from __future__ import annotations

import dataclasses
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kresnet import checks
from kresnet.inference.preprocessing import DESCRIPTION

FIELD = "TFLITE_METADATA"
IDENTIFIER = b"M001"
# Values of the schema's enumerations and unions.
_AXIS_LABELS, _RGB, _GRAYSCALE, _IMAGE, _FEATURE, _NORMALIZATION = 2, 1, 2, 2, 1, 1


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What a .tflite image classifier says about itself.

    Attributes:
        name: the network's name.
        description: what a reader should know about it.
        labels: the class names, or None.
        image_shape: (height, width, channels) in pixels.
        mean, std: how an app must normalize pixels, 0 to 255: subtract the mean, divide by the deviation. One number
            for all channels, or one per channel. By default pixels stay as they are.
    """

    name: str
    description: str
    labels: Sequence[str] | None
    image_shape: tuple[int, int, int]
    mean: Sequence[float] = (0.0,)
    std: Sequence[float] = (1.0,)

    def add_to(self, model: Any) -> None:
        """Adds the flatbuffer to a parsed .tflite, a `ModelT` of LiteRT's schema, in place."""
        from ai_edge_litert import schema_py_generated as schema

        buffer, field = schema.BufferT(), schema.MetadataT()
        buffer.data = np.frombuffer(self._packed(), "uint8")
        field.name, field.buffer = FIELD, len(model.buffers)
        model.buffers.append(buffer)
        model.metadata = [*(model.metadata or []), field]

    def append_to(self, path: Path, description: str) -> None:
        """Appends the archive with the labels, if there are any, and the description to a written .tflite."""
        with zipfile.ZipFile(path, "a") as archive:  # without a date, so that the same export gives the same file
            if self.labels is not None:
                archive.writestr(zipfile.ZipInfo("labels.txt"), "".join(f"{label}\n" for label in self.labels))
            archive.writestr(zipfile.ZipInfo(DESCRIPTION), description)

    def _packed(self) -> bytes:
        """Packs the flatbuffer. Tables are written inside out; a field's number is its position in the schema."""
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

        height, width, channels = self.image_shape
        colours = _RGB if channels == 3 else _GRAYSCALE if channels == 1 else 0
        size = table({0: ("Uint32", width), 1: ("Uint32", height)})
        properties = table({0: ("Int8", colours), 1: offset(size)})
        content = table({0: ("Uint8", _IMAGE), 1: offset(properties)})
        normalization = table({0: vector(self.mean, floats=True), 1: vector(self.std, floats=True)})
        unit = table({0: ("Uint8", _NORMALIZATION), 1: offset(normalization)})
        lowest, highest = ([(edge - m) / s for m, s in zip(self.mean, self.std, strict=True)] for edge in (0, 255))
        stats = table({0: vector(highest, floats=True), 1: vector(lowest, floats=True)})
        image = {0: text("image"), 1: text("RGB pixels, 0 to 255" if channels == 3 else "pixels, 0 to 255")}
        image = table({**image, 3: offset(content), 4: vector([unit]), 5: offset(stats)})

        features = table({0: ("Uint8", _FEATURE), 1: offset(table({0: ("Int8", 0)}))})
        probs = {0: text("probs"), 1: text("one number for each class"), 3: offset(features)}
        if self.labels is not None:
            file = {0: text("labels.txt"), 1: text("the class names, one per line"), 2: ("Int8", _AXIS_LABELS)}
            probs[6] = vector([table(file)])
        probs = table(probs)
        graph = table({2: vector([image]), 3: vector([probs])})
        fields = {0: text(self.name), 1: text(self.description), 3: vector([graph]), 7: text("1.0.0")}
        b.Finish(table(fields), IDENTIFIER)
        return bytes(b.Output())


def check_labels(labels: Any, classes: int) -> list[str]:
    """Returns `labels` as a list.

    Args:
        labels: an iterable of strings, the class names in order.
        classes: the number of classes that the network has.

    Raises:
        ValueError: if there are not as many labels as classes, or one is not a single line of text.
    """
    labels = list(labels)
    checks.require(
        len(labels) == classes, f"`labels` must name each of the network's {classes} classes", number=len(labels)
    )
    wrong = [label for label in labels if not isinstance(label, str) or not label or len(label.splitlines()) != 1]
    checks.require(not wrong, "Each of `labels` must be one line of text", labels=wrong[:3])
    return labels
