import os
import shutil

import processes
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.fixture
def undrawn_weights(monkeypatch):
    """Networks begin as zeros: their weights come from a file, and drawing millions takes seconds."""
    import keras

    from kresnet import layers

    def zeros(self, shape, dtype=None):
        return keras.ops.zeros(shape, dtype)

    monkeypatch.setattr(layers.VarianceScaling, "__call__", zeros)


@pytest.fixture
def no_weights():
    """Networks are built, but have no weights to compute with: drawing millions takes seconds."""
    import keras

    with keras.StatelessScope():
        yield


@pytest.fixture(scope="session")
def on_jax():
    """Runs Python code in a process on JAX, which is one for all tests, and returns what the code prints."""
    if processes.QUICKEST != "jax":
        pytest.skip("jax is not installed")
    process = processes.Python(KERAS_BACKEND="jax")
    yield process
    process.end()


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """Headless Chromium, and what its pages say, ask for and log.

    `texts(selector)` are the texts of a selector's elements, `requests()` the addresses that the page on show asked for
    and `errors()` what was logged, both since they were last called.
    """
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    for name, path in programs.items():
        if path is None:
            pytest.skip(f"{name} is not installed")
    import json

    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = programs["chromium"]
    profile = tmp_path_factory.mktemp("chromium")
    for argument in (
        *("headless", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "disable-quic", "no-first-run"),
        *("disable-background-networking", "disable-component-update", "disable-sync", "window-size=1280,900"),
        *("use-fake-device-for-media-stream", "use-fake-ui-for-media-stream", f"user-data-dir={profile}"),
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(programs["chromedriver"]))

    def requests():
        messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
        sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        return [request["request"]["url"] for request in sent if request["documentURL"] == driver.current_url]

    def texts(selector):
        # In one call: a page may replace its elements meanwhile.
        return driver.execute_script(
            "return [...document.querySelectorAll(arguments[0])].map(element => element.textContent.trim())", selector
        )

    driver.requests, driver.texts = requests, texts
    driver.errors = lambda: [entry for entry in driver.get_log("browser") if entry["level"] in ("WARNING", "SEVERE")]
    yield driver
    driver.quit()
