"""The demo's page classifies pictures and the camera's frames, and its server answers nobody else."""

import concurrent.futures
import contextlib
import http.client
import json
import signal
import subprocess
import threading
import time
import urllib.request

import keras
import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.support.wait import WebDriverWait
from test_processes import COMMAND, python

import kresnet
from kresnet import augment, images
from kresnet.demo import Demo

NAMES = ["<i>red</i>", "green", "blue", "white", "black", "grey"]
SIZE = 32
# A class is its colour, told from the others by the distance to the image's mean.
COLOURS = np.float32([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (128, 128, 128)]) / 255


def network(channels=3, activation="softmax", size=SIZE):
    colours = COLOURS if channels == 3 else COLOURS[:, :1]
    image = keras.Input((size, size, channels))
    mean = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(image))
    dense = keras.layers.Dense(len(NAMES), activation=activation)
    model = keras.Model(image, dense(mean))
    # -20 |x - c|^2 without the |x|^2 that all have in common.
    dense.set_weights([40 * colours.T, -20 * (colours**2).sum(1)])
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    kresnet.export(network(), folder / "colours.tflite")
    (folder / "labels.txt").write_text("\n".join(NAMES) + "\n")
    # Upright a red column, blue at its ends, that stands on its side in the file; wider than the window.
    pixels = np.zeros((60, 120, 3), "uint8")
    pixels[..., 2] = 255
    pixels[:, 30:90] = 255, 0, 0
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(folder / "red.jpg", quality=95, exif=exif)
    Image.new("RGBA", (50, 50)).save(folder / "transparent.png")
    (folder / "broken.png").write_bytes((folder / "transparent.png").read_bytes()[:40])
    return folder


@contextlib.contextmanager
def running(path, **options):
    with Demo(path, port=0, **options) as demo:
        thread = threading.Thread(target=demo.serve_forever)
        thread.start()
        try:
            yield demo
        finally:
            demo.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def demo(folder):
    with running(folder / "colours.tflite", labels=folder / "labels.txt") as demo:
        yield demo


def ask(demo, method="POST", path="/classify", body=None, **headers):
    """Returns the status and the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", demo.server_port, timeout=10)
    with contextlib.closing(connection):
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, response.read()


def rgba(*colour, size=SIZE):
    return np.uint8([*colour, 255]).tobytes() * size * size


class Page:
    """The demo in a browser."""

    def __init__(self, browser, url):
        self.browser, self.url, self.texts = browser, url, browser.texts
        browser.errors()
        browser.get(url)

    def wait(self, condition):
        return WebDriverWait(self.browser, 10).until(lambda _: condition())

    def choose(self, path):
        self.browser.find_element("id", "file").send_keys(str(path))

    def check(self):
        assert self.browser.errors() == []
        urls = self.browser.requests()
        assert self.url in urls
        assert [url for url in urls if not url.startswith((self.url, "data:"))] == []


def test_a_chosen_picture(demo, folder, browser):
    page = Page(browser, demo.url)
    assert browser.title == "colours.tflite: demo"
    assert "32 pixels, 6 classes" in page.texts("header")[0]
    page.choose(folder / "red.jpg")
    page.wait(lambda: page.texts("#predictions li"))
    labels, numbers = page.texts(".label"), page.texts(".number")
    assert labels[0] == "<i>red</i>"
    assert set(labels) < set(NAMES)
    assert len(labels) == len(numbers) == 5
    shares = [float(number.removesuffix(" %")) for number in numbers]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 90
    script = "return [...document.querySelectorAll('.bar i')].map(bar => parseFloat(bar.style.width))"
    assert browser.execute_script(script) == shares
    # Upright, and the middle square only: red throughout.
    seen = browser.execute_script("return [...context.getImageData(0, 0, canvas.width, canvas.height).data]")
    seen = np.reshape(seen, (SIZE, SIZE, 4))
    np.testing.assert_allclose(seen[2:-2, 2:-2], np.broadcast_to([254, 0, 0, 255], (28, 28, 4)), atol=3)
    assert page.texts("#error") == [""]
    page.choose(folder / "transparent.png")
    page.wait(lambda: page.texts(".label")[:1] == ["white"])
    page.check()


def test_a_dropped_picture(demo, browser):
    page = Page(browser, demo.url)
    browser.execute_script("""
        const canvas = new OffscreenCanvas(40, 30), context = canvas.getContext("2d");
        context.fillStyle = "#00f";
        context.fillRect(0, 0, 40, 30);
        canvas.convertToBlob().then((blob) => {
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([blob], "blue.png", { type: "image/png" }));
            document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true }));
        });
    """)
    page.wait(lambda: page.texts(".label")[:1] == ["blue"])
    page.check()


def test_the_camera(demo, browser):
    """Chromium's own test pattern; what matters is that frames come, and stop coming."""
    page = Page(browser, demo.url)
    button = browser.find_element("id", "camera")
    button.click()
    page.wait(lambda: len(page.texts("#predictions li")) == 5)
    assert button.get_attribute("aria-pressed") == "true"
    frames = "return performance.getEntriesByType('resource').filter(e => e.name.endsWith('classify')).length"
    page.wait(lambda: browser.execute_script(frames) > 3)
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert browser.execute_script("return stream") is None
    count = page.wait(lambda: browser.execute_script(frames))
    assert browser.execute_script(frames) <= count + 1
    assert browser.execute_script("return video.srcObject.getTracks().every(track => track.readyState === 'ended')")
    page.check()


