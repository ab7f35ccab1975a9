"""The Inception networks against their papers' tables, and their auxiliary classifiers."""

import keras
import numpy as np
import pytest
from pictures import COLOURS, write_folder

import kresnet
from kresnet import weights

# Arguments that leave little of a network.
SMALL = {"classes": 3, "width_multiplier": 0.05}
ROWS = ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64))
GOOGLENET = {"modules": (ROWS[:1], ROWS, ROWS[:1])}

# Table 1 of arXiv:1409.4842: output of each module, its parameters in Ki (1024), and where these err, those of the
# row's own widths.
TABLE = {
    "stage3_block1": (28, 256, 159, None),
    "stage3_block2": (28, 480, 380, 379),
    "stage4_block1": (14, 512, 364, 366),
    "stage4_block2": (14, 512, 437, 438),
    "stage4_block3": (14, 512, 463, 497),
    "stage4_block4": (14, 528, 580, 590),
    "stage4_block5": (14, 832, 840, 847),
    "stage5_block1": (7, 832, 1072, 1018),
    "stage5_block2": (7, 1024, 1388, 1409),
}


def test_googlenet_is_the_paper_s_table(undrawn_weights):
    model = kresnet.GoogLeNet2014()
    for name, (size, channels, printed, right) in TABLE.items():
        assert model.get_layer(f"{name}_concat").output.shape == (None, size, size, channels)
        kernels = [layer.kernel for layer in model.layers if layer.name.startswith(name) and "_conv" in layer.name]
        assert sum(int(np.prod(kernel.shape)) for kernel in kernels) // 1024 == (right or printed)
    for name, shape in {"stem_pool": (56, 64), "stage2_act2": (56, 192), "stage2_pool": (28, 192)}.items():
        assert model.get_layer(name).output.shape == (None, shape[0], shape[0], shape[1])
    # Of the first convolution the table has 2.7 K parameters: it has 7 * 7 * 3 * 64.
    assert model.get_layer("stem_conv").kernel.shape == (7, 7, 3, 64)


GRIDS = {
    # Table 1 of arXiv:1512.00567.
    "inception_v3": {"stem": (147, 64), "stage2": (71, 192), "stage3": (35, 288), "stage4": (17, 768)},
    # Figures 3 and 9 of arXiv:1602.07261.
    "inception_v4": {"stage2": (71, 192), "stage3": (35, 384), "stage4": (17, 1024), "stage5": (8, 1536)},
    # Figures 14 and 15.
    "inception_resnet_v1": {"stage2": (71, 192), "stage3": (35, 256), "stage4": (17, 896), "stage5": (8, 1792)},
    # The authors' code.
    "inception_resnet_v2": {"stage2": (71, 192), "stage3": (35, 320), "stage4": (17, 1088), "stage5": (8, 2080)},
}


@pytest.mark.slow
@pytest.mark.parametrize(("key", "shapes"), GRIDS.items())
def test_grids_are_the_papers(key, shapes, undrawn_weights):
    model = kresnet.create_model(key, input_shape=(299, 299, 3), features=list(shapes))
    assert {name: (output.shape[1], output.shape[-1]) for name, output in model.output.items()} == shapes


def test_the_naive_module_keeps_what_it_pools():
    model = kresnet.GoogLeNet(reduced=False, input_shape=(64, 64, 3), classes=3, **GOOGLENET)
    assert model.get_layer("stage3_block1_concat").output.shape[-1] == 64 + 128 + 32 + 192
    assert not any("pool_conv" in layer.name or "branch4_conv" in layer.name for layer in model.layers)


def test_the_last_residual_module_of_v2_is_linear():
    arguments = {"depths": (1, 1, 2), "input_shape": (75, 75, 3), **SMALL}
    second = kresnet.InceptionResNetV2(residual_scales=(0.5, 0.3, 0.2), **arguments)
    scales = [layer.scale for layer in second.layers if layer.name.endswith("_scale")]
    assert scales == [0.5, 0.3, 0.2]
    names = [layer.name for layer in second.layers]
    assert "stage5_block2_out" in names
    assert "stage5_block3_out" not in names
    first = kresnet.InceptionResNetV1(**arguments)
    assert [layer.scale for layer in first.layers if layer.name.endswith("_scale")] == [0.17, 0.1, 0.2, 0.2]


