"""Grad-CAM for any head: by gradients what the exact form gives, and the picture."""

import keras
import numpy as np
import pytest
from test_processes import python

import kresnet
from kresnet.evaluation import cam

IMAGE = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype("float32")


def small(**fields):
    keras.utils.set_random_seed(0)
    fields = {"depths": (1, 1), "widths": (8, 16), "input_shape": (32, 32, 3), "classes": 4} | fields
    return kresnet.ResNet(**fields)


def test_gradients_give_what_the_exact_form_gives():
    for activation in ("softmax", None):
        model = small(classifier_activation=activation)
        exact = cam.class_activation_maps(model, IMAGE[None], [[2]])[0, 0]
        np.testing.assert_allclose(cam._by_gradient(model, IMAGE, 2), exact, atol=1e-4)


def test_a_flattened_head_and_one_sigmoid():
    keras.utils.set_random_seed(0)
    fields = {"widths": (4, 8, 8, 8, 8), "dense_widths": (16,), "classes": 3, "input_shape": (64, 64, 3)}
    model = kresnet.VGG11(**fields, head_dropout_rate=0.5)
    model.describe(labels=["a", "b", "c"])
    photo = np.random.default_rng(1).integers(0, 256, (64, 64, 3), "uint8")
    found = kresnet.grad_cam(model, photo)
    assert found.label == "abc"[found.class_index]
    assert found.score == pytest.approx(float(np.max(model(photo[None].astype("float32")))), abs=1e-5)
    # The map is that of finite differences: what the score gains if a channel rises everywhere.
    features = model.get_layer("stage5_act2").output
    body = keras.Model(model.input, features)
    tail = keras.Model(features, model.get_layer("predictions").input)
    kernel = np.asarray(model.get_layer("predictions").kernel)[:, found.class_index]
    maps = np.asarray(body(photo[None].astype("float32")))
    steps = maps + 1e-3 * np.eye(maps.shape[-1], dtype="float32")[:, None, None]
    gains = (np.asarray(tail(steps)) - np.asarray(tail(maps))) @ kernel
    expected = np.maximum((maps[0] * gains).sum(-1), 0)
    np.testing.assert_allclose(found.map, expected / max(expected.max(), 1e-30), atol=2e-2)
    image = x = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(4, 3)(x)
    x = keras.layers.Flatten()(x)
    binary = keras.Model(image, keras.layers.Dense(1, "sigmoid")(x))
    assert kresnet.grad_cam(binary, IMAGE).map.shape == (30, 30)


def test_the_picture_and_what_is_refused(tmp_path):
    from sklearn.datasets import load_sample_image

    keras.utils.save_img(tmp_path / "flower.png", load_sample_image("flower.jpg"), scale=False)
    model = small()
    found = kresnet.grad_cam(model, tmp_path / "flower.png", class_index=3)
    picture = found.overlay()
    assert picture.size == (32, 32)
    assert np.array_equal(np.asarray(found.overlay(alpha=0)), found.image)
    with pytest.raises(ValueError, match=r"in 0 to 3\. Received: class_index=4"):
        kresnet.grad_cam(model, IMAGE, 4)
    with pytest.raises(ValueError, match=r"Received: shape=\(16, 16, 3\)"):
        kresnet.grad_cam(model, IMAGE[:16, :16])
    with pytest.raises(ValueError, match="no such image"):
        kresnet.grad_cam(model, tmp_path / "absent.png")
    with pytest.raises(ValueError, match=r"\(batch, classes\)"):
        kresnet.grad_cam(small(features=True), IMAGE)


@pytest.mark.slow
def test_on_jax():
    pytest.importorskip("jax")
    printed = python(
        """
        import numpy as np, kresnet
        from kresnet.evaluation import cam
        model = kresnet.ResNet(depths=(1,), widths=(8,), input_shape=(32, 32, 3), classes=4)
        x = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype("float32")
        exact = cam.class_activation_maps(model, x[None], [[2]])[0, 0]
        print(np.abs(cam._by_gradient(model, x, 2) - exact).max() < 1e-4)
        """,
        KERAS_BACKEND="jax",
    )
    assert printed.split()[-1] == "True"
