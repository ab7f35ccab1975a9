"""Pictures of blocks: they show what the networks compute, and nothing covers anything."""

import itertools
import xml.etree.ElementTree as ET

import blocks
import draw
import pytest

import kresnet

QUICK = ("basic", "se", "densenet")
CASES = [
    pytest.param(*row, id=row[0], marks=() if row[0] in QUICK else pytest.mark.slow)
    for row in ((name, key, prefixes) for name, _, key, prefixes in draw.PICTURES)
]


def test_a_basic_block_is_the_paper_s():
    """He et al. 2015, figure 2: two 3x3, a norm after each, the input added before the last ReLU."""
    found = blocks.parts("resnet18", "stage2_block1_")
    assert [(part.text, part.sources) for part in found] == [
        ("64 channels", []),
        ("3\u00d73, 64", [0]),
        ("norm, ReLU", [1]),
        ("3\u00d73, 64", [2]),
        ("norm", [3]),
        ("+", [0, 4]),
        ("ReLU", [5]),
        ("64 channels", [6]),
    ]


def test_a_change_of_the_spec_shows():
    texts = [part.text for part in blocks.parts("resnet18", "stage2_block1_", se_reduction=16, activation="swish")]
    assert "mean of each channel" in texts
    assert "norm, swish" in texts
    with pytest.raises(ValueError, match=r"no layer of such a name\. Received: prefixes=\('stage9_',\)"):
        blocks.parts("resnet18", "stage9_")


@pytest.mark.parametrize(("name", "key", "prefixes"), CASES)
def test_pictures_are_current_and_clear(name, key, prefixes):
    found = blocks.parts(key, prefixes)
    (caption,) = (row[1] for row in draw.PICTURES if row[0] == name)
    text = draw.svg(found, caption)
    assert text == (draw.FOLDER / f"{name}.svg").read_text(), "run `make table`"
    nodes = draw.placed(found)
    for a, b in itertools.combinations(nodes, 2):
        assert a.rank != b.rank or abs(a.x - b.x) >= (a.width + b.width) / 2, "two boxes of a rank overlap"
    for part, node in zip(found, nodes, strict=False):
        assert all(nodes[source].rank < node.rank for source in part.sources), "an arrow points up"
    root = ET.fromstring(text)
    paths = [element for element in root.iter("{http://www.w3.org/2000/svg}path") if element.get("marker-end")]
    assert len(paths) == sum(len(part.sources) for part in found)


def test_no_other_pictures_lie_there():
    assert {path.stem for path in draw.FOLDER.iterdir()} == {row[0] for row in draw.PICTURES}


def test_every_family_has_a_picture():
    import families

    drawn = {families.of(key) for _, _, key, _ in draw.PICTURES}
    assert drawn == {families.of(key) for key in kresnet.list_models()} == set(families.GROUPS), "tools/draw.py"
    assert {name for group in families.GROUPS for name in group.pictures} == {row[0] for row in draw.PICTURES}
