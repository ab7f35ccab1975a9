"""The command `kresnet`."""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Sequence

import kresnet


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command with these arguments (default: the process's own) and returns its exit status."""
    parser = argparse.ArgumentParser("kresnet", description="Residual and mobile networks for Keras.")
    parser.add_argument("--version", action="version", version=f"kresnet {kresnet.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("list", help="list the networks", description="List the networks.")
    command.add_argument("pattern", nargs="?", default="*", help="only keys that match, such as 'resnet*d'")
    command.set_defaults(run=_list)
    command = commands.add_parser("cost", help="what a network costs", description="MACs, parameters, memory by layer.")
    command.add_argument("key", help="one of `kresnet list`")
    command.add_argument("--input", type=int, metavar="PIXELS", help="height and width (default: as published)")
    command.add_argument("--batch-size", type=int, default=1, metavar="IMAGES", help="for the memory (default: 1)")
    command.add_argument("--dtype", default="float32", help="for the memory, such as bfloat16 (default: float32)")
    command.add_argument("--csv", metavar="FILE", help="write the table to a CSV file as well")
    command.set_defaults(run=_cost)
    options = parser.parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's start-up messages are not about the command
    try:
        return options.run(options)
    except ValueError as error:
        print(f"kresnet: {error}", file=sys.stderr)
        return 2


def _networks() -> None:
    """Fills the registry."""
    from kresnet.models import efficientnet, mobilenet, resnet  # noqa: F401


def _list(options: argparse.Namespace) -> int:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from kresnet.zoo import COSTS, get_builder, list_models

    _networks()
    keys = list_models(options.pattern)
    if not keys:
        raise ValueError(f"No network matches. Received: pattern={options.pattern!r}")
    with COSTS.open() as file:
        costs = {row["name"]: row for row in csv.DictReader(file)}
    table = Table(box=box.SIMPLE)
    for column in ("key", "builder", "parameters", "GMACs", "pixels", "paper"):
        table.add_column(
            column, justify="right" if column in ("parameters", "GMACs", "pixels") else "left", no_wrap=True
        )
    for key in keys:
        builder, cost = get_builder(key), costs[key]
        numbers = f"{int(cost['parameters']):,}", f"{int(cost['macs']) / 1e9:.3f}", str(builder.input_size)
        table.add_row(key, f"kresnet.{builder.__name__}", *numbers, f"arXiv:{builder.paper}")
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    return 0


def _cost(options: argparse.Namespace) -> int:
    from rich.console import Console

    from kresnet.cost import cost
    from kresnet.zoo import get_builder

    _networks()
    builder = get_builder(options.key)
    size = (options.input or builder.input_size,) * 2
    found = cost(builder(input_shape=(*size, 3)), batch_size=options.batch_size, dtype=options.dtype)
    if options.csv:
        found.to_csv(options.csv)
    Console(width=None if sys.stdout.isatty() else 160).print(found.table())
    print(found.summary())
    return 0