@pytest.mark.parametrize(
    ("key", "fields", "names"),
    [
        ("googlenet", GOOGLENET, {"auxiliary1", "auxiliary2"}),
        ("googlenet2014", GOOGLENET, {"auxiliary1", "auxiliary2"}),
        ("inception_v3", {"depths": (1, 1, 1)}, {"auxiliary"}),
    ],
)
def test_auxiliary_classifiers_leave_the_network_as_it_is(key, fields, names, tmp_path):
    size = 299 if key == "inception_v3" else 96
    build = kresnet.get_builder(key)
    whole = build(auxiliary=True, input_shape=(size, size, 3), **SMALL, **fields)
    assert set(whole.output) == {"predictions", *names}
    assert {output.shape for output in whole.output.values()} == {(None, 3)}
    x = np.random.default_rng(0).integers(0, 256, (2, size, size, 3)).astype("float32")
    if build.spec.batch_norm:  # which the layout of checkpoints has
        kresnet.save_weights(whole, tmp_path / "whole.safetensors", layout="torchvision")
        alone = build(input_shape=(size, size, 3), weights=tmp_path / "whole.safetensors", **SMALL, **fields)
        np.testing.assert_allclose(alone(x), whole(x)["predictions"], atol=1e-6)
        again = build(auxiliary=True, input_shape=(size, size, 3), **SMALL, **fields)
        weights.load(again, tmp_path / "whole.safetensors", build.layouts)
        for one, other in zip(again(x).values(), whole(x).values(), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)


def test_weights_of_other_classes_leave_all_classifiers_out(tmp_path):
    arguments = {"auxiliary": True, "input_shape": (64, 64, 3), "width_multiplier": 0.05, **GOOGLENET}
    kresnet.save_weights(
        kresnet.GoogLeNet(classes=3, **arguments), tmp_path / "three.safetensors", layout="torchvision"
    )
    model = kresnet.GoogLeNet(classes=5, **arguments)
    said = weights.load(model, tmp_path / "three.safetensors", kresnet.GoogLeNet.layouts, head="fitting")
    assert said
    assert said[0].startswith("The classifier is new")


def test_files_without_auxiliary_classifiers_leave_them_new(tmp_path, capsys):
    arguments = {"input_shape": (64, 64, 3), **SMALL, **GOOGLENET}
    alone, x = kresnet.GoogLeNet(**arguments), np.ones((1, 64, 64, 3), "float32")
    kresnet.save_weights(alone, tmp_path / "alone.safetensors", layout="torchvision")
    whole = kresnet.GoogLeNet(auxiliary=True, weights=tmp_path / "alone.safetensors", **arguments)
    assert "The auxiliary classifiers are new: the weights have none." in capsys.readouterr().err
    np.testing.assert_allclose(whole(x)["predictions"], alone(x), atol=1e-6)
    whole.save_weights(tmp_path / "whole.weights.h5")  # and Keras's files, the other way round
    again = kresnet.GoogLeNet(weights=tmp_path / "whole.weights.h5", **arguments)
    np.testing.assert_allclose(again(x), alone(x), atol=1e-6)


@pytest.mark.slow
def test_a_recipe_trains_them_along(tmp_path):
    """The auxiliary dense layers learn, and what is saved has none."""
    photos, run = write_folder(tmp_path / "photos"), tmp_path / "run"
    fields = {"width_multiplier": 0.05, "modules": GOOGLENET["modules"]}
    arguments = {"epochs": 1, "image_size": 32, "batch_size": 8, "verbose": False, "with_report": False, "ema": None}
    history = kresnet.train("googlenet", photos, "googlenet2014", out=run, model_fields=fields, **arguments)
    # Three losses of about log(3), with weights 1, 0.3 and 0.3, against one.
    assert history.history["loss"][0] > 1.2 * history.history["val_loss"][0]
    saved = keras.saving.load_model(run / "best.keras")
    assert saved.output_shape == (None, len(COLOURS))
    assert not any(layer.name.startswith("auxiliary") for layer in saved.layers)


def test_what_cannot_be():
    with pytest.raises(ValueError, match=r"must be at least \(75, 75, channels\). Received: input_shape=\(74, 75, 3\)"):
        kresnet.InceptionV3(input_shape=(74, 75, 3))
    with pytest.raises(ValueError, match=r"auxiliary classifier needs images of 299x299 .*feature_map=\(12, 12, 768\)"):
        kresnet.InceptionV3(auxiliary=True, input_shape=(224, 224, 3))
    with pytest.raises(ValueError, match=r"a feature map of 5x5 and more. Received: feature_map=\(4, 4, 32\)"):
        kresnet.GoogLeNet2014(auxiliary=True, input_shape=(64, 64, 3), **SMALL, **GOOGLENET)
    with pytest.raises(ValueError, match=r"`modules` must hold three stages of rows of six widths. Received: modules="):
        kresnet.GoogLeNet(modules=((1, 2),))
    with pytest.raises(
        ValueError, match=r"`residual_scales` must be three numbers. Received: residual_scales=\(0.1,\)"
    ):
        kresnet.InceptionResNetV2(residual_scales=(0.1,))
    with pytest.raises(ValueError, match=r"`version` must be one of 1, 2. Received: version=3"):
        kresnet.InceptionResNetV2(version=3)
