"""The command: a search on embedded digits, and what it found is trained."""

import json
import re

import keras
import optuna
import pytest

import kresnet
from kresnet.cli import main
from kresnet.search import journal

SMALL = ["table=[[1,8,1,2]]", "stem_width=8", "head_width=16"]
DATA = ["--data", "digits", "--batch-size", "256", "--epochs", "1"]


@pytest.mark.slow
def test_a_search_and_the_training_of_what_it_found(tmp_path, capsys):
    out, run = tmp_path / "x", tmp_path / "run"
    search = ["search", "--space", "mobile", "--model", *SMALL, *DATA, "--image-size", "16", "--no-flip"]
    search += ["--latency-ms", "5", "--parameters", "5e3", "--out", str(out)]
    assert main([*search, "--trials", "1"]) == 0
    printed = capsys.readouterr().out
    assert re.match(
        r"trial 0: accuracy [\d.]+%, [\d.]+ ms, [\d.]+ thousand parameters, reward .*; about 0 s left\n", printed
    )
    assert f"kresnet train {out}/best trains it" in printed
    made = {"best", "latency.json", "report.html", "search.json", "trials", "trials.db"}
    assert {path.name for path in out.iterdir()} == made
    assert main([*search, "--trials", "2", "--resume"]) == 0
    assert capsys.readouterr().out.startswith("trial 1: accuracy ")
    best = json.loads((out / "best" / "network.json").read_text())
    costs = best["search"]["costs"]
    assert costs["parameters"] <= 5000
    assert 0 < costs["latency_ms"] <= 5
    scored = kresnet.evaluate(out / "best" / "best.keras", "digits", verbose=False)
    assert scored.accuracy() == pytest.approx(best["search"]["accuracy"], abs=1e-6)
    assert main(["train", str(out / "best"), *DATA, "--out", str(run)]) == 0
    trained = keras.saving.load_model(run / "best.keras")
    assert trained.input_shape == (None, 16, 16, 1), "its size is the search's, and digits are grey"
    assert trained.count_params() == costs["parameters"]
    assert trained.kresnet_config["changes"]["stem_width"] == 8
    parents = [
        trial.user_attrs.get("parent")
        for trial in optuna.load_study(study_name=journal.STUDY, storage=f"sqlite:///{out / 'trials.db'}").trials
    ]
    assert parents == [None, 0], "the second one begins with the first one's weights"


def test_a_search_that_cannot_be(capsys, tmp_path):
    options = ["--data", "digits", "--out", str(tmp_path / "x")]
    assert main(["search", "--space", "moblie", *options, "--trials", "1"]) == 2
    assert "Did you mean 'mobile'" in capsys.readouterr().err
    assert main(["search", "--space", "mobile", *options]) == 2
    assert "A budget has trials or hours" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
