"""The lessons in examples/notebooks: each notebook is its Python file's, and runs."""

import os
import re

import pytest

jupytext = pytest.importorskip("jupytext")
nbclient = pytest.importorskip("nbclient")

import nbformat  # noqa: E402
import notebooks  # noqa: E402

FILES = sorted(notebooks.FOLDER.glob("*.py"))
SMALL = {"EPOCHS": 1, "CROPS": 4, "DEPTHS": (20,), "PHIS": (0,), "SIZE": {"why_residual": 16, "fine_tune": 64}}


def test_there_are_five_lessons():
    assert len(FILES) == len(list(notebooks.FOLDER.glob("*.ipynb"))) == 5


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_pairs_agree(path):
    kept = path.with_suffix(".ipynb").read_text()
    assert kept == nbformat.writes(notebooks.notebook(path)) + "\n", "run `make table`"


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(
            path, id=path.stem, marks=[pytest.mark.slow] + [pytest.mark.thorough] * (path.stem != "first_network")
        )
        for path in FILES
    ],
)
def test_lessons_run(path, tmp_path, monkeypatch):
    """In a kernel, as they are but for the numbers at their head."""
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(notebooks.FOLDER.parents[1]), os.environ.get("PYTHONPATH", "")])
    )
    monkeypatch.setenv("MPLBACKEND", "agg")
    lesson = nbformat.read(path.with_suffix(".ipynb"), as_version=4)
    changed = set()
    for cell in lesson.cells:
        for name, value in SMALL.items() if cell.cell_type == "code" else ():
            value = value[path.stem] if isinstance(value, dict) and path.stem in value else value
            cell.source, count = re.subn(rf"^{name} = .*$", f"{name} = {value!r}", cell.source, flags=re.MULTILINE)
            changed |= {name} if count else set()
    assert "EPOCHS" in changed
    client = nbclient.NotebookClient(lesson, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    assert any(cell.get("outputs") for cell in lesson.cells if cell.cell_type == "code")
