"""Owns the two consoles and how commands speak on them; knows no command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.measure import Measurement

if TYPE_CHECKING:
    from rich.table import Table

out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)


def show(table: Table) -> None:
    """Print a table at its own width: a file or a pipe has no edge, and a narrow terminal may wrap."""
    table.width = Measurement.get(out, out.options.update(max_width=10_000), table).maximum
    out.print(table)


def printable(text: str) -> str:
    """`text` in one line, with control characters (a label may hold any) made visible."""
    return "".join(c if c.isprintable() else " " if c == "\n" else repr(c)[1:-1] for c in text)


def say(command: str) -> None:
    """Print a command as one that could be typed."""
    out.print(f"\n$ {command}", markup=False, style="bold")
