"""The command `kresnet`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import kresnet


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command with these arguments (default: the process's own) and returns its exit status."""
    parser = argparse.ArgumentParser("kresnet", description="Residual networks for Keras.")
    parser.add_argument("--version", action="version", version=f"kresnet {kresnet.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("list", help="list the networks", description="List the networks.")
    command.add_argument("pattern", nargs="?", default="*", help="only keys that match, such as 'resnet*d'")
    command.set_defaults(run=_list)
    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except ValueError as error:
        print(f"kresnet: {error}", file=sys.stderr)
        return 2


def _list(options: argparse.Namespace) -> int:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from kresnet.models import resnet  # noqa: F401 (fills the registry)
    from kresnet.zoo import get_builder, list_models

    keys = list_models(options.pattern)
    if not keys:
        raise ValueError(f"No network matches. Received: pattern={options.pattern!r}")
    table = Table("Key", "Builder", "Pixels", "Paper", box=box.SIMPLE)
    for key in keys:
        builder = get_builder(key)
        table.add_row(key, f"kresnet.{builder.__name__}", str(builder.input_size), f"arXiv:{builder.paper}")
    Console().print(table)
    return 0
