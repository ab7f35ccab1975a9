"""Grad-CAM for any head: by gradients what the exact form gives, whatever the model is made of, and the picture."""

import keras
import numpy as np
import pytest
from PIL import Image

import kresnet
from kresnet.evaluation import cam

IMAGE = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype("float32")
L = keras.layers


def small(**fields):
    keras.utils.set_random_seed(0)
    fields = {"depths": (1, 1), "widths": (8, 16), "input_shape": (32, 32, 3), "classes": 4} | fields
    return kresnet.ResNet(**fields)


def with_head(head):
    """A map of 30x30 and whatever makes scores of it."""
    keras.utils.set_random_seed(0)
    image = keras.Input((32, 32, 3))
    x = L.Conv2D(4, 3, activation="relu", name="features")(L.Rescaling(1 / 255)(image))
    return keras.Model(image, head(x))


@pytest.mark.parametrize("activation", ["softmax", None])
def test_gradients_give_what_the_exact_form_gives(monkeypatch, activation):
    model = small(classifier_activation=activation)
    exact = cam.class_activation_maps(model, IMAGE[None], [[2]])[0, 0]
    assert 0 < exact.mean() < exact.max() == 1
    monkeypatch.setattr(cam, "_gradient", lambda *_: pytest.fail("the kernel tells"))
    np.testing.assert_allclose(kresnet.grad_cam(model, IMAGE, 2).map, exact, atol=1e-6)
    monkeypatch.undo()
    monkeypatch.setattr(cam, "_is_linear", lambda *_: False)
    np.testing.assert_allclose(kresnet.grad_cam(model, IMAGE, 2).map, exact, atol=1e-4)


def test_a_flattened_head():
    """Against finite differences: what the score gains if a channel rises everywhere."""
    keras.utils.set_random_seed(0)
    fields = {"widths": (4, 8, 8, 8, 8), "dense_widths": (16,), "classes": 3, "input_shape": (64, 64, 3)}
    model = kresnet.VGG11(**fields, head_dropout_rate=0.5)
    model.describe(labels=["a", "b", "c"])
    photo = np.random.default_rng(1).integers(0, 256, (64, 64, 3), "uint8")
    found = kresnet.grad_cam(model, photo)
    assert found.label == "abc"[found.class_index]
    assert found.score == pytest.approx(float(np.max(model(photo[None].astype("float32")))), abs=1e-5)
    features = model.get_layer("stage5_act2").output
    body = keras.Model(model.input, features)
    tail = keras.Model(features, model.get_layer("predictions").input)
    kernel = np.asarray(model.get_layer("predictions").kernel)[:, found.class_index]
    maps = np.asarray(body(photo[None].astype("float32")))
    steps = maps + 1e-3 * np.eye(maps.shape[-1], dtype="float32")[:, None, None]
    gains = (np.asarray(tail(steps)) - np.asarray(tail(maps))) @ kernel
    expected = np.maximum((maps[0] * gains).sum(-1), 0)
    np.testing.assert_allclose(found.map, expected / max(expected.max(), 1e-30), atol=2e-2)
    named = kresnet.grad_cam(model, photo, layer="stage5_act2")
    np.testing.assert_array_equal(named.map, found.map)
    assert kresnet.grad_cam(model, photo, layer="stage2_act1").map.shape == (32, 32)


