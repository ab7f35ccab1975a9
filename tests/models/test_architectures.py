"""Timm's residual architectures as specs of ours; tools/check_architectures.py compares each of them with timm's."""

import dataclasses
import gzip
import json
import pathlib

import check_architectures
import keras
import numpy as np
import pytest

import kresnet
from kresnet import layers
from kresnet.models.residual.architectures import ARCHITECTURES
from kresnet.models.residual.engine import RESIDUAL
from kresnet.models.residual.spec import ResNetSpec

FILE = pathlib.Path(__file__).parent.parent / "parity" / "architectures.json.gz"
STORED = json.loads(gzip.decompress(FILE.read_bytes()))
TINY = {"depths": (1, 1), "widths": (8, 16), "classes": 3}


@pytest.mark.slow
@pytest.mark.parametrize("name", STORED)
def test_a_network_of_each_new_field_computes_what_timms_does(name, undrawn_weights):
    assert check_architectures.difference(name, STORED[name]) < check_architectures.SMALLEST


def test_an_architecture_and_the_network_of_its_name_are_the_same():
    own = {name: kresnet.get_builder(name).spec for name in kresnet.list_models() if name in ARCHITECTURES}
    assert len(own) > 30
    assert [name for name, spec in own.items() if spec != ARCHITECTURES[name]] == ["senet154"]
    # Ours is its authors', whose weights timm has by another name.
    assert own["senet154"] == ARCHITECTURES["legacy_senet154"]


def test_no_two_names_are_one_architecture():
    assert len(set(ARCHITECTURES.values())) == len(ARCHITECTURES) == 92


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("resnet50", "ResNet, torchvision's and timm's"),
        ("ecaresnet50d", "ResNet-D, timm's"),
        ("ecaresnetlight", "ResNet-D, timm's"),
        ("senet154", "ResNet, torchvision's and timm's"),
        *((name, "SENet, timm's legacy") for name in ARCHITECTURES if name.startswith("legacy_")),
    ],
)
def test_names_tell_the_function_where_they_can(name, title):
    fitting = [
        layout.title for layout in RESIDUAL.layouts if layout.fits(ARCHITECTURES[name]) and "timm's" in layout.title
    ]
    assert title in fitting
    legacy = "SENet, timm's legacy"
    assert (legacy in fitting) == (legacy == title)
    assert not {"ResNet, torchvision's and timm's", "ResNet-D, timm's"} & {*fitting} - {title}


@pytest.mark.parametrize("size", [7, 8])
def test_blur_is_the_binomial_filter_with_reflected_edges(size):
    x = np.random.default_rng(0).standard_normal((1, size, size + 1, 2)).astype("float32")
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    rows = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:])[:, ::2] / 4
    expected = (rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:])[:, :, ::2] / 4
    np.testing.assert_allclose(layers.anti_aliased(x, "blur", name="blur"), expected, atol=1e-6)


def test_blur_of_a_single_pixel_is_that_pixel():
    x = np.full((1, 1, 1, 3), 5.0, "float32")
    np.testing.assert_allclose(layers.anti_aliased(x, "blur", name="blur"), x)


@pytest.mark.parametrize("kind", ["average", "blur"])
def test_branches_and_shortcuts_meet_at_any_size(kind):
    model = kresnet.ResNet(input_shape=(None, None, 3), **TINY, anti_alias=kind, shortcut="avg_conv", stem="deep")
    assert model(np.zeros((1, 36, 35, 3), "uint8")).shape == (1, 3)  # 18 x 18 and 9 x 9 pixels


@pytest.mark.parametrize(("channels", "size"), [(8, 3), (64, 3), (128, 5), (512, 5), (1024, 5), (2048, 7)])
def test_attention_reaches_as_far_as_its_paper_says(channels, size):
    x = keras.Input((4, 4, channels))
    model = keras.Model(x, layers.efficient_attention(x, name="eca"))
    (kernel,) = model.get_layer("eca_conv").weights
    assert kernel.shape == (size, 1, 1, 1)


def test_the_new_fields_leave_the_names_of_layers_as_they_were():
    default, other = (kresnet.ResNet(**TINY, **fields) for fields in ({}, {"attention": "eca", "anti_alias": "blur"}))
    old, new = ({layer.name for layer in model.layers} for model in (default, other))
    assert all(name.endswith("_pad") for name in old - new)
    assert all("eca" in name or "blur" in name for name in new - old)


@pytest.mark.slow
def test_what_takes_an_aliasing_steps_place_reloads_and_is_built_in_where_it_is_exported(tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    model = kresnet.ResNet(input_shape=(32, 32, 3), **TINY, attention="eca", anti_alias="blur", stem="tiered")
    model.save(tmp_path / "model.keras")
    copy = keras.models.load_model(tmp_path / "model.keras")
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("uint8")
    np.testing.assert_array_equal(copy(images), model(images))
    interpreter = Interpreter(str(kresnet.export(model, tmp_path / "model.tflite")))
    operators = {operator["op_name"] for operator in interpreter._get_ops_details()}
    assert {"AVERAGE_POOL_2D", "LOGISTIC"} <= operators
    assert not {name for name in operators if name.startswith(("Flex", "CUSTOM")) or name == "MIRROR_PAD"}


@pytest.mark.parametrize(
    "fields",
    [
        {"attention": "se"},
        {"attention": "eca", "se_reduction": 16},
        {"anti_alias": "max"},
        {"anti_alias": "blur", "preactivation": True},
        {"anti_alias": "blur", "stride_in": "1x1"},
        {"anti_alias": "average", "output_stride": 16},
        {"anti_alias": "average", "stem_pool": "ceil"},
        {"stem_pool": "mean"},
        {"stem_pool": "conv", "preactivation": True},
        {"activated_branch": True, "preactivation": True},
        {"activated_branch": 1},
        {"se_divisor": 0},
        {"stem": "tiered", "stem_width": 12},
        {"stride_at": "middle"},
        {"stride_at": "end"},
        {"stride_at": "end", "preactivation": True, "output_stride": 16},
        {"stride_at": "end", "preactivation": True, "shortcut": "avg_conv"},
        {"biases": True},
        {"biases": 1, "preactivation": True},
    ],
)
def test_nonsense_is_refused(fields):
    with pytest.raises(ValueError, match=f"Received: .*{next(iter(fields))}=") as refusal:
        dataclasses.replace(ResNetSpec(), **fields)
    assert "Received: " in str(refusal.value).splitlines()[-1]
