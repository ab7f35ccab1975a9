"""Mkdocs's hooks: pages from the files at the top of the repository, and links that hold within the site alone."""

from __future__ import annotations

import pathlib
import posixpath
import re

from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parent.parent
DOCS = ROOT / "docs"

# The site's name of a page, and the file that it is made of.
FROM_TOP = {"adding.md": "CONTRIBUTING.md", "changes.md": "CHANGELOG.md"}
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files, config):
    """Adds the pages that are made of files at the top."""
    for name, source in FROM_TOP.items():
        files.append(File.generated(config, name, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown, page, config, files):
    """Points links into the site, and leaves of those to other files their names."""
    place = page.file.src_uri
    folder = ROOT if place in FROM_TOP else (DOCS / place).parent
    return LINK.sub(lambda link: resolved(link, folder, posixpath.dirname(place)), markdown)


def resolved(link: re.Match, folder: pathlib.Path, here: str) -> str:
    """Returns a link as it is to be in the site.

    Args:
        link: its text, path and anchor.
        folder: of the file that it stands in, where its path begins.
        here: the same folder within the site.

    Raises:
        ValueError: if there is no such file.
    """
    text, path, anchor = link.groups(default="")
    target = (folder / path).resolve()
    if not target.exists() and not (target.parent == DOCS and target.name in FROM_TOP):
        raise ValueError(f"There is no such file. Received: link={path!r} in {folder}")
    made = {ROOT / source: name for name, source in FROM_TOP.items()}
    if text == path and target.suffix == ".md":  # a reader of the site knows pages by their headings
        text = target.read_text().partition("\n")[0].lstrip("# ") if target.exists() else text
    if target in made:
        return f"[{text}]({posixpath.relpath(made[target], here or '.')}{anchor})"
    if target.is_relative_to(DOCS):
        return f"[{text}]({posixpath.relpath(target.relative_to(DOCS).as_posix(), here or '.')}{anchor})"
    # Code is not part of the site: its place in the repository says where it is.
    name = target.relative_to(ROOT).as_posix()
    return f"`{name}`" if text.strip("`") in (name, target.name, path) else f"{text} (`{name}`)"
