"""Compound scaling: the formula, its effect on networks, and the two searches."""

import json
import re
import warnings

import pytest

import kresnet
from kresnet.models.mobile import efficientnet
from kresnet.search import scaling
from kresnet.search.scaling import CompoundScaling, grid_search, largest

TINY = {"table": [(1, 8, 1, 1), (4, 16, 2, 2)], "head_width": 32, "classes": 4}


def test_formula():
    scaling = CompoundScaling(2, alpha=1.1, beta=1.2, gamma=1.1)
    assert scaling.depth == pytest.approx(1.1**2)
    assert scaling.width == pytest.approx(1.2**2)
    assert scaling.resolution == pytest.approx(1.1**2)
    assert scaling.flops == pytest.approx((1.1 * 1.2**2 * 1.1**2) ** 2)
    assert CompoundScaling(1).flops == pytest.approx(1.2 * 1.1**2 * 1.15**2)
    assert CompoundScaling(1).pixels(224, 32) == 256
    assert CompoundScaling(0).pixels(300, 32) == 300


@pytest.mark.parametrize("wrong", [{"alpha": 0.9}, {"beta": 0.5}, {"gamma": 0}, {"alpha": "1"}])
def test_coefficients_under_1_are_refused(wrong):
    (name, value), *_ = wrong.items()
    with pytest.raises(ValueError, match=f"`{name}` must be a coefficient of at least 1 .* Received: {name}={value!r}"):
        CompoundScaling(1, **wrong)
    with pytest.raises(ValueError, match=f"Received: {name}={value!r}"):
        kresnet.EfficientNet(phi=1, **wrong)


