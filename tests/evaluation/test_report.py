"""The report shows what it was given, also in a browser, and refuses what does not fit together."""

import math
import os
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import kresnet
from kresnet.evaluation import cam, drawings, report

CLASSES, N = 7, 60
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (N, 32, 32, 3), "uint8")
LABELS = RANDOM.integers(0, CLASSES, N)
NAMES = ["<script>document.title = 'run'</script>", "a & b", '" onerror="alert(1)', "żółw", "d", "e", "f"]
HISTORY = {
    "loss": [2.0, 1.0, 0.02],
    "val_loss": [2.1, math.nan, 0.5],
    "accuracy": [0.2, 0.5, 0.9],
    "val_accuracy": [0.1, math.nan, 0.7],
    "learning_rate": [0.1, 0.01, 0.001],
    "<b>gradient_norm": [3.0, 2.0, 1.0],
}


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    fields = {"depths": (1, 1), "widths": (8, 16), "stem": "conv3", "head_dropout_rate": 0.5}
    return kresnet.ResNet(**fields, input_shape=(32, 32, 3), classes=CLASSES, name="tiny")


@pytest.fixture
def arguments(model):
    return {"model": model, "images": IMAGES, "labels": LABELS, "class_names": NAMES, "history": HISTORY}


def opened(browser, path):
    browser.errors()
    browser.get(path.as_uri())
    return browser


@pytest.mark.slow
def test_in_a_browser(arguments, model, browser, tmp_path):
    config = {"recipe": {"name": "he<i>2015", "momentum": 0.9}, "seed": 3}
    path = report.write(
        tmp_path / "new" / "report.html", **arguments, config=config, evaluation={"ten <crops>": 0.123456}
    )
    probabilities = model.predict(IMAGES, verbose=0)
    said = probabilities.argmax(1)
    page = opened(browser, path)
    assert page.title == "tiny: report"
    assert page.errors() == []
    assert [url for url in page.requests() if not url.startswith("data:")] == [path.as_uri()]
    pictures = page.find_elements("css selector", "img")
    assert len(pictures) == 3 * min(12, (said != LABELS).sum())
    assert all(picture.get_property("naturalWidth") == 32 for picture in pictures)
    assert page.execute_script("return [...document.querySelectorAll('script, b b, i i, td i i')].length") == 0
    header = page.texts("header")[0]
    assert "he<i>2015" in header
    assert "3 epochs" in header
    assert f"{(said == LABELS).sum()} of {N}" in header
    assert "ten <crops>" in page.texts(".evaluation")[0]
    assert page.texts("figcaption b")[:4] == ["loss", "accuracy", "learning rate", "<b>gradient norm"]
    drawn = page.execute_script(
        "return [...document.querySelectorAll('figure svg')].map(svg => svg.getBoundingClientRect().height)"
    )
    assert len(drawn) == 4
    assert min(drawn) > 100
    assert set(page.texts(".classes tbody th")) == set(NAMES) == set(page.texts(".matrix thead span"))
    cells = [int(text or 0) for text in page.texts(".matrix td")]
    assert cells == [int(((a == LABELS) & (b == said)).sum()) for a in range(CLASSES) for b in range(CLASSES)]
    # The most confident mistakes, in their order.
    wrong = sorted(np.flatnonzero(said != LABELS), key=lambda i: -probabilities[i, said[i]])[:12]
    assert [text for text in page.texts(".pictures small") if text.startswith("image")] == [f"image {i}" for i in wrong]
    assert page.texts(".cards figcaption b")[:2] == [NAMES[said[wrong[0]]], NAMES[LABELS[wrong[0]]]]
    assert "stage2_block1_conv1" in page.texts(".cost")[0]
    assert page.texts(".config tr") == ["recipe.namehe<i>2015", "recipe.momentum0.9", "seed3"]
    assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")


FACTS = {"images": IMAGES[:4], "labels": [0, 1, 0, 1], "class_names": "ab", "history": {}, "mistakes": 0}


