"""The README tells the truth: its table is current, and its code runs as printed."""

import configparser
import re

import keras
import network_tables
import pytest


def test_table_is_current():
    text = network_tables.README.read_text()
    assert text == network_tables.with_table(text), "run `make table`"


@pytest.mark.slow
def test_code_runs(tmp_path, monkeypatch):
    """As printed but for the photos, and for what would take minutes: the epochs, sizes, the depth."""
    code = re.search(r"```python\n(.*?)```", network_tables.README.read_text(), re.DOTALL)[1]
    for name in "ab":
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(4):
            keras.utils.save_img(tmp_path / "photos" / name / f"{i}.png", keras.ops.ones((50, 40, 3)) * 20 * i)
    code = re.sub(r"epochs=\d+", "epochs=1", code).replace("224", "32").replace("batch_size=32", "batch_size=2")
    code = code.replace("batch_size=64", "batch_size=2, image_size=32, model_fields=SMALL")
    code = code.replace("classes=len", "input_shape=(32, 32, 3), **SMALL, classes=len")
    monkeypatch.chdir(tmp_path)
    exec(code, {"SMALL": {"depths": (1, 1), "widths": (16, 32)}})
    assert (tmp_path / "saved_models" / "photos.tflite").stat().st_size > 100_000


def test_every_extra_is_named():
    setup = configparser.ConfigParser()
    setup.read(network_tables.README.parent / "setup.cfg")
    (bullet,) = re.findall(r"^- \*\*Extras\*\*.*?(?=^- )", network_tables.README.read_text(), re.DOTALL | re.MULTILINE)
    named = set(re.findall(r"`([a-z]+)`", bullet))
    assert named == set(setup["options.extras_require"])
