"""Writes what networks cost, kresnet/costs.csv, and the README's table of them: `make table`."""

import csv
import pathlib

import keras
import reference
from rich.progress import track

import kresnet
from kresnet.zoo import COSTS

TESTS = pathlib.Path(__file__).parent
README = TESTS.parent / "README.md"
BEGIN, END = "<!-- made by `make table` -->\n", "<!-- end of table -->\n"


def read(path: pathlib.Path) -> dict[str, dict[str, str]]:
    with path.open() as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def write_costs() -> None:
    """Builds every network at its own size and notes its parameters and MACs; takes two minutes."""
    with COSTS.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("name", "parameters", "macs"))
        for key in track(kresnet.list_models(), "Building"):
            costs = kresnet.cost(kresnet.create_model(key))
            writer.writerow((key, costs.trainable_params, costs.macs))
            keras.backend.clear_session()


def checked(key: str, source: str) -> str:
    """Says what a network is compared with in the tests: logits where they are stored, else the parameters alone."""
    parts = [k.split(":") for k, (name, _) in reference.NETWORKS.items() if name == key]
    stored = sorted({f"{author} {size} px" for author, _, size in parts})
    return f"logits: {', '.join(stored)}" if stored else f"parameters: {source}"


def table() -> str:
    published, costs = read(TESTS / "published.csv"), read(COSTS)
    head = ("`kresnet.`", "key", "parameters", "GMACs", "pixels", "paper", "checked against")
    lines = [f"| {' | '.join(head)} |", "|---|---|--:|--:|--:|---|---|"]
    for key in sorted(costs, key=lambda key: (kresnet.get_builder(key).paper, int(costs[key]["parameters"]))):
        builder, row = kresnet.get_builder(key), costs[key]
        paper = f"[{builder.paper}](https://arxiv.org/abs/{builder.paper})"
        numbers = f"{int(row['parameters']):,}", f"{int(row['macs']) / 1e9:.3f}", str(builder.input_size)
        cells = (builder.__name__, key, *numbers, paper, checked(key, published[key]["source"]))
        lines.append(f"| {' | '.join(cells)} |")
    return f"<details><summary>{len(costs)} networks</summary>\n\n" + "\n".join(lines) + "\n\n</details>\n"


def with_table(text: str) -> str:
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + table() + END + after


if __name__ == "__main__":
    write_costs()
    README.write_text(with_table(README.read_text()))
