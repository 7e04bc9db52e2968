"""Owns the small files beside the shards: `cache.json`, `manifest.csv`, `failures.csv`. Knows no tokens.

Each is rewritten whole under a temporary name, synchronised and renamed: a reader sees the old one or the
new one. Ids and labels may be any text; the csv module quotes what has to be quoted.
"""

import csv
import io
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from avcil.cache.schema import CacheClip, CacheInfo
from avcil.errors import CacheError

INFO_NAME = "cache.json"
MANIFEST_NAME = "manifest.csv"
FAILURES_NAME = "failures.csv"
FLAGS_NAME = "flags.csv"
_MANIFEST_HEADER = ["id", "label", "split", "source"]
_FAILURES_HEADER = ["id", "kind", "detail"]
_FLAGS_HEADER = ("id", "flag")


def temporary(path: Path) -> Path:
    """The name under which `path` is built; the writer's lock keeps it from being used twice."""
    return path.with_name(f".{path.name}.tmp")


def write_info(folder: Path, info: CacheInfo) -> None:
    """Write `cache.json`."""
    _replace(folder / INFO_NAME, info.to_json())


def read_info(folder: Path) -> CacheInfo:
    """Read `cache.json`.

    Raises:
        CacheError: it is missing, damaged, foreign or of a newer version.
    """
    path = folder / INFO_NAME
    if not path.is_file():
        why = f"it has no {INFO_NAME}" if folder.is_dir() else "there is no such folder"
        raise CacheError(f"{folder} is not a token cache: {why}")
    try:
        return CacheInfo.from_json(_read_text(path))
    except CacheError as error:
        raise CacheError(f"{path}: {error}") from error


def write_manifest(folder: Path, clips: Iterable[CacheClip]) -> None:
    """Write `manifest.csv`, one line a clip."""
    rows = ([clip.id, clip.label, clip.split, clip.source] for clip in clips)
    _write_table(folder / MANIFEST_NAME, _MANIFEST_HEADER, rows)


def read_manifest(folder: Path) -> dict[str, CacheClip]:
    """Read `manifest.csv` as id -> clip, in the order of the file.

    Raises:
        CacheError: it is missing or damaged, or an id stands in it twice; names the record.
    """
    path = folder / MANIFEST_NAME
    clips: dict[str, CacheClip] = {}
    for number, row in _read_table(path, _MANIFEST_HEADER):
        try:
            clip = CacheClip(*row)
        except CacheError as error:
            raise CacheError(f"{path}, record {number}: {error}") from error
        if clip.id in clips:
            raise CacheError(f"{path}, record {number}: id {clip.id!r} stands in it twice")
        clips[clip.id] = clip
    return clips


def by_id(clips: Sequence[CacheClip]) -> dict[str, CacheClip]:
    """The clips as id -> clip, in their order.

    Raises:
        CacheError: an id stands in them twice.
    """
    found = {clip.id: clip for clip in clips}
    if len(found) != len(clips):
        twice = Counter(clip.id for clip in clips).most_common(1)[0][0]
        raise CacheError(f"clip id {twice!r} stands twice in the list of clips: ids must be unique")
    return found


def merged(known: Mapping[str, CacheClip], requested: Mapping[str, CacheClip]) -> dict[str, CacheClip]:
    """`known` with the labels and splits of `requested`, then the clips that are new.

    Raises:
        CacheError: a known clip is requested from another source.
    """
    clips = dict(known)
    for clip_id, clip in requested.items():
        before = known.get(clip_id, clip)
        if clip.source and before.source and clip.source != before.source:
            raise CacheError(
                f"clip {clip_id!r} came from {before.source!r} and is now asked for from {clip.source!r}: "
                "give it another id or choose another cache"
            )
        clips[clip_id] = replace(clip, source=clip.source or before.source)
    return clips


def write_flags(folder: Path, flags: Mapping[str, str]) -> None:
    """Replace `flags.csv`, which says something about clips that have tokens."""
    _write_table(folder / FLAGS_NAME, _FLAGS_HEADER, flags.items())


def read_flags(folder: Path) -> dict[str, str]:
    """id -> flag of the flagged clips.

    Raises:
        CacheError: the file is damaged.
    """
    path = folder / FLAGS_NAME
    return {row[0]: row[1] for _, row in _read_table(path, _FLAGS_HEADER)} if path.exists() else {}


def write_failures(folder: Path, failures: Mapping[str, tuple[str, str]]) -> None:
    """Write `failures.csv` from id -> (kind, detail)."""
    rows = ([clip_id, kind, detail] for clip_id, (kind, detail) in failures.items())
    _write_table(folder / FAILURES_NAME, _FAILURES_HEADER, rows)


def read_failures(folder: Path) -> dict[str, tuple[str, str]]:
    """Read `failures.csv` as id -> (kind, detail); empty if there is none.

    Raises:
        CacheError: it is damaged; names the record.
    """
    path = folder / FAILURES_NAME
    if not path.exists():
        return {}
    return {row[0]: (row[1], row[2]) for _, row in _read_table(path, _FAILURES_HEADER)}


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` last through a loss of power."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    buffer = io.StringIO()
    table = csv.writer(buffer)
    table.writerow(header)
    table.writerows(rows)
    _replace(path, buffer.getvalue())


def _read_table(path: Path, header: Sequence[str]) -> list[tuple[int, list[str]]]:
    """Numbered records without the header; the first one is record 1."""
    try:
        rows = list(csv.reader(io.StringIO(_read_text(path), newline=""), strict=True))
    except csv.Error as error:
        raise CacheError(f"{path} is damaged: {error}") from error
    if not rows or rows[0] != list(header):
        raise CacheError(f"{path} is damaged: its first line is not {','.join(header)}")
    for number, row in enumerate(rows[1:], start=1):
        if len(row) != len(header):
            raise CacheError(f"{path}, record {number}: {len(row)} fields instead of {len(header)}")
    return list(enumerate(rows[1:], start=1))


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")  # not read_text: it would change \r inside a quoted field
    except (OSError, UnicodeDecodeError) as error:
        raise CacheError(f"cannot read {path}: {error}") from error


def _replace(path: Path, text: str) -> None:
    built = temporary(path)
    try:
        with built.open("wb") as file:
            file.write(text.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
        built.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        built.unlink(missing_ok=True)
        raise CacheError(f"cannot write {path}: {error.strerror or error}") from error
