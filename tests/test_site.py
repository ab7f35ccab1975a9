"""The site builds without a warning, asks nothing of the network, finds what is searched, and documents every name."""

import pathlib
import re
import subprocess
import sys
from urllib.parse import unquote

import pytest

import kresnet

ROOT = pathlib.Path(__file__).parent.parent
API = ROOT / "docs" / "api"


def documented():
    return set(re.findall(r"^::: ([\w.]+)", "\n".join(path.read_text() for path in API.glob("*.md")), re.MULTILINE))


def test_every_public_name_is_documented():
    """Modules by their parts, builders by `ResNet50`, which has the arguments of all."""
    found = documented()
    places = {name: place.replace(":", ".") for name, place in kresnet.NAMES.items()}
    missing = {
        name
        for name, place in places.items()
        if not {f"kresnet.{name}", place} & found
        and not any(other.startswith(f"{place}.") for other in found)
        and not hasattr(getattr(kresnet, name), "key")
    }
    # `recipes` is a table: docs/recipes.md. `data` and `scaling` are documented by what they hold.
    assert missing == set()
    assert "kresnet.ResNet50" in found


def test_pages_are_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text()
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert {page for page in pages if not re.search(rf"[ :]{re.escape(page)}$", text, re.MULTILINE)} == set()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_nothing_is_loaded_from_elsewhere(site):
    loaded = re.compile(r"<(?:script|img|iframe|source)[^>]*?\ssrc=\"?([^\s\">]+)|<link[^>]*?\shref=\"?([^\s\">]+)")
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        places = {source or link for source, link in loaded.findall(page.read_text())}
        assert places
        assert [place for place in places if place.startswith(("http:", "https:", "//"))] == [], page.name
        for place in places:
            assert page.name == "404.html" or (page.parent / unquote(place.partition("?")[0])).exists(), (page, place)
    sheets = "".join(path.read_text() for path in site.rglob("*.css"))
    assert not re.search(r"(@import|url\()\s*[\"']?(https?:|//)", sheets)


@pytest.mark.slow
def test_builders_show_their_arguments(site):
    page = (site / "api" / "networks.html").read_text()
    for argument in ("include_top", "weights_origin", "output_stride", "se_reduction"):
        assert argument in page
    assert "squeezed layer" in page  # of a spec's comments or docstring


@pytest.mark.slow
def test_search_works_from_the_disk(site, browser):
    browser.get((site / "index.html").as_uri())
    browser.requests(), browser.errors()
    browser.find_element("css selector", "[data-md-component=search-query]").send_keys("reparameterize")
    from selenium.webdriver.support.wait import WebDriverWait

    found = WebDriverWait(browser, 20).until(
        lambda driver: driver.texts(".md-search-result__article h1, .md-search-result__article h2")
    )
    assert any("reparameterize" in title or "Networks" in title for title in found), found
    assert [request for request in browser.requests() if not request.startswith(("file:", "data:", "about:"))] == []
    assert browser.errors() == []


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("page", ["index.html", "networks.html", "recipes.html", "decisions.html", "api/training.html"])
def test_pages_fit_the_screen(site, browser, page, width):
    """Wide tables scroll by themselves; a page that scrolls sideways is a table or a line that does not."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get((site / page).as_uri())
    try:
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
