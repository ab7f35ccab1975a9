"""Writes the README's table of networks from the registry and what the tests compare: `make table`."""

import csv
import pathlib

import reference

import kresnet

TESTS = pathlib.Path(__file__).parent
README = TESTS.parent / "README.md"
BEGIN, END = "<!-- made by `make table` -->\n", "<!-- end of table -->\n"


def checked(key: str, source: str) -> str:
    """Says what a network is compared with in the tests: logits where they are stored, else the parameters alone."""
    parts = [k.split(":") for k, (name, _) in reference.NETWORKS.items() if name == key]
    stored = sorted({f"{author} {size} px" for author, _, size in parts})
    return f"logits: {', '.join(stored)}" if stored else f"parameters: {source}"


def table() -> str:
    with (TESTS / "published.csv").open() as file:
        published = {row["name"]: row for row in csv.DictReader(file)}
    lines = ["| `kresnet.` | key | parameters | paper | checked against |", "|---|---|--:|---|---|"]
    for key in sorted(published, key=lambda key: (kresnet.get_builder(key).paper, int(published[key]["parameters"]))):
        builder, row = kresnet.get_builder(key), published[key]
        paper = f"[{builder.paper}](https://arxiv.org/abs/{builder.paper})"
        cells = (builder.__name__, key, f"{int(row['parameters']):,}", paper, checked(key, row["source"]))
        lines.append(f"| {' | '.join(cells)} |")
    return f"<details><summary>{len(published)} networks</summary>\n\n" + "\n".join(lines) + "\n\n</details>\n"


def with_table(text: str) -> str:
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + table() + END + after


if __name__ == "__main__":
    README.write_text(with_table(README.read_text()))
