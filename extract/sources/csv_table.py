"""The CSV of clips: columns id, path, label, split and, for parts of files, start_s and end_s."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from avcil.errors import ManifestError
from avcil.extract.sources.clip import Clip
from avcil.extract.sources.listing import read_text
from avcil.extract.sources.splits import SPLITS

REQUIRED_COLUMNS = ("id", "path", "label", "split")


def read_csv(source: Path, folder: Path) -> list[Clip]:
    """List the rows of a CSV in UTF-8; paths are relative to `folder`.

    Raises `ManifestError` naming the line.
    """
    clips: list[Clip] = []
    first_line: dict[str, int] = {}
    reader = csv.DictReader(io.StringIO(read_text(source), newline=""), strict=True)
    try:
        _require_columns(source, reader.fieldnames or [])
        for row in reader:
            where = f"{source}, line {reader.line_num}"
            clip = _clip(row, folder, where)
            if clip.id in first_line:
                first = first_line[clip.id]
                raise ManifestError(
                    f"{where}: id {clip.id!r} stands already in line {first}; ids must differ"
                )
            first_line[clip.id] = reader.line_num
            clips.append(clip)
    except csv.Error as error:
        raise ManifestError(
            f"{source}: not a readable CSV ({error}); quote fields that hold commas or quotes"
        ) from error
    if not clips:
        raise ManifestError(f"{source}: no clips in it; add one row a clip below the header")
    return clips


def _require_columns(source: Path, columns: Iterable[str]) -> None:
    missing = [name for name in REQUIRED_COLUMNS if name not in columns]
    if missing:
        raise ManifestError(
            f"{source}, line 1: no column {', '.join(missing)}; the first line must name "
            f"{','.join(REQUIRED_COLUMNS)}[,start_s,end_s]; other lists may need --format"
        )


def _clip(row: Mapping[str, str | None], folder: Path, where: str) -> Clip:
    if None in row:
        raise ManifestError(f"{where}: more fields than columns; quote fields that hold commas")
    id, path, label, split = (row[name] or "" for name in REQUIRED_COLUMNS)
    for name, value in (("id", id), ("path", path), ("label", label)):
        if not value.strip():
            raise ManifestError(f"{where}: {name} is empty")
        if "\0" in value:
            raise ManifestError(f"{where}: {name} {value!r} holds a NUL character")
    if split not in SPLITS:
        raise ManifestError(
            f"{where}: split is {split!r}; it must be {', '.join(SPLITS[:-1])} or {SPLITS[-1]}"
        )
    start_s = _seconds(row, "start_s", where)
    end_s = _seconds(row, "end_s", where)
    if end_s is not None and end_s <= (start_s or 0.0):
        raise ManifestError(f"{where}: end_s is {end_s:g}, not after start_s ({start_s or 0.0:g})")
    return Clip(id, folder / path, label, split, start_s, end_s)


def _seconds(row: Mapping[str, str | None], name: str, where: str) -> float | None:
    text = (row.get(name) or "").strip()
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
