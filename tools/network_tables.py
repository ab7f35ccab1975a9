"""Writes what is made from the networks (`make table`): their table, the README's, and the stub that editors read."""

import csv
import pathlib

import keras
import reference
import stub
from networks import without_weights
from rich.progress import track

import kresnet
from kresnet.models import catalogue
from kresnet.papers import link

ROOT = pathlib.Path(__file__).parent.parent
README, PUBLISHED = ROOT / "README.md", ROOT / "tests" / "published.csv"
BEGIN, END = "<!-- made by `make table` -->\n", "<!-- end of table -->\n"


def published() -> dict[str, dict[str, str]]:
    """Returns, by key, what was published of each network."""
    with PUBLISHED.open() as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def write_catalogue() -> None:
    """Builds every network at its own size and counts its parameters and MACs; takes two minutes."""
    with catalogue.FILE.open("w", newline="") as file:
        writer = csv.DictWriter(file, catalogue.COLUMNS, lineterminator="\n")
        writer.writeheader()
        for key in track(kresnet.list_models(), "Building"):
            with without_weights():
                writer.writerow(counted(key, kresnet.create_model(key)))
            keras.backend.clear_session()


def counted(key: str, model: keras.Model) -> dict[str, str]:
    """Returns a network's row of the catalogue."""
    builder, costs = kresnet.get_builder(key), kresnet.cost(model)
    cells = (key, builder.__name__, costs.trainable_params, costs.macs, builder.input_size, builder.paper)
    return dict(zip(catalogue.COLUMNS, map(str, cells), strict=True))


def checked(key: str, source: str) -> str:
    """Says what a network is compared with in the tests: logits where they are stored, else the parameters alone."""
    parts = [k.split(":") for k, (name, _) in reference.NETWORKS.items() if name == key]
    stored = sorted({f"{author} {size} px" for author, _, size in parts})
    return f"logits: {', '.join(stored)}" if stored else f"parameters: {source}"


def table() -> str:
    sources, rows = published(), catalogue.rows()
    head = ("`kresnet.`", "key", "parameters", "GMACs", "pixels", "paper", "checked against")
    lines = [f"| {' | '.join(head)} |", "|---|---|--:|--:|--:|---|---|"]
    for row in sorted(rows, key=lambda row: (row["paper"], int(row["parameters"]))):
        paper = f"[{row['paper']}]({link(row['paper'])})"
        numbers = f"{int(row['parameters']):,}", f"{int(row['macs']) / 1e9:.3f}", row["pixels"]
        cells = (row["builder"], row["key"], *numbers, paper, checked(row["key"], sources[row["key"]]["source"]))
        lines.append(f"| {' | '.join(cells)} |")
    return f"<details><summary>{len(rows)} networks</summary>\n\n" + "\n".join(lines) + "\n\n</details>\n"


def with_table(text: str) -> str:
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + table() + END + after


if __name__ == "__main__":
    write_catalogue()
    README.write_text(with_table(README.read_text()))
    stub.FILE.write_text(stub.text())
