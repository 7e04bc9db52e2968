"""The CSV of clips: columns id, path, label, split and, for parts of files, start_s and end_s."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import dropwhile
from pathlib import Path

from avcil.errors import ManifestError
from avcil.extract.sources.clip import Clip, checked_label, checked_split
from avcil.extract.sources.file_names import FileNames
from avcil.extract.sources.listing import rows
from avcil.labels import without_margins

REQUIRED_COLUMNS = ("id", "path", "label", "split")
COLUMNS = (*REQUIRED_COLUMNS, "start_s", "end_s")


def csv_likeness(row: Sequence[str]) -> int:
    """How many of the required columns a header names."""
    return len(set(REQUIRED_COLUMNS) & set(_names(row)))


def _names(header: Sequence[str]) -> list[str]:
    return [without_margins(name).lower() for name in header]


def read_csv(source: Path, folder: Path) -> list[Clip]:
    """List the rows of a CSV; paths are relative to `folder`.

    Any separator, the names of columns in any case, blanks around fields, and lines of comments are taken as
    they are meant. Raises `ManifestError` naming the line.
    """
    found = dropwhile(_is_comment, rows(source, csv_likeness))
    where, header = next(found, (f"{source}, line 1", []))
    columns = _columns(header, where)
    clips: list[Clip] = []
    first_place: dict[str, str] = {}
    names = FileNames()
    for where, fields in found:
        if len(fields) == 1 and fields[0].startswith("#"):
            continue
        if any(fields[len(header) :]):
            raise ManifestError(f"{where}: more fields than columns; quote fields that hold commas")
        row = {name: fields[i] if i < len(fields) else "" for name, i in columns.items()}
        clip = _clip(row, folder, names, where)
        if clip.id in first_place:
            raise ManifestError(
                f"{where}: id {clip.id!r} stands already in {first_place[clip.id]}; ids must differ"
            )
        first_place[clip.id] = where.rpartition(", ")[2]
        clips.append(clip)
    if not clips:
        raise ManifestError(f"{source}: no clips in it; add one row a clip below the header")
    return clips


def _is_comment(numbered: tuple[str, Sequence[str]]) -> bool:
    return numbered[1][0].startswith("#")


def _columns(header: Sequence[str], where: str) -> dict[str, int]:
    """Where the columns stand that are known here."""
    names = _names(header)
    if missing := [name for name in REQUIRED_COLUMNS if name not in names]:
        raise ManifestError(
            f"{where}: no column {', '.join(missing)}; the first line must name "
            f"{','.join(REQUIRED_COLUMNS)}[,start_s,end_s]; other lists may need --format"
        )
    if repeated := [name for name in COLUMNS if names.count(name) > 1]:
        raise ManifestError(f"{where}: column {repeated[0]} stands there twice; rename or remove one")
    return {name: names.index(name) for name in COLUMNS if name in names}


def _clip(row: Mapping[str, str], folder: Path, names: FileNames, where: str) -> Clip:
    for name in ("id", "path"):
        if not row[name]:
            raise ManifestError(f"{where}: {name} is empty")
        if "\0" in row[name]:
            raise ManifestError(f"{where}: {name} {row[name]!r} holds a NUL character")
    if not row["label"]:
        raise ManifestError(f"{where}: label is empty")
    label, split = checked_label(row["label"], where), checked_split(row["split"], where)
    start_s = _seconds(row, "start_s", where)
    end_s = _seconds(row, "end_s", where)
    if end_s is not None and end_s <= (start_s or 0.0):
        raise ManifestError(f"{where}: end_s is {end_s:g}, not after start_s ({start_s or 0.0:g})")
    return Clip(row["id"], names.listed(row["path"], folder, where), label, split, start_s, end_s)


def _seconds(row: Mapping[str, str], name: str, where: str) -> float | None:
    text = row.get(name, "")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise ManifestError(
            f"{where}: {name} is {text!r}; it must be a number of seconds, 0 or more, or empty"
        )
    return value
