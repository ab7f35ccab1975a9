"""The demo page classifies pictures and camera frames."""

import signal
import subprocess

import numpy as np
import pytest
from demos import NAMES, SIZE, network, running, write_files
from PIL import Image
from processes import COMMAND
from selenium.webdriver.support.wait import WebDriverWait

import kresnet
from kresnet.data import resizing


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = write_files(tmp_path_factory.mktemp("demo"))
    # Upright it is a red column with blue ends, taller than the window; the file stores it lying on its side.
    pixels = np.zeros((60, 120, 3), "uint8")
    pixels[..., 2] = 255
    pixels[:, 30:90] = 255, 0, 0
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(folder / "red.jpg", quality=95, exif=exif)
    Image.new("RGBA", (50, 50)).save(folder / "transparent.png")
    (folder / "broken.png").write_bytes((folder / "transparent.png").read_bytes()[:40])
    return folder


@pytest.fixture(scope="module")
def demo(folder):
    with running(folder / "colours.tflite", labels=folder / "labels.txt") as demo:
        yield demo


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
    # The central square of the upright picture is red throughout.
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
    """Chromium plays a test pattern; what matters is that frames arrive, and stop arriving."""
    page = Page(browser, demo.url)
    button = browser.find_element("id", "camera")
    button.click()
    page.wait(lambda: len(page.texts("#predictions li")) == 5)
    assert button.get_attribute("aria-pressed") == "true"
    frames = "return performance.getEntriesByType('resource').filter(e => e.name.includes('classify')).length"
    page.wait(lambda: browser.execute_script(frames) > 3)
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert browser.execute_script("return stream") is None
    count = page.wait(lambda: browser.execute_script(frames))
    assert browser.execute_script(frames) <= count + 1
    assert browser.execute_script("return video.srcObject.getTracks().every(track => track.readyState === 'ended')")
    page.check()


def test_errors_appear_on_the_page(folder, browser):
    with running(folder / "colours.tflite") as demo:
        page = Page(browser, demo.url)
        page.choose(folder / "broken.png")
        page.wait(lambda: page.texts("#error") == ["broken.png cannot be read as a picture."])
        page.choose(folder / "red.jpg")
        page.wait(lambda: page.texts(".label")[:1] == ["0"])  # the class number, without names
        assert page.texts("#error") == [""]
        page.check()


def test_the_command_and_its_end(folder, browser):
    arguments = [COMMAND, "demo", folder / "colours.tflite", "--labels", folder / "labels.txt"]

    def heed_interrupts():  # jobs in a shell's background, where tests may run, ignore them, and so would the command
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
    page.wait(lambda: page.texts("#error") == ["kresnet demo does not answer. Is it still running?"])
    assert page.texts("#predictions li") == []
    browser.errors()  # discards the refused request


@pytest.mark.slow
def test_the_pixels_of_the_page_are_those_of_evaluation(folder, browser, tmp_path):
    """Of a photograph with much detail, to the last bit; the largest pictures are shrunk on their way."""
    from sklearn.datasets import load_sample_image

    photo = load_sample_image("china.jpg")
    Image.fromarray(photo).save(tmp_path / "china.png")
    kresnet.export(network(size=224), tmp_path / "big.tflite", description={"interpolation": "bicubic"})
    with running(tmp_path / "big.tflite") as demo:
        page = Page(browser, demo.url)
        page.choose(tmp_path / "china.png")
        page.wait(lambda: page.texts(".label"))
        seen = browser.execute_script("return [...context.getImageData(0, 0, 224, 224).data]")
        expected = resizing.resize_and_crop(photo, 224, 0.875, "bicubic")
        np.testing.assert_array_equal(np.reshape(seen, (224, 224, 4))[..., :3], expected)
        Image.new("RGB", (6000, 4000), (255, 0, 0)).save(tmp_path / "large.png")
        page.choose(tmp_path / "large.png")
        page.wait(lambda: page.texts(".label")[:1] == ["0"])
        sides = browser.execute_script("return [whole.width, whole.height]")
        assert 16e6 < np.prod(sides) <= 1 << 24
        page.check()
