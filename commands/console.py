"""The two consoles, and how tables, documents and commands are printed on them."""

from __future__ import annotations

import codecs
import json
import sys
from io import TextIOWrapper
from typing import TYPE_CHECKING

from rich.console import Console
from rich.measure import Measurement
from rich.text import Text

from avcil.report.labels import printable as printable

if TYPE_CHECKING:
    from avcil.report.table import Table

# Without emoji, or the :x: of a user's path or module:NAME would be drawn as one.
out = Console(soft_wrap=True, highlight=False, emoji=False)
err = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)
LIKE_LETTERS = {"±": "+-", "×": "x", "…": "...", "–": "-", "—": "-", "\N{MINUS SIGN}": "-"}
NARROW = 50  # columns; below, wrapping prose would take numbers and their names away


def print_every_letter() -> None:
    """Let an output that cannot hold a letter (ASCII, Latin-1) show it by others: as JSON does, `+-` for ±.

    Two labels do not become one.
    """

    def replaced(error: UnicodeError) -> tuple[str, int]:
        assert isinstance(error, UnicodeEncodeError)
        letter = error.object[error.start]
        return LIKE_LETTERS.get(letter) or json.dumps(letter)[1:-1], error.start + 1

    codecs.register_error("avcil.replaced", replaced)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="avcil.replaced")


def show(table: Table) -> None:
    """Print a table at its own width: a file or a pipe has no edge, and a narrow terminal may wrap.

    One that holds prose is wrapped at a terminal's edge instead, unless that leaves it no room.
    """
    drawn = table.terminal()
    if not (table.prose and _wraps()):
        drawn.width = Measurement.get(out, out.options.update(max_width=10_000), drawn).maximum
    out.print(drawn, soft_wrap=drawn.width is not None)
    if table.note:
        out.print(table.note, markup=False)


def show_prose(text: str) -> None:
    """Print a paragraph, wrapped between words at a terminal's edge."""
    out.print(Text(text), soft_wrap=not _wraps())


def _wraps() -> bool:
    return out.is_terminal and out.width >= NARROW


def write(text: str) -> None:
    """Print a document as it is: typer's echo takes escape sequences out of the names in it."""
    sys.stdout.write(text)


def write_json(content: object) -> None:
    """Print an object as JSON in ASCII: any output can hold it, and no letter turns a terminal around."""
    write(json.dumps(content, default=str, indent=1) + "\n")


def show_command(command: str) -> None:
    """Print a command as one that could be typed."""
    out.print(f"\n$ {command}", markup=False, style="bold")


def exclusive(asked: dict[str, bool]) -> str | None:
    """The one option of several that was given, None without."""
    from avcil.errors import ConfigError

    chosen = [name for name, wanted in asked.items() if wanted]
    if len(chosen) > 1:
        given = " and ".join(f"--{name}" for name in chosen)
        raise ConfigError(f"{given} exclude each other; give one of them")
    return chosen[0] if chosen else None
