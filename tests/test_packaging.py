"""What is installed: the packages that are required are those that are imported, and a wheel holds all that is read."""

import ast
import configparser
import pathlib
import sys
import zipfile

import package
import pytest
import yaml

ROOT = pathlib.Path(__file__).parent.parent
# By the name that is imported, the name that is installed, where they differ.
INSTALLED = {"PIL": "pillow", "ai_edge_litert": "ai-edge-litert", "huggingface_hub": "huggingface_hub"}
# Nothing imports it, but TensorFlow, when it writes events, and without requiring it.
UNNAMED = {"tensorboard"}


@pytest.fixture(scope="module")
def setup():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def required(text):
    return {line.split("=")[0].strip("<> ").split("[")[0] for line in text.split("\n") if line.strip()}


def imported():
    """Returns the top-level packages that the package imports, anywhere."""
    names = set()
    for path in (ROOT / "kresnet").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add(node.module.split(".")[0])
    return {INSTALLED.get(name, name) for name in names - set(sys.stdlib_module_names) - {"kresnet"}}


def test_no_more_is_required_than_is_imported(setup):
    assert required(setup["options"]["install_requires"]) - imported() == UNNAMED


def test_what_is_imported_is_required_or_in_an_extra(setup):
    extras = set().union(*(required(text) for text in setup["options.extras_require"].values()))
    # PyTorch is Keras's backend where it is one; no extra brings it.
    others = {"torch", "keras_cv", "sklearn", "tensorflow_datasets", "skimage"}
    names = {name.replace("_", "-") for name in required(setup["options"]["install_requires"]) | extras}
    assert {name.replace("_", "-") for name in imported() - others} <= names


def test_each_has_its_reason(setup):
    text = (ROOT / "docs" / "decisions.md").read_text()
    section = text[text.index("## What is installed") : text.index("## Weights")]
    assert [name for name in required(setup["options"]["install_requires"]) if name not in section] == []


@pytest.mark.slow
def test_a_wheel_holds_what_is_read(tmp_path, monkeypatch):
    pytest.importorskip("build")
    wheel, source = package.build(tmp_path)
    package.check_wheel(wheel)
    data = {str(path.relative_to(ROOT)) for path in (ROOT / "kresnet").rglob("*") if path.suffix in (".csv", ".html")}
    assert data <= set(zipfile.ZipFile(wheel).namelist())
    assert source.stat().st_size < package.LIMIT
    monkeypatch.setattr(package, "LIMIT", 1000)
    with pytest.raises(ValueError, match=r"The wheel is wrong\. Received: \d+ bytes"):
        package.check_wheel(wheel)


def test_citation_agrees(setup):
    import kresnet

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == kresnet.__version__
    assert citation["license"] == setup["metadata"]["license"]
