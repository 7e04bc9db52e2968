"""Text files that list clips: their encoding, lines, separators and fields, and errors that say where."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from avcil.errors import ManifestError

MARKS = {  # the longer ones first, which begin like the shorter ones
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
SEPARATORS = (",", ";", "\t", "|")
_NAMED_SEPARATOR = re.compile(r'"?sep=(.)"?[,;\t]*(?:\r\n|\r|\n)')  # a first line for Excel
_LINE_END = re.compile(r"\r\n|\r|\n")

Likeness = Callable[[Sequence[str]], int]
"""How much a row is like the first one of a format; 0 if not at all."""


def read_text(path: Path) -> str:
    """The file's text, with any line ends as they are: UTF-8, or UTF-16 and UTF-32 that say so.

    Raises `ManifestError`.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror or error})") from error
    try:
        return decoded(data)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ManifestError(f"{path}, line {line}: not UTF-8 text; save the file in UTF-8") from error


def decoded(data: bytes, errors: str = "strict") -> str:
    """Text in the encoding that its first bytes tell; raises `UnicodeDecodeError`."""
    encoding = next((name for mark, name in MARKS.items() if data.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\0" in data[:2]:  # UTF-16 without a mark
        encoding = "utf-16-be" if data[:1] == b"\0" else "utf-16-le"
    return data.decode(encoding, errors)


def lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines that hold something, each after where it stands; `#` and a blank begin a comment."""
    for number, line in enumerate(_LINE_END.split(read_text(path)), start=1):
        text = line.strip()
        if text and not text.startswith("# "):
            yield f"{path}, line {number}", text


def rows(path: Path, likeness: Likeness) -> Iterator[tuple[str, list[str]]]:
    """The rows of a CSV that hold something, stripped, each after where it ends; comments as in `lines`.

    The separator is the one that a first line `sep=;` names, or else the one that makes the first row most
    like that of the format.
    """
    text = read_text(path)
    naming_line, separator = _named_separator(text)
    if not separator:
        found = {one: likeness(row) for one, row in taken_apart(first_line(text)).items()}
        separator = max(SEPARATORS, key=lambda one: found.get(one, 0))
    file = io.StringIO(text[len(naming_line) :], newline="")
    reader = csv.reader(file, delimiter=separator, skipinitialspace=True, strict=True)
    before = 1 if naming_line else 0  # lines
    try:
        for row in reader:
            fields = [field.strip() for field in row]
            if any(fields) and not fields[0].startswith("# "):
                yield f"{path}, line {before + reader.line_num}", fields
    except csv.Error as error:
        raise ManifestError(
            f"{path}, line {before + reader.line_num}: {error}; quote fields that hold "
            "commas or quotes, it is not a readable CSV yet"
        ) from error


def first_line(text: str) -> str:
    """The first line that holds something and is no comment."""
    rest = text[len(_named_separator(text)[0]) :]
    return next((line for line in _LINE_END.split(rest) if line.strip(" ,;\t") and line[0] != "#"), "")


def taken_apart(line: str) -> dict[str, list[str]]:
    """The fields of a line by every separator that it can be read with."""
    found = {}
    for separator in SEPARATORS:
        try:
            row = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
        except csv.Error:
            continue
        found[separator] = [field.strip() for field in row]
    return found


def _named_separator(text: str) -> tuple[str, str]:
    """A first line that names the separator, and what it names."""
    found = _NAMED_SEPARATOR.match(text)
    return (found[0], found[1]) if found else ("", "")


def seconds(text: str, name: str, where: str) -> int:
    """A whole number of seconds, also written as 30.0; raises `ManifestError`."""
    whole = text.removesuffix(".0")
    if not (whole.isascii() and whole.isdecimal() and len(whole) <= 8):
        raise ManifestError(f"{where}: {name} is {text[:40]!r}; it must be a whole number of seconds")
    return int(whole)