def test_errors_stand_on_the_page(folder, browser):
    with running(folder / "colours.tflite") as demo:
        page = Page(browser, demo.url)
        page.choose(folder / "broken.png")
        page.wait(lambda: page.texts("#error") == ["broken.png cannot be read as a picture."])
        page.choose(folder / "red.jpg")
        page.wait(lambda: page.texts(".label")[:1] == ["0"])  # without names, numbers
        assert page.texts("#error") == [""]
        page.check()


def test_the_command_and_its_end(folder, browser):
    arguments = [COMMAND, "demo", folder / "colours.tflite", "--labels", folder / "labels.txt"]

    def heed_interrupts():  # a shell's background jobs, which tests may run in, ignore them, and so would the command
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    options = {"stdout": subprocess.PIPE, "text": True, "preexec_fn": heed_interrupts}
    with subprocess.Popen([*arguments, "--port", "0"], **options) as process:
        try:
            url = process.stdout.readline().split(" is at ")[1].split(";")[0]
            page = Page(browser, url)
            page.choose(folder / "red.jpg")
            page.wait(lambda: page.texts(".label")[:1] == ["<i>red</i>"])
            page.check()
            port = url.rstrip("/").rsplit(":", 1)[1]
            taken = subprocess.run([*arguments, "--port", port], capture_output=True, text=True)
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0
        finally:
            process.kill()
    assert taken.returncode == 2
    assert taken.stderr.endswith(f"Received: port={port}\n")
    page.choose(folder / "red.jpg")
    page.wait(lambda: page.texts("#error") == ["kresnet demo does not answer. Does it still run?"])
    assert page.texts("#predictions li") == []
    browser.errors()  # the refused request is one


def test_answers(demo):
    expected = network().predict(np.float32([[[COLOURS[1] * 255] * SIZE] * SIZE]), verbose=0)[0]
    status, answer = ask(demo, body=rgba(0, 255, 0))
    predictions = json.loads(answer)["predictions"]
    order = np.argsort(-expected, kind="stable")[:5]
    assert (status, [p["label"] for p in predictions]) == (200, [NAMES[i] for i in order])
    np.testing.assert_allclose([p["probability"] for p in predictions], expected[order], atol=1e-2)
    assert json.loads(answer)["milliseconds"] > 0


def test_a_grey_network(tmp_path):
    kresnet.export(network(channels=1), tmp_path / "grey.tflite")
    with Demo(tmp_path / "grey.tflite", port=0) as demo:
        for colour, pixel in (((255, 0, 0), 76), ((0, 255, 0), 150), ((0, 0, 255), 29), ((9, 9, 9), 9)):
            answer = demo.classify(rgba(*colour))["predictions"]
            expected = network(channels=1).predict(np.full((1, SIZE, SIZE, 1), pixel), verbose=0).max()
            assert answer[0]["probability"] == pytest.approx(expected, abs=1e-2)


def test_one_image_at_a_time(demo, monkeypatch):
    """The interpreter is for one thread, and the server has one a connection."""
    running, most, run = [], [], demo.model._run

    def watched(images):
        running.append(images)
        time.sleep(0.01)
        most.append(len(running))
        running.pop()
        return run(images)

    def label(i):
        _, answer = ask(demo, body=rgba(*np.uint8(255 * COLOURS[i % 5])))
        return json.loads(answer)["predictions"][0]["label"]

    monkeypatch.setattr(demo.model, "_run", watched)
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        assert list(pool.map(label, range(20))) == NAMES[:5] * 4
    assert max(most) == 1


def test_neither_keras_nor_tensorflow_is_loaded(folder):
    code = f"""
        import sys
        sys.argv = ["kresnet"]
        from kresnet.demo import Demo
        with Demo({str(folder / "colours.tflite")!r}, port=0) as demo:
            print(len(demo.classify(bytes(demo.request_bytes))["predictions"]))
        assert not {{"keras", "tensorflow"}} & set(sys.modules)
    """
    assert python(code).split()[-1] == "5"


