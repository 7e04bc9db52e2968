"""The progress of long work: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PLAIN_INTERVAL_S = 10.0


class Show(Protocol):
    """Called with how much is done, of how much, and a few words about now."""

    def __call__(self, done: int, total: int, note: str = "") -> None: ...  # noqa: D102


@contextmanager
def progress(console: Console, title: str) -> Iterator[Show]:
    """Show the progress of one piece of work.

    On a terminal a bar appears and goes away again; otherwise a plain line is printed now and then, so that
    a log stays a log.
    """
    if console.is_terminal:
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}", style="dim"),
            console=console,
            transient=True,
        ) as bars:
            task = bars.add_task(title, total=None, note="")
            yield lambda done, total, note="": bars.update(task, completed=done, total=total, note=note)
        return

    printed = time.monotonic()

    def show(done: int, total: int, note: str = "") -> None:
        nonlocal printed
        if time.monotonic() - printed >= PLAIN_INTERVAL_S:
            printed = time.monotonic()
            console.print(f"{title} {done}/{total} {note}".rstrip(), markup=False, highlight=False)

    yield show
