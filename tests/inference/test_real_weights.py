"""A network with weights that were really trained on ImageNet, on photographs that packages hold."""

import keras
import numpy as np
import pytest

import kresnet

skimage = pytest.importorskip("skimage")


@pytest.mark.slow
def test_it_knows_what_it_sees(tmp_path):
    from sklearn.datasets import load_sample_image

    photos = {
        "espresso": skimage.data.coffee(),
        "tiger cat": skimage.data.chelsea(),
        "palace": load_sample_image("china.jpg"),
        "daisy": load_sample_image("flower.jpg"),
    }
    for name, photo in photos.items():
        keras.utils.save_img(tmp_path / f"{name}.png", photo, scale=False)
    model = kresnet.EfficientNetLite0(weights="imagenet")
    assert (model.kresnet_config["crop_fraction"], model.kresnet_config["interpolation"]) == (0.875, "bicubic")
    seen = dict(kresnet.predict(model, [tmp_path / f"{name}.png" for name in photos], top=1))
    for name in ("espresso", "tiger cat", "palace"):
        ((label, share),) = seen[str(tmp_path / f"{name}.png")]
        assert label == name
        assert share > 0.2
    # The same pixels through the network itself, and the names of Keras's applications.
    scores = model.predict(np.stack([np.full((224, 224, 3), 128, "uint8")]), verbose=0)
    assert len(kresnet.decode_predictions(scores, top=3)[0]) == 3