def test_only_its_own_page_may_ask(demo):
    port, body = demo.server_port, rgba(0, 0, 0)
    for host, origin in ((f"127.0.0.1:{port}", f"http://127.0.0.1:{port}"), (f"localhost:{port}", None)):
        headers = {"Host": host} | ({"Origin": origin} if origin else {})
        assert ask(demo, body=body, **headers)[0] == 200
        assert ask(demo, "GET", "/", **headers)[0] == 200
    for headers in (
        {"Host": "evil.example"},
        {"Host": f"evil.example:{port}"},
        {"Host": "127.0.0.1"},
        {"Origin": "http://evil.example"},
        {"Origin": f"https://127.0.0.1:{port}"},
        {"Origin": "null"},
    ):
        assert ask(demo, body=body, **headers)[0] == 403
        assert ask(demo, "GET", "/", **headers)[0] == 403
    assert demo.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/../cli.py", None, 404),
        ("GET", "/report.html", None, 404),
        ("POST", "/", rgba(0, 0, 0), 404),
        ("POST", "/classify", b"", 400),
        ("POST", "/classify", rgba(0, 0, 0)[:-1], 400),
        ("POST", "/classify", rgba(0, 0, 0) + b"0", 400),
        ("DELETE", "/", None, 501),
    ],
)
def test_other_requests_are_refused(demo, method, path, body, status):
    found, answer = ask(demo, method, path, body)
    assert found == status
    assert status == 501 or json.loads(answer)["error"]


def test_a_length_that_lies(demo):
    """Nothing is read of what is too long, and of what breaks off nothing is made."""
    for length, sent, status in ((10**12, b"", 400), (demo.request_bytes, b"too short", 400)):
        connection = http.client.HTTPConnection("127.0.0.1", demo.server_port, timeout=10)
        with contextlib.closing(connection):
            connection.putrequest("POST", "/classify")
            connection.putheader("Content-Length", length)
            connection.endheaders(sent)
            connection.sock.shutdown(1)  # no more will come
            assert connection.getresponse().status == status
    assert ask(demo, body=rgba(0, 0, 0))[0] == 200


def test_the_window_is_evaluation_s(demo, folder, tmp_path):
    def window(size, height, width):
        return [int(side) for side in augment.policy(None, size).window(height, width, None)]

    kresnet.export(network(size=64), tmp_path / "big.tflite")
    for file, size, fraction in ((folder / "colours.tflite", 32, 1.0), (tmp_path / "big.tflite", 64, 0.875)):
        assert window(size, 1000, 2000)[2] == 1000 * fraction
        with running(file) as shown:
            assert f'data-crop="{fraction}"' in urllib.request.urlopen(shown.url).read().decode()
    with running(folder / "colours.tflite", crop_fraction=0.5) as shown:
        assert 'data-crop="0.5"' in urllib.request.urlopen(shown.url).read().decode()


def test_the_page_s_pixels_are_nearly_evaluation_s(folder, browser, tmp_path):
    """A photograph with much detail, which browsers scale by filters of their own. Pillow's differs by 4.4."""
    from sklearn.datasets import load_sample_image

    file = tmp_path / "china.png"
    Image.fromarray(load_sample_image("china.jpg")).save(file)
    kresnet.export(network(size=224), tmp_path / "big.tflite")
    policy = augment.policy(None, 224)
    pixels = images.decode(file.read_bytes(), "china", lambda h, w: [int(v) for v in policy.window(h, w, None)], 224)
    expected = keras.ops.convert_to_numpy(keras.ops.image.resize(pixels.astype("float32"), (224, 224)))
    with running(tmp_path / "big.tflite") as demo:
        page = Page(browser, demo.url)
        page.choose(file)
        page.wait(lambda: page.texts(".label"))
        seen = browser.execute_script("return [...context.getImageData(0, 0, 224, 224).data]")
    assert np.abs(np.reshape(seen, (224, 224, 4))[..., :3] - expected).mean() < 3


@pytest.mark.parametrize(
    ("options", "received"),
    [
        ({"labels": "three.txt"}, "lines=3"),
        ({"labels": "none.txt"}, "labels='none.txt'"),
        ({"port": 70000}, "port=70000"),
        ({"port": -1}, "port=-1"),
        ({"crop_fraction": 0}, "crop_fraction=0"),
        ({"crop_fraction": 1.5}, "crop_fraction=1.5"),
        ({"threads": 0}, "threads=0"),
    ],
)
def test_nonsense_is_refused(folder, options, received, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "three.txt").write_text("a\nb\nc\n")
    with pytest.raises(ValueError, match=f"Received: .*{received}"):
        Demo(folder / "colours.tflite", **{"port": 0} | options)


def test_what_gives_no_probabilities_says_so(tmp_path, browser):
    kresnet.export(network(activation=None), tmp_path / "logits.tflite")
    with running(tmp_path / "logits.tflite") as demo:
        status, answer = ask(demo, body=rgba(255, 0, 0))
    assert status == 500
    assert "ends in softmax. Received: lowest=" in json.loads(answer)["error"]
