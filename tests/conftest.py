import gc
import os
import shutil
import signal

import processes
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# What XLA compiles here runs once or twice.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

# A shell's job in the background ignores Ctrl-C, one under `nohup` its end, and so would the tests of them.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

gc.disable()  # until all is imported


def pytest_collection_modifyitems(items):
    """One worker, and so one process on JAX, gets all tests on JAX; the first of them asks what has been imported."""
    items.sort(key=lambda item: ("on_jax" not in item.fixturenames, "without_tensorflow" not in item.name))


def pytest_collection_finish():
    """Of the million objects that Keras and TensorFlow are made of, the garbage collector looks at none any more."""
    gc.enable()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


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
    """Networks are built, but have no weights to compute with."""
    from networks import without_weights

    with without_weights():
        yield


@pytest.fixture(scope="session")
def on_jax():
    """Runs Python code in a process on JAX, which is one for all tests, and returns what the code prints."""
    if processes.QUICKEST != "jax":
        pytest.skip("jax is not installed")
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2"  # for those that train on two
    process = processes.Python(KERAS_BACKEND="jax", XLA_FLAGS=flags)
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
