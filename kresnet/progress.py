"""What is said meanwhile: lines, and progress bars that show images per second and the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any


def say(line: str) -> None:
    """Tells what was done that nobody asked for by name, on the standard error."""
    print(line, file=sys.stderr)


def track(items: Iterable[Any], description: str, total: int | None = None) -> Iterable[Any]:
    """Yields the items under a bar that disappears when it is done; no bar, nor its empty line, without a terminal."""
    from rich.progress import track

    return track(items, description, total=total, transient=True, disable=not sys.stdout.isatty())


def bar() -> Any:
    """Returns a rich `Progress` whose tasks have the fields `speed` (images per second) and `values` (text).

    The bar disappears when it is done. If the output is not a terminal, no bar is shown.
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
    """Yields images and labels of each batch unchanged, and shows progress in images meanwhile.

    Args:
        batches: what to iterate over; weights that come third are left out.
        description: text in front of the bar.
        total: number of images; None if it is not known.
        show: whether to show the bar.
    """
    if not show:
        for images, labels, *_ in batches:
            yield images, labels
        return
    start, done = time.perf_counter(), 0
    with bar() as progress:
        task = progress.add_task(description, total=total, speed=0.0, values="")
        for images, labels, *_ in batches:
            yield images, labels
            done += len(images)
            progress.update(task, completed=done, speed=done / (time.perf_counter() - start))


@contextmanager
def tracked_bytes(description: str, total: int | None, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Yields a function to call with the number of bytes that have come, and shows progress meanwhile on a terminal.

    Args:
        description: text in front of the bar.
        total: number of bytes; None if it is not known.
        done: bytes that had come before.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    console = Console(file=sys.stderr)
    with Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(description, total=total, completed=done)
        yield lambda count: progress.update(task, advance=count)