@pytest.mark.parametrize("last", ["fused", "layer", "operation"])
@pytest.mark.parametrize("function", ["softmax", "sigmoid"])
def test_a_certain_network_has_a_map(last, function):
    """Behind a saturated softmax or sigmoid the gradient is 0; before it the map is that of the logits."""

    def head(x):
        scores = L.Dense(2, name="scores", activation=function if last == "fused" else None)(L.Flatten()(x))
        end = {
            "fused": lambda y: y,
            "layer": L.Activation(function, dtype="float32"),
            "operation": getattr(keras.ops, function),
        }
        return end[last](scores)

    model = with_head(head)
    dense = model.get_layer("scores")
    kernel, _ = dense.get_weights()
    dense.set_weights([kernel, np.float32([90, -90])])
    found = kresnet.grad_cam(model, IMAGE, 0)
    assert found.score == 1
    features = np.asarray(keras.Model(model.input, model.get_layer("features").output)(IMAGE[None]))[0]
    weights = kernel[:, 0].reshape(features.shape).mean((0, 1))  # the score is linear in the map
    expected = np.maximum(features @ weights, 0)
    np.testing.assert_allclose(found.map, expected / expected.max(), atol=1e-5)
    assert kresnet.grad_cam(model, IMAGE).score == 1  # its activation works as before


def test_one_sigmoid_and_a_map_that_is_not_all():
    binary = with_head(lambda x: L.Dense(1, "sigmoid")(L.Flatten()(x)))
    assert kresnet.grad_cam(binary, IMAGE).map.shape == (30, 30)
    assert kresnet.grad_cam(binary, IMAGE, 0).class_index == 0
    # The last map is one of two that are read: the other is held as it is.
    two = with_head(
        lambda x: L.Dense(3)(
            L.Concatenate()(
                [
                    L.GlobalMaxPooling2D()(x),
                    L.GlobalAveragePooling2D()(L.Conv2D(5, 3, use_bias=False, name="later")(x)),
                ]
            )
        )
    )
    found = kresnet.grad_cam(two, IMAGE, 1)
    later = np.asarray(keras.Model(two.input, two.get_layer("later").output)(IMAGE[None]))[0]
    expected = np.maximum(later @ two.layers[-1].get_weights()[0][4:, 1], 0)
    np.testing.assert_allclose(found.map, expected / expected.max(), atol=1e-5)


def test_the_last_call_of_a_shared_layer():
    """What a layer gives first is not changed by asking what its last map does to the score."""
    shared = L.Conv2D(4, 3, padding="same", use_bias=False, name="shared")
    model = with_head(lambda x: L.Dense(2)(L.GlobalAveragePooling2D()(shared(shared(x)))))
    found = kresnet.grad_cam(model, IMAGE, 1, layer="shared")
    x = np.asarray(keras.Model(model.input, model.get_layer("features").output)(IMAGE[None]))
    last = np.asarray(shared(shared(x)))[0]
    expected = np.maximum(last @ model.layers[-1].get_weights()[0][:, 1], 0)
    np.testing.assert_allclose(found.map, expected / expected.max(), atol=1e-5)


def test_models_within_models():
    inner = small(classifier_activation=None)
    inner.describe(labels=list("abcd"))
    expected = kresnet.grad_cam(inner, IMAGE, 2)
    image = keras.Input((32, 32, 3))
    deep = keras.Model(image, keras.Sequential([keras.Input((32, 32, 3)), L.Rescaling(1.0), inner])(image))
    for outer in (keras.Sequential([keras.Input((32, 32, 3)), L.Rescaling(1.0), inner, L.Softmax()]), deep):
        before = outer.to_json()
        found = kresnet.grad_cam(outer, IMAGE[None], 2)
        np.testing.assert_allclose(found.map, expected.map, atol=1e-4)
        assert outer.to_json() == before
    assert kresnet.grad_cam(keras.Sequential([keras.Input((32, 32, 3)), inner, L.Softmax()]), IMAGE, 2).label == "c"
    # A layer behind ours makes the scores: the kernel of `predictions` says nothing of them, nor do its labels.
    other = keras.Model(inner.input, L.Dense(4)(inner.output))
    assert kresnet.grad_cam(other, IMAGE, 2).label is None
    assert np.abs(kresnet.grad_cam(other, IMAGE, 2).map - expected.map).max() > 0.01


