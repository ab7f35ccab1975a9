"""Writes what is made from the networks (`make table`): the catalogue, the tables of the README, docs/networks.md and
docs/recipes.md, the pictures of blocks, the notebooks, and the stub for editors."""

import collections
import csv
import pathlib
from collections.abc import Callable

import draw
import families
import keras
import reference
import stub
from networks import without_weights
from rich.progress import track

import kresnet
from kresnet.models import catalogue
from kresnet.papers import link
from kresnet.training import recipes

ROOT = pathlib.Path(__file__).parent.parent
PUBLISHED = ROOT / "tests" / "published.csv"
README, NETWORKS, RECIPES = (ROOT / name for name in ("README.md", "docs/networks.md", "docs/recipes.md"))
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


def check_rows() -> None:
    """Raises a ValueError, before minutes of counting, if a network lacks a row or group, or a group its pictures."""
    titles, rows = {row[0] for row in draw.PICTURES}, published()
    for key in kresnet.list_models():
        if key not in rows:
            raise ValueError(f"A network has a row in tests/published.csv. Received: key={key!r}")
        if missing := set(families.of(key).pictures) - titles:
            raise ValueError(f"A group's pictures are in `PICTURES` (tools/draw.py). Received: {sorted(missing)}")


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


def sections() -> str:
    """Returns a section for each group: its story, its blocks and its networks."""
    sources = published()
    members = collections.defaultdict(list)
    for row in catalogue.rows():
        members[families.of(row["key"])].append(row)
    titles = {name: caption for name, caption, _, _ in draw.PICTURES}
    parts = []
    for group in families.GROUPS:
        rows = sorted(members[group], key=lambda row: (row["paper"], int(row["parameters"])))
        pictures = " | ".join(f"![{titles[name]}](blocks/{name}.svg)" for name in group.pictures)
        captions = " | ".join(titles[name] for name in group.pictures)
        shown = f"| {pictures} |\n|{':-:|' * len(group.pictures)}\n| {captions} |"
        parts += [f"## {group.title}", group.story, shown, _networks(rows, sources)]
    return "\n" + "\n\n".join(parts) + "\n\n"


def _networks(rows: list[dict[str, str]], sources: dict[str, dict[str, str]]) -> str:
    head = ("`kresnet.`", "key", "parameters", "GMACs", "pixels", "weights", "paper", "checked against")
    lines = [f"| {' | '.join(head)} |", "|---|---|--:|--:|--:|--:|---|---|"]
    for row in rows:
        key = row["key"]
        numbers = f"{int(row['parameters']):,}", f"{int(row['macs']) / 1e9:.3f}", row["pixels"]
        paper = f"[{row['paper']}]({link(row['paper'])})"
        cells = (f"`{row['builder']}`", f"`{key}`", *numbers, len(kresnet.list_weights(key)) or "", paper)
        lines.append(f"| {' | '.join(map(str, (*cells, checked(key, sources[key]['source']))))} |")
    return "\n".join(lines)


def summary() -> str:
    """Returns the README's table: of each group how many networks, their papers, and how many are checked how."""
    sources = published()
    lines = ["| family | networks | with weights | by logits | by parameters | papers |", "|---|--:|--:|--:|--:|---|"]
    totals = [0, 0, 0]
    for group in families.GROUPS:
        rows = [row for row in catalogue.rows() if families.of(row["key"]) is group]
        weights = sum(bool(kresnet.list_weights(row["key"])) for row in rows)
        logits = sum(checked(row["key"], sources[row["key"]]["source"]).startswith("logits") for row in rows)
        counts = len(rows), weights, logits
        totals = [a + b for a, b in zip(totals, counts, strict=True)]
        papers = ", ".join(f"[{paper}]({link(paper)})" for paper in sorted({row["paper"] for row in rows}))
        lines.append(f"| {group.title} | {counts[0]} | {weights} | {logits} | {counts[0] - logits} | {papers} |")
    lines.append(f"| in all | {totals[0]} | {totals[1]} | {totals[2]} | {totals[0] - totals[2]} | |")
    return "\n".join(lines) + "\n"


def of_recipes() -> str:
    """Returns a table of the recipes' numbers."""
    head = "| name | length | batch | optimizer | rate | schedule | decay | augmentation | paper |"
    lines = [head, "|---|---|--:|---|--:|---|--:|---|---|"]
    for name, recipe in recipes.NAMES.items():
        length = f"{recipe.epochs:g} epochs" if recipe.epochs else f"{recipe.steps:,} steps"
        mixed = [f"{kind} {value:g}" for kind in ("mixup", "cutmix") if (value := getattr(recipe, kind))]
        augment = ", ".join([f"`{recipe.augment}`", *mixed])
        number, comma, section = recipe.paper.partition(",")
        paper = f"[{number}]({link(number)}){comma}{section}" if number[:4].isdigit() else recipe.paper
        cells = (f"`{name}`", length, recipe.batch_size, recipe.optimizer, f"{recipe.learning_rate:g}")
        lines.append(
            f"| {' | '.join(map(str, cells))} | {recipe.schedule} | {recipe.weight_decay:g} | {augment} | {paper} |"
        )
    return "\n".join(lines) + "\n"


# What `make table` writes between the marks of each file.
TABLES: dict[pathlib.Path, Callable[[], str]] = {README: summary, NETWORKS: sections, RECIPES: of_recipes}


def with_table(path: pathlib.Path) -> str:
    """Returns a file's text with its table as it is now."""
    before, _, rest = path.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + TABLES[path]() + END + after


if __name__ == "__main__":
    import notebooks  # what it needs, no test of the tables does

    check_rows()
    write_catalogue()
    for file in TABLES:
        file.write_text(with_table(file))
    draw.write()
    notebooks.write()
    stub.FILE.write_text(stub.text())