def heading(model, path):
    """The text of a report's heading, without markup."""
    page = report.write(path, model=model, **FACTS).read_text()
    return " ".join(re.sub("<[^>]*>", "", page[page.index("<header>") : page.index("</header>")]).split()), page


@pytest.mark.slow
def test_the_heading_names_the_published_network_however_the_model_is_named(tmp_path):
    kresnet.ResNet20(classes=2, name="mine").save(tmp_path / "mine.keras")
    text, page = heading(keras.saving.load_model(tmp_path / "mine.keras"), tmp_path / "x.html")
    assert text.startswith("mine Network resnet20 of arXiv:1512.03385, as published")
    assert '<a href="https://arxiv.org/abs/1512.03385">' in page


@pytest.mark.slow
def test_the_heading_lists_what_differs_from_the_published_network(tmp_path):
    changed = kresnet.ResNet20(classes=2, se_reduction=4, stem="deep", name="resnet20")
    text, _ = heading(changed, tmp_path / "x.html")
    assert "Network resnet20 of arXiv:1512.03385, changed:" in text
    assert {"se_reduction=4", "stem=&#39;deep&#39;"} <= set(re.split(r",? ", text))
    assert "as published" not in text


def test_a_name_alone_is_not_credited(tmp_path):
    """A dense layer named resnet50, and a model built on top of one of our networks."""
    image = keras.Input((32, 32, 3))
    dense = keras.Model(image, keras.layers.Dense(2, "softmax")(keras.layers.Flatten()(image)), name="resnet50")
    ours = kresnet.ResNet20(classes=2)
    upon = keras.Model(ours.inputs, keras.layers.Softmax()(ours.outputs[0]), name="resnet20")
    for model in (dense, upon):
        text, page = heading(model, tmp_path / f"{model.name}.html")
        assert text.startswith(f"{model.name} 4 validation images")
        assert "arXiv" not in page
        assert "arxiv.org" not in page


def test_many_classes_by_a_function_in_a_browser(model, browser, tmp_path):
    """Pairs instead of a matrix, no image fetched that is not shown, and no maps without a suitable head."""
    count = 50
    labels = np.repeat(np.arange(count - 1), 4)
    probabilities = np.eye(count, dtype="float16")[labels]
    probabilities[:3] = np.eye(count)[7]  # three of class 0's four
    image = keras.Input((32, 32, 3))
    flat = keras.Model(image, keras.layers.Dense(count)(keras.layers.Flatten()(image)), name="flat")
    fetched = []

    def fetch(indices):
        fetched.extend(indices.tolist())
        return IMAGES[indices]

    data = {"images": fetch, "labels": labels, "probabilities": probabilities}
    path = report.write(tmp_path / "x.html", model=flat, class_names=range(count), history={}, mistakes=2, **data)
    page = opened(browser, path)
    assert page.errors() == []
    assert fetched == [0, 1]
    assert page.texts(".pairs tbody tr") == ["073 of 475.0\N{NO-BREAK SPACE}%"]
    assert page.find_elements("css selector", ".matrix, svg") == []
    assert "no Grad-CAM" in page.texts("body")[0]
    assert len(page.find_elements("css selector", "img")) == 2
    rows = page.texts(".classes tbody th")
    assert (len(rows), rows[0], rows[-1]) == (count, "0", "49")  # the worst, and the one that has no images
    assert "no images" in page.texts(".classes tbody tr")[-1]


def test_all_correct_and_one_epoch(arguments, tmp_path):
    arguments |= {
        "history": {"loss": [1.0], "val_loss": [None]},
        "labels": arguments["model"].predict(IMAGES).argmax(1),
    }
    text = report.write(tmp_path / "x.html", **arguments).read_text()
    assert f"all {N} images are classified correctly" in text
    assert "1 epoch " in text
    assert "<img" not in text


