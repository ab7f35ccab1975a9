"""`kresnet export --quantize-aware`: a run goes on as int8 computes, and what it exports agrees with it."""

import json

import keras
import pytest

import kresnet
from kresnet import cli, recipes
from kresnet.deploy.quantize import is_quantize_aware
from kresnet.inference.tflite_file import TFLiteFile
from kresnet.training.quantized import further, tune


@pytest.mark.slow
def test_a_run_goes_on_by_its_recipe_and_goes_out(tmp_path, capsys):
    keras.utils.set_random_seed(0)
    model = kresnet.ResNet(depths=(1, 1), widths=(8, 16), stem="conv3", classes=10, input_shape=(8, 8, 1))
    settings = {"epochs": 3, "batch_size": 64, "flip": False, "split_seed": 5, "with_report": False, "verbose": False}
    kresnet.train(model, "digits", "quick", out=tmp_path / "run", **settings)
    file = tmp_path / "x.tflite"
    command = ["export", str(tmp_path / "run"), "--out", str(file), "--quantize", "int8"]
    assert cli.main([*command, "--quantize-aware"]) == 2
    assert "needs `--quantize int8 --quantize-aware --data SOURCE`" in capsys.readouterr().err
    assert cli.main([*command, "--data", "digits", "--quantize-aware", "--epochs", "1"]) == 0
    assert f"{tmp_path}/x-aware/ holds the network that computes with int8's rounding" in capsys.readouterr().out
    assert TFLiteFile(file).labels == list("0123456789")
    proof = json.loads((tmp_path / "x.json").read_text())["proof"]
    assert proof["top1_agreement"]["value"] >= 0.95
    assert proof["images"] == 359  # what the run held out, too
    aware = tmp_path / "x-aware"
    config = json.loads((aware / "config.json").read_text())
    assert (config["epochs"], config["split_seed"], config["recipe"]["flip"]) == (1, 5, False)
    assert config["recipe"]["learning_rate"] == pytest.approx(0.1 * recipes.QUICK.learning_rate)
    assert is_quantize_aware(keras.saving.load_model(aware / "best.keras", compile=False))
    with pytest.raises(ValueError, match=r"quantization-aware already: export that, or remove it\. Received: out="):
        tune(tmp_path / "run", "digits", out=aware)


def test_an_unknown_recipe_is_fine_tuning_without_augmentation():
    recipe = further(None, 2, 0.9)
    assert (recipe.epochs, recipe.augment, recipe.crop_fraction, recipe.schedule) == (2, None, 0.9, "cosine")
    assert recipe.learning_rate == pytest.approx(0.1 * recipes.FINE_TUNE.learning_rate)
    averaged = further({**vars(recipes.EFFICIENTNET), "name": "efficientnet"}, 1, None)
    assert (averaged.ema, averaged.warmup_epochs, averaged.augment) == (None, 0, "randaugment")