def test_a_product_far_from_2_is_a_warning_that_gives_it():
    with pytest.warns(UserWarning, match=r"alpha \* beta\*\*2 \* gamma\*\*2 is 3\.375"):
        CompoundScaling(1, 1.5, 1.5, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("key", ["efficientnet_b0", "efficientnet_b3", "mobilenetv2_100", "resnet50", "wrn_16_8"])
def test_phi_0_is_the_baseline_exactly(key, no_weights):
    assert kresnet.create_model(key, phi=0).to_json() == kresnet.create_model(key).to_json()


@pytest.mark.slow
def test_phi_scales_blocks_channels_and_pixels(no_weights):
    model = kresnet.EfficientNet(phi=2, alpha=1.1, beta=1.2, gamma=1.1)
    names = [layer.name for layer in model.layers]
    assert (
        sum(bool(re.fullmatch(r"stage7_block\d_add", name)) for name in names) == 5 - 1
    )  # ceil(4 * 1.21), less the first
    assert model.get_layer("stage2_block1_conv2").filters == 24  # 16 * 1.44 = 23.04
    assert model.input_shape == (None, 256, 256, 3)  # 224 * 1.21 = 271.04, to a multiple of 32
    for builder in (kresnet.ResNeXt50_32x4d, kresnet.MobileNetV2):
        base, scaled = (kresnet.cost(builder(phi=phi)) for phi in (0, 1))
        assert 1.3 < scaled.macs / base.macs < 3.1, builder.__name__
        assert scaled.params > base.params
    model = kresnet.ResNet50(phi=1)
    assert model.input_shape == (None, 256, 256, 3)
    assert "stage3_block5_out" in {layer.name for layer in model.layers}  # ceil(4 * 1.2)
    assert model.get_layer("stage2_block1_conv2").filters == 72  # 64 * 1.1 = 70.4
    assert kresnet.ResNet(groups=32, phi=1).get_layer("stage3_block1_conv2").filters % 32 == 0


def test_phi_shrinks_too(no_weights):
    small = kresnet.EfficientNet(phi=-2)
    assert small.input_shape == (None, 160, 160, 3)
    assert kresnet.cost(small).macs < kresnet.cost(kresnet.EfficientNet()).macs / 2


def test_alpha_alone(no_weights):
    assert kresnet.MobileNetV2(alpha=0.5).count_params() == kresnet.MobileNetV2_050().count_params()
    for builder in (kresnet.ResNet50, kresnet.EfficientNet):
        with pytest.raises(ValueError, match=r"coefficients need `phi`. Received: alpha=1.1"):
            builder(alpha=1.1)
    with pytest.raises(ValueError, match=r"need `phi`. Received: alpha=0.5, beta=1.1"):
        kresnet.MobileNetV2(alpha=0.5, beta=1.1)


def test_the_documented_table_of_published_and_formula():
    rows = re.findall(r"^\| B(\d) +\| (.+) \|$", efficientnet.__doc__, re.MULTILINE)
    assert len(rows) == 7
    for number, text in rows:
        published_depth, depth, published_width, width, published_pixels, pixels, phi = map(float, text.split("|"))
        builder, scaling = kresnet.get_builder(f"efficientnet_b{number}"), CompoundScaling(phi)
        spec = builder.spec
        assert (spec.depth_multiplier, spec.width_multiplier) == (published_depth, published_width)
        assert builder.input_size == published_pixels
        assert (round(scaling.depth, 2), round(scaling.width, 2)) == (depth, width)
        assert round(224 * scaling.resolution, 1) == pixels


@pytest.mark.slow
def test_grid_search_finds_the_best(tmp_path, no_weights):
    def score(model):
        return -abs(model.input_shape[1] - 256)  # likes resolution 256 best

    ranked = grid_search(kresnet.EfficientNet, score, step=0.1, tolerance=0.1, **TINY)
    assert [c.score for c in ranked] == sorted((c.score for c in ranked), reverse=True)
    assert ranked[0].gamma in (1.1, 1.2)
    points = {(c.alpha, c.beta, c.gamma) for c in ranked}
    assert len(points) == len(ranked) > 10
    assert all(1.8 <= a * b**2 * c**2 <= 2.2 and min(a, b, c) >= 1 for a, b, c in points)
    every = {
        (a / 10, b / 10, c / 10)
        for a in range(10, 30)
        for b in range(10, 30)
        for c in range(10, 30)
        if 1.8 <= a * b**2 * c**2 / 1e5 <= 2.2
    }
    assert points == every
    model = kresnet.EfficientNet(phi=1, alpha=ranked[0].alpha, beta=ranked[0].beta, gamma=ranked[0].gamma, **TINY)
    assert (ranked[0].macs, ranked[0].params) == (kresnet.cost(model).macs, kresnet.cost(model).params)


def test_grid_search_survives_an_interruption(tmp_path):
    journal, options = tmp_path / "journal.jsonl", {"step": 0.2, "tolerance": 0.1, **TINY}
    scored = []

    def interrupted(model):
        if len(scored) == 2:
            raise KeyboardInterrupt
        scored.append(model.count_params())
        return len(scored)

    with pytest.warns(UserWarning, match="Interrupted: 2 of"):
        first = grid_search(kresnet.EfficientNet, interrupted, journal=journal, **options)
    assert len(first) == 2
    with journal.open("a") as file:
        file.write('{"alpha": 1.2, "be')  # a kill in mid-line
    again = []
    ranked = grid_search(kresnet.EfficientNet, lambda model: again.append(0) or 0, journal=journal, **options)
    assert len(ranked) == len(again) + 2 == len(journal.read_text().splitlines())
    assert {c.score for c in ranked} == {0, 1, 2}
    with pytest.raises(ValueError, match="journal belongs to another search"):
        grid_search(kresnet.EfficientNet, interrupted, journal=journal, **options | {"step": 0.3})
    journal.write_text("not JSON\n" + json.dumps({}) + "\n")
    with pytest.raises(ValueError, match="Line 1 is not a candidate"):
        grid_search(kresnet.EfficientNet, interrupted, journal=journal, **options)


@pytest.mark.slow
@pytest.mark.parametrize("limit", [{"macs": 30e6}, {"params": 20_000}, {"macs": 30e6, "params": 9_000}])
def test_largest_is_the_largest(limit, no_weights):
    phi = largest(kresnet.EfficientNet, **limit, **TINY)
    assert phi == round(phi, 2)

    def fits(phi):
        costs = kresnet.cost(kresnet.EfficientNet(phi=phi, **TINY))
        return costs.macs <= limit.get("macs", 1e99) and costs.params <= limit.get("params", 1e99)

    assert fits(phi)
    assert not fits(round(phi + 0.01, 2))


@pytest.mark.thorough
def test_largest_tflite(tmp_path):
    fields = {"table": [(1, 8, 1, 1)], "head_width": 16, "classes": 4, "gamma": 1.0, "alpha": 1.65}
    phi = largest(kresnet.EfficientNet, tflite_bytes=14_500, **fields)
    sizes = [
        kresnet.export(kresnet.EfficientNet(phi=p, **fields), tmp_path / "m.tflite", latency=False).stat().st_size
        for p in (phi, round(phi + 0.01, 2))
    ]
    assert sizes[0] <= 14_500 < sizes[1]


def test_largest_exports_each_network_once(monkeypatch):
    """Of the hundredths of phi that are tried, many give the same layers."""
    exported = []
    monkeypatch.setattr(scaling, "_tflite_bytes", lambda model: exported.append(model.count_params()) or exported[-1])
    fields = {"table": [(1, 8, 1, 1)], "head_width": 16, "classes": 4, "gamma": 1.0, "alpha": 1.0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        largest(kresnet.EfficientNet, tflite_bytes=1000, **fields)
    assert len(exported) == len(set(exported)) > 1


def test_largest_refuses_what_cannot_be():
    with pytest.raises(ValueError, match=r"at least one limit. Received: macs=None, params=None, tflite_bytes=None"):
        largest(kresnet.EfficientNet)
    with pytest.raises(ValueError, match=r"Even the smallest network exceeds a limit. Received: macs=10"):
        largest(kresnet.EfficientNet, macs=10, **TINY)