def test_grey_images_of_an_open_size_and_a_model_without_a_cost(tmp_path):
    grey = kresnet.ResNet(depths=(1,), widths=(8,), input_shape=(None, None, 1), classes=2)
    data = {"labels": [0, 1], "class_names": "ab", "history": {}, "probabilities": np.float32([[0, 1], [1, 0]])}
    text = report.write(tmp_path / "x.html", model=grey, images=IMAGES[:2, ..., :1], **data).read_text()
    assert text.count("<img") == 6
    assert "GMACs" in text

    class Subclassed(keras.Model):
        def call(self, x):
            return x

    text = report.write(tmp_path / "x.html", model=Subclassed(), images=IMAGES[:2], **data).read_text()
    assert "must be functional" in text


def test_ranks_by_hand(model, tmp_path):
    """Of equal probabilities the first five classes are the top five, as in a stable sort."""
    equal = np.full((CLASSES, CLASSES), 1 / CLASSES)
    data = {"labels": np.arange(CLASSES), "probabilities": equal, "class_names": NAMES, "history": {}, "mistakes": 0}
    text = report.write(tmp_path / "x.html", model=model, images=IMAGES[:CLASSES], **data).read_text()
    assert re.findall(r"<small>(\d) of 7", text) == ["1", "5"]
    assert "6, none shown" in text


@pytest.mark.parametrize(
    ("count", "total", "interval"),
    # Newcombe 1998, Statistics in Medicine 17(8), table I, method 3.
    [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0, 0.1611)), (1, 29, (0.0061, 0.1718))],
)
def test_interval_as_published(count, total, interval):
    assert report.Proportion(count, total).interval == pytest.approx(interval, abs=5e-5)
    low, high = report.Proportion(total - count, total).interval
    assert (1 - high, 1 - low) == pytest.approx(interval, abs=5e-5)


def test_maps_equal_grad_cam_by_gradients(model):
    """Against the definition: gradients of the score before the softmax."""
    features = keras.Model(model.inputs, model.get_layer("head_pool").input).predict_on_batch(IMAGES[:4])
    with tf.GradientTape(persistent=True) as tape:
        features = tf.convert_to_tensor(features)
        tape.watch(features)
        pooled = tf.reduce_mean(features, (1, 2))
        scores = tf.linalg.matmul(pooled, model.get_layer("predictions").kernel) + model.get_layer("predictions").bias
        chosen = [tf.reduce_sum(scores[:, k]) for k in (2, 5)]
    np.testing.assert_allclose(tf.nn.softmax(scores), model(IMAGES[:4]), atol=1e-6)
    for column, score in enumerate(chosen):
        weights = tf.reduce_mean(tape.gradient(score, features), (1, 2), keepdims=True)
        expected = tf.nn.relu(tf.reduce_sum(weights * features, -1)).numpy()
        expected /= expected.max((1, 2), keepdims=True)
        found = cam.class_activation_maps(model, IMAGES[:4], [[2, 5]] * 4)
        assert found.shape == (4, 2, 16, 16)
        np.testing.assert_allclose(found[:, column], expected, atol=1e-5)


@pytest.mark.slow
def test_maps_on_jax(model, on_jax, tmp_path):
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", IMAGES[:2])
    code = f"""
        import kresnet, keras, numpy as np
        from kresnet.evaluation import cam
        model, images = keras.saving.load_model({str(tmp_path / "model.keras")!r}), {str(tmp_path / "images.npy")!r}
        np.save({str(tmp_path / "maps.npy")!r}, cam.class_activation_maps(model, np.load(images), [[1, 2, 3]] * 2))
    """
    on_jax(code)
    expected = cam.class_activation_maps(model, IMAGES[:2], [[1, 2, 3]] * 2)
    np.testing.assert_allclose(np.load(tmp_path / "maps.npy"), expected, atol=1e-4)


