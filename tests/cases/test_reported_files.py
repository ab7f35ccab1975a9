"""Public reports on files: which one a prediction belongs to."""

import csv
import pathlib

import pytest
from pictures import write_folder

import kresnet


@pytest.mark.parametrize("crops", ["center", "full"])
def test_each_file_has_its_prediction(tmp_path, crops):
    """keras#3296, keras-preprocessing#157: which file does a prediction belong to?"""
    photos = write_folder(tmp_path / "photos", count=3)
    assert kresnet.data.load(photos, "all", 32, 4).file_paths == tuple(map(str, sorted(photos.rglob("*.*"))))
    broken = photos / "green" / "0.jpg"
    broken.write_bytes(b"no image")
    model = kresnet.ResNet(depths=(1,), widths=(4,), stem="conv3", input_shape=(32, 32, 3), classes=3)
    found = kresnet.evaluate(model, photos, crops=crops, split="all", on_error="skip", verbose=False)
    expected = [str(path) for path in sorted(photos.rglob("*.*")) if path != broken]
    assert list(found.file_paths) == expected
    assert [found.class_names[label] for label in found.labels] == [pathlib.Path(p).parent.name for p in expected]
    found.to_csv(tmp_path / "x.csv")
    rows = list(csv.DictReader((tmp_path / "x.csv").open()))
    assert [row["image"] for row in rows] == expected
    for row, label, p in zip(rows, found.labels, found.probabilities, strict=True):
        assert (row["label"], row["predicted"]) == (found.class_names[label], found.class_names[p.argmax()])
        assert float(row["probability"]) == pytest.approx(p.max(), abs=1e-5)
        assert float(row["probability_of_label"]) == pytest.approx(p[label], abs=1e-5)
