"""The table of all networks, in a file that can be read without importing Keras or any family."""

from __future__ import annotations

import csv
import fnmatch
import re
from pathlib import Path
from typing import Any

# Trainable parameters, and MACs for an image of the network's own size. `make table` writes it; the tests count again.
FILE = Path(__file__).with_name("networks.csv")
COLUMNS = ("key", "builder", "parameters", "macs", "pixels", "paper")


def rows(pattern: str = "*") -> list[dict[str, str]]:
    """Returns the rows of the networks whose keys match a pattern with the wildcards * and ?, by column."""
    with FILE.open(newline="") as file:
        return [row for row in csv.DictReader(file) if fnmatch.fnmatchcase(row["key"], pattern)]


def natural(key: str) -> list[Any]:
    """Returns what to sort a key by, so that numbers in it count as numbers: resnet18 before resnet110."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", key)]
