"""Where in one of our networks a layer is, which its name says."""

from __future__ import annotations

import re

# The part of one of our networks that a layer is of, and within it the block.
_PLACE = re.compile(r"(?P<part>stem|stage\d+|head)(?P<block>_block\d+)?_\w+")


def part(name: str) -> str | None:
    """Returns the part that a layer of that name is of: "stem", "stage1", ..., "head"; None: the name says none.

    The classifier is of no part.
    """
    match = _PLACE.fullmatch(name)
    return match["part"] if match else None


def block(name: str) -> str | None:
    """Returns the block that a layer of that name is of, such as "stage2_block1", or the part if that has no blocks."""
    match = _PLACE.fullmatch(name)
    return match["part"] + (match["block"] or "") if match else None
