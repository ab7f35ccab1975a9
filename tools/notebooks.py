"""Writes examples/notebooks/*.ipynb from the Python beside them, without outputs (`make table`)."""

import pathlib

import jupytext
import nbformat

FOLDER = pathlib.Path(__file__).parent.parent / "examples" / "notebooks"


def notebook(path: pathlib.Path) -> nbformat.NotebookNode:
    """Returns the notebook of a file of cells, the same at every call."""
    made = jupytext.read(path)
    made.metadata = nbformat.from_dict(
        {
            "jupytext": {"formats": "ipynb,py:percent"},
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    for number, cell in enumerate(made.cells):
        cell.id = f"cell-{number}"  # else drawn at random
        cell.metadata = nbformat.from_dict({})
    return made


def write() -> None:
    for path in FOLDER.glob("*.py"):
        nbformat.write(notebook(path), path.with_suffix(".ipynb"))


if __name__ == "__main__":
    write()
