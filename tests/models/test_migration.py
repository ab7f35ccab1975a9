"""docs/migrating.md: the networks of keras.applications and timm are ours by the names and differences it gives."""

import csv
import math
import pathlib
import re

import keras
import networks
import pytest

import kresnet

DOCUMENT = pathlib.Path(__file__).parents[2] / "docs" / "migrating.md"
PUBLISHED = pathlib.Path(kresnet.__file__).parent / "weights" / "pretrained.csv"
ROW = re.compile(r"^\| `(\w+)` \| `(\w+)` \| `(\w+)` \| (-?[\d,]+) \| (.*) \|$", re.MULTILINE)
ROWS = {row[0]: row[1:] for row in ROW.findall(DOCUMENT.read_text())}
QUICK = ("ResNet50", "MobileNetV2", "VGG16")


def trainable(build):
    with networks.without_weights():
        return sum(math.prod(weight.shape) for weight in build().trainable_weights)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.thorough) for name in ROWS]
)
def test_parameters_differ_by_what_is_said(name):
    ours, _, more, what = ROWS[name]
    theirs = trainable(lambda: getattr(keras.applications, name)(weights=None))
    assert theirs - trainable(getattr(kresnet, ours)) == int(more.replace(",", ""))
    assert bool(what) == (more != "0")


def test_no_network_of_ours_is_left_out():
    theirs = {name for name in dir(keras.applications) if name[0].isupper()}
    assert {name for name in theirs if hasattr(kresnet, name)} == ROWS.keys()
    (line,) = re.findall(r"^(`ConvNeXt`.*) are not here\.$", DOCUMENT.read_text(), re.MULTILINE)
    absent = re.findall(r"`(\w+)`", line)
    assert all(name.startswith(tuple(absent)) for name in theirs - ROWS.keys())


def test_timm_s_names_lead_to_the_same_networks():
    with PUBLISHED.open() as file:
        architectures = {row["architecture"] for row in csv.DictReader(file) if row["source"] == "timm"}
    with (pathlib.Path(__file__).parents[1] / "published.csv").open() as file:
        sources = " ".join(row["source"] for row in csv.DictReader(file))
    for ours, timm, _, _ in ROWS.values():
        builder = getattr(kresnet, ours)
        assert timm.removeprefix("tf_") == builder.key
        # timm's VGGs have weights that are torchvision's, and its ResNet-152 V2 has none.
        known = timm in architectures or f" {timm}" in sources
        assert known or timm in ("vgg16", "vgg19", "resnetv2_152"), timm
