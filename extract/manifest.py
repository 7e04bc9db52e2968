"""Owns which clips a source holds: a folder of class folders or a CSV; knows no media and no encoder."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from avcil.errors import ManifestError
from avcil.extract.splits import SPLITS, SplitRule

REQUIRED_COLUMNS = ("id", "path", "label", "split")
MEDIA_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("3gp", "avi", "flv", "gif", "m2ts", "m4s", "m4v", "mkv", "mov", "mp4"),
        *("mpeg", "mpg", "mts", "ogg", "ogv", "ts", "vob", "webm", "wmv"),
    )
)


@dataclass(frozen=True)
class Clip:
    """One clip to encode; `start_s`, `end_s` (s, from the file's start) where it is a part of its file."""

    id: str
    path: Path
    label: str
    split: str
    start_s: float | None = None
    end_s: float | None = None


def read_source(source: Path, *, split: SplitRule) -> list[Clip]:
    """List the clips of a CSV file, a folder of class folders, or a folder of train, val, test.

    CSV: columns id, path (relative to the CSV), label, split, optional start_s and end_s; UTF-8. Folders:
    `<class>/<clip>`, split by `split`, or `train|val|test/<class>/<clip>`; a clip's id is `<class>/<stem>`. A
    file that a CSV names and that is not there stays in the list: it fails alone, later.

    Raises `ManifestError`, one line: what is wrong, where, what to do.
    """
    if source.is_dir():
        clips = _read_folder(source, split)
    elif source.is_file():
        clips = _read_csv(source)
    else:
        raise ManifestError(f"{source}: no such file or folder; give a CSV or a folder of class folders")
    if not any(clip.path.is_file() for clip in clips):
        raise ManifestError(
            f"{source}: none of its {len(clips)} clips exists, the first would be {clips[0].path}"
        )
    return clips


def _read_folder(source: Path, rule: SplitRule) -> list[Clip]:
    folders = _subfolders(source)
    if folders and {folder.name for folder in folders} <= set(SPLITS):
        found = [
            (path, _text(label.name), split.name)
            for split in sorted(folders, key=lambda folder: SPLITS.index(folder.name))
            for label in _subfolders(split)
            for path in _media_files(label)
        ]
    else:
        found = [
            (path, _text(folder.name), part)
            for folder in folders
            for path, part in rule.assign(_text(folder.name), _media_files(folder))
        ]
    if not found:
        raise ManifestError(
            f"{source}: no clips in it; expected <class>/<clip>.mp4 or train|val|test/<class>/<clip>.mp4 "
            f"(known endings: {' '.join(sorted(MEDIA_SUFFIXES))})"
        )
    ids = _unique_ids(found)
    return [Clip(id, path, label, part) for id, (path, label, part) in zip(ids, found, strict=True)]


def _subfolders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _media_files(folder: Path) -> list[Path]:
    files = (
        entry for entry in folder.iterdir() if entry.suffix.lower() in MEDIA_SUFFIXES and not entry.is_dir()
    )
    return sorted(entry for entry in files if not entry.name.startswith("."))


def _unique_ids(found: Sequence[tuple[Path, str, str]]) -> list[str]:
    """Name clips `<class>/<stem>`; where several would share a name, add the ending, then the split."""
    forms: list[Callable[[Path, str, str], str]] = [
        lambda path, label, part: f"{label}/{_text(path.stem)}",
        lambda path, label, part: f"{label}/{_text(path.name)}",
        lambda path, label, part: f"{part}/{label}/{_text(path.name)}",
    ]
    ids = [forms[0](*clip) for clip in found]
    for form in forms[1:]:
        counts = Counter(ids)
        ids = [form(*clip) if counts[id] > 1 else id for id, clip in zip(ids, found, strict=True)]
    return ids


def _text(name: str) -> str:
    """Give a file name as valid Unicode: bytes that are not UTF-8 become escapes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _read_csv(source: Path) -> list[Clip]:
    clips: list[Clip] = []
    first_line: dict[str, int] = {}
    try:
        with source.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            _require_columns(source, reader.fieldnames or [])
            for row in reader:
                where = f"{source}, line {reader.line_num}"
                clip = _clip(row, source.parent, where)
                if clip.id in first_line:
                    first = first_line[clip.id]
                    raise ManifestError(
                        f"{where}: id {clip.id!r} stands already in line {first}; ids must differ"
                    )
                first_line[clip.id] = reader.line_num
                clips.append(clip)
    except UnicodeDecodeError as error:
        raise ManifestError(f"{source}: not UTF-8 text ({error.reason}); save it as CSV in UTF-8") from error
    except csv.Error as error:
        raise ManifestError(
            f"{source}: not a readable CSV ({error}); quote fields that hold commas or quotes"
        ) from error
    except OSError as error:
        raise ManifestError(f"{source}: cannot be read ({error.strerror})") from error
    if not clips:
        raise ManifestError(f"{source}: no clips in it; add one row a clip below the header")
    return clips


def _require_columns(source: Path, columns: Iterable[str]) -> None:
    missing = [name for name in REQUIRED_COLUMNS if name not in columns]
    if missing:
        raise ManifestError(
            f"{source}, line 1: no column {', '.join(missing)}; the first line must name "
            f"{','.join(REQUIRED_COLUMNS)}[,start_s,end_s]"
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