def test_a_photograph(tmp_path):
    from sklearn.datasets import load_sample_image

    photo = load_sample_image("flower.jpg")
    keras.utils.save_img(tmp_path / "flower.png", photo, scale=False)
    model = small()
    found = kresnet.grad_cam(model, tmp_path / "flower.png", class_index=3)
    same = kresnet.grad_cam(model, Image.fromarray(photo), class_index=np.int64(3))
    np.testing.assert_array_equal(same.map, found.map)
    assert found.overlay().size == (32, 32)
    assert np.array_equal(np.asarray(found.overlay(alpha=0)), found.image)
    assert np.abs(np.asarray(found.overlay(alpha=1)).astype(int) - found.image).max() > 50
    for name in ("new/cam.png", "cam.JPG"):
        found.save(tmp_path / name)
        assert Image.open(tmp_path / name).size == (32, 32)
    grey = small(input_shape=(32, 32, 1))
    assert kresnet.grad_cam(grey, tmp_path / "flower.png").image.shape == (32, 32, 3)


def test_what_is_refused(tmp_path):
    model = small()
    with pytest.raises(ValueError, match=r"in 0 to 3\. Received: class_index=4"):
        kresnet.grad_cam(model, IMAGE, 4)
    with pytest.raises(ValueError, match="Received: class_index=-1"):
        kresnet.grad_cam(model, IMAGE, -1)
    with pytest.raises(ValueError, match=r"Received: shape=\(16, 16, 3\)"):
        kresnet.grad_cam(model, IMAGE[:16, :16])
    with pytest.raises(ValueError, match=r"Received: shape=\(2, 32, 32, 3\)"):
        kresnet.grad_cam(model, np.stack([IMAGE, IMAGE]))
    with pytest.raises(ValueError, match="no such image"):
        kresnet.grad_cam(model, tmp_path / "absent.png")
    with pytest.raises(ValueError, match=r"Did you mean 'stage2_block1_out'.*Received: layer='stage2_block1_oot'"):
        kresnet.grad_cam(model, IMAGE, layer="stage2_block1_oot")
    with pytest.raises(ValueError, match=r"gives a feature map.*Received: layer='predictions'"):
        kresnet.grad_cam(model, IMAGE, layer="predictions")
    with pytest.raises(ValueError, match=r"\(batch, classes\)"):
        kresnet.grad_cam(small(features=True), IMAGE)
    words = keras.Input((8,))
    with pytest.raises(ValueError, match="one image and"):
        kresnet.grad_cam(keras.Model(words, L.Dense(2)(words)), np.zeros(8))
    image = keras.Input((32, 32, 3))
    flat = L.Dense(2)(L.Flatten()(L.Rescaling(1 / 255)(image)))
    with pytest.raises(ValueError, match=r"no feature map of its own\. Received: layers="):
        kresnet.grad_cam(keras.Model(image, flat), IMAGE)
    with pytest.raises(ValueError, match="outputs are not finite"):
        kresnet.grad_cam(model, IMAGE * np.nan)
    found = kresnet.grad_cam(model, IMAGE)
    with pytest.raises(ValueError, match=r"Received: alpha=1\.5"):
        found.overlay(alpha=1.5)
    with pytest.raises(ValueError, match=r"\.png, \.jpg, \.jpeg\. Received: path="):
        found.save(tmp_path / "cam.tiff")


@pytest.mark.slow
def test_on_jax(on_jax):
    printed = on_jax(
        """
        import unittest.mock
        import keras, numpy as np, kresnet
        from kresnet.evaluation import cam
        keras.utils.set_random_seed(2)  # of other weights the class may have no evidence at all
        model = kresnet.ResNet(depths=(1,), widths=(8,), input_shape=(32, 32, 3), classes=4)
        x = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype("float32")
        exact = cam.class_activation_maps(model, x[None], [[2]])[0, 0]
        with unittest.mock.patch.object(cam, "_is_linear", lambda *_: False):
            found = kresnet.grad_cam(model, x, 2)
        print(keras.backend.backend(), np.abs(found.map - exact).max() < 1e-4 < exact.max())
        """
    )
    assert printed.split()[-2:] == ["jax", "True"]