def test_a_map_shows_the_place():
    """If brightness is the only feature, the map of the class with a positive weight is bright where the image is."""
    image = keras.Input((16, 16, 1))
    x = keras.layers.AveragePooling2D(4)(image)
    outputs = keras.layers.Dense(2, name="predictions")(keras.layers.GlobalAveragePooling2D(name="head_pool")(x))
    bright = keras.Model(image, outputs)
    bright.get_layer("predictions").set_weights([np.float32([[1, -1]]), np.zeros(2, "float32")])
    picture = np.zeros((1, 16, 16, 1), "uint8")
    picture[0, 4:8, 8:12] = 200
    maps = cam.class_activation_maps(bright, picture, [[0, 1]])[0]
    assert np.argwhere(maps[0]).tolist() == [[1, 2]]
    assert not maps[1].any()
    assert "data:image/png" in drawings.data_uri(picture[0], maps[0])


def test_networks_without_such_a_head(model):
    image = keras.Input((8, 8, 3))
    pooled = keras.layers.GlobalAveragePooling2D(name="head_pool")(image)
    two = keras.layers.Dense(2, name="predictions")(keras.layers.Dense(4, "relu")(pooled))
    for other in (keras.Model(image, two), keras.Sequential([keras.layers.Dense(2)])):
        assert not cam.supports(other)
        with pytest.raises(ValueError, match="Received: model="):
            cam.class_activation_maps(other, IMAGES, [[0]] * N)
    with pytest.raises(ValueError, match=r"below 7 for n = 2 images. Received: classes=\[\[0\], \[7\]\]"):
        cam.class_activation_maps(model, IMAGES[:2], [[0], [7]])


@pytest.mark.parametrize("key", ["resnet20", "resnetv2_18", "mobilenetv2_035", "efficientnet_b0"])
def test_every_family_has_maps(key, no_weights):
    assert cam.supports(kresnet.create_model(key))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "received"),
    [
        ({"labels": LABELS + 1}, "lowest=1, highest=7"),
        ({"labels": LABELS * 1.0}, "labels='float64 of shape (60,)'"),
        ({"labels": LABELS[:5]}, "probabilities='shape (60, 7)'"),
        ({"class_names": NAMES[:3]}, "probabilities='shape (60, 7)'"),
        ({"probabilities": np.full((N, CLASSES), np.nan)}, "lowest=nan, highest=nan"),
        ({"probabilities": RANDOM.normal(size=(N, CLASSES))}, "highest="),
        ({"history": {"loss": [1.0], "val_loss": []}}, "loss=1, val_loss=0"),
        ({"images": IMAGES / 255}, "images='float64 of shape"),
        ({"images": lambda indices: IMAGES}, "probabilities=None"),
        ({"mistakes": -1}, "mistakes=-1"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_written(arguments, changed, received, tmp_path):
    with pytest.raises(ValueError, match=re.escape(received)):
        report.write(tmp_path / "x.html", **arguments | changed)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_keeps_the_old_report(arguments, tmp_path, monkeypatch):
    path = tmp_path / "x.html"
    path.write_text("old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        report.write(path, **arguments)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


@pytest.mark.slow
def test_it_names_the_files_of_mistakes_and_the_epoch_that_was_kept(arguments, model, tmp_path):
    files = [f"class<{i}>/photo {i}\udce9.jpg" for i in range(N)]
    page = report.write(tmp_path / "x.html", **arguments, file_paths=files, kept_epoch=1).read_text()
    assert "3 epochs, number 2 kept" in page
    wrong = np.flatnonzero(model.predict(IMAGES, verbose=0).argmax(1) != LABELS)
    named = [int(i) for i in re.findall(r'file">class&lt;(\d+)&gt;/photo \1\\xe9.jpg<', page)]
    assert len(named) == min(12, len(wrong))
    assert set(named) <= set(wrong.tolist())
    with pytest.raises(ValueError, match=r"must name each image\. Received: file_paths=1, labels=60"):
        report.write(tmp_path / "x.html", **arguments, file_paths=["a"])
