"""Text files that list clips: their lines, their fields, and errors that say where."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from avcil.errors import ManifestError


def read_text(path: Path) -> str:
    """The file's text, with any line ends as they are; raises `ManifestError`."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise ManifestError(f"{path}, line {line}: not UTF-8 text; save the file in UTF-8") from error
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror or error})") from error


def lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines that hold something, each after where it stands; `#` and a blank begin a comment."""
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        text = line.strip(" \t\r")
        if text and not text.startswith("# "):
            yield f"{path}, line {number}", text


def rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The rows of a CSV that hold something, stripped, each after where it ends; comments as in `lines`."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""), skipinitialspace=True, strict=True)
    try:
        for row in reader:
            fields = [field.strip() for field in row]
            if any(fields) and not fields[0].startswith("# "):
                yield f"{path}, line {reader.line_num}", fields
    except csv.Error as error:
        raise ManifestError(
            f"{path}, line {reader.line_num}: {error}; quote fields that hold commas or quotes"
        ) from error


def seconds(text: str, name: str, where: str) -> int:
    """A whole number of seconds, also written as 30.0; raises `ManifestError`."""
    whole = text.removesuffix(".0")
    if not (whole.isascii() and whole.isdecimal() and len(whole) <= 8):
        raise ManifestError(f"{where}: {name} is {text[:40]!r}; it must be a whole number of seconds")
    return int(whole)
