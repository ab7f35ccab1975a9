"""Progress bars with images per second and time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any


def bar() -> Any:
    """Returns a rich `Progress` whose tasks have the fields `speed` (images per second) and `values` (a text).

    It shows nothing where the output is no terminal, and leaves nothing behind.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 160)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]:6.0f} images/s"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[values]}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def tracked(batches: Iterable[tuple[Any, Any]], description: str, total: int | None, show: bool) -> Iterator[tuple]:
    """Passes batches of (images, labels) on, under a bar of `total` images."""
    if not show:
        yield from batches
        return
    start, done = time.perf_counter(), 0
    with bar() as progress:
        task = progress.add_task(description, total=total, speed=0.0, values="")
        for images, labels in batches:
            yield images, labels
            done += len(images)
            progress.update(task, completed=done, speed=done / (time.perf_counter() - start))
