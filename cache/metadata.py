"""Owns the small files beside the shards: `cache.json`, `manifest.csv`, `failures.csv`. Knows no tokens.

Each is rewritten whole under a temporary name, synchronised and renamed: a reader sees the old one or the
new one. Each carries checksums, so that a change is noticed: of a table, in its last column. Ids and labels
may be any text; the csv module quotes what has to be quoted.
"""

import csv
import io
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from avcil.cache.schema import CacheClip, CacheInfo
from avcil.cache.sealed import record_checksums, seal, unseal
from avcil.errors import CacheError

INFO_FORMAT = "avcil-tokens"
INFO_NAME = "cache.json"
MANIFEST_NAME = "manifest.csv"
FAILURES_NAME = "failures.csv"
FLAGS_NAME = "flags.csv"
_MANIFEST_HEADER = ["id", "label", "split", "source"]
_FAILURES_HEADER = ["id", "kind", "detail"]
_FLAGS_HEADER = ["id", "flag"]
_CHECKSUM = "crc32"  # the last column of every table


def temporary(path: Path) -> Path:
    """The name under which `path` is built; the writer's lock keeps it from being used twice."""
    return path.with_name(f".{path.name}.tmp")


def write_info(folder: Path, info: CacheInfo) -> None:
    """Write `cache.json`."""
    _replace(folder / INFO_NAME, seal(INFO_FORMAT, {**info.content(), "identity": info.identity}))


def read_info(folder: Path) -> CacheInfo:
    """Read `cache.json`.

    Raises:
        CacheError: it is missing, changed, damaged, foreign or of another version.
    """
    path = folder / INFO_NAME
    if not path.is_file():
        why = f"it has no {INFO_NAME}" if folder.is_dir() else "there is no such folder"
        raise CacheError(f"{folder} is not a token cache: {why}")
    data = _read(path)
    try:
        content = unseal(data, INFO_FORMAT)
        identity = content.pop("identity", None)
        info = CacheInfo.from_content(content)
        if identity != info.identity:
            raise CacheError(f'"identity" is {identity!r}, expected {info.identity!r}')
    except CacheError as error:
        raise CacheError(f"{path}: {error}") from error
    return info


def write_manifest(folder: Path, clips: Iterable[CacheClip]) -> None:
    """Write `manifest.csv`, one line a clip."""
    rows = ([clip.id, clip.label, clip.split, clip.source] for clip in clips)
    _write_table(folder / MANIFEST_NAME, _MANIFEST_HEADER, rows)


def read_manifest(folder: Path) -> dict[str, CacheClip]:
    """Read `manifest.csv` as id -> clip, in the order of the file.

    Raises:
        CacheError: it is missing, changed or damaged, or an id stands in it twice; names the record.
    """
    path = folder / MANIFEST_NAME
    clips: dict[str, CacheClip] = {}
    mend = "`avcil cache relabel` changes labels and splits, and makes a whole manifest of a list of them"
    for number, row in _read_table(path, _MANIFEST_HEADER, mend):
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
    if not path.exists():
        return {}
    mend = "delete it: only its remarks are lost"
    return {row[0]: row[1] for _, row in _read_table(path, _FLAGS_HEADER, mend)}


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
    mend = "delete it: the next extraction finds failures again"
    return {row[0]: (row[1], row[2]) for _, row in _read_table(path, _FAILURES_HEADER, mend)}


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` last through a loss of power."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    records = list(rows)
    buffer = io.StringIO()
    table = csv.writer(buffer)
    table.writerow([*header, _CHECKSUM])
    table.writerows([*record, crc] for record, crc in zip(records, record_checksums(records), strict=True))
    _replace(path, buffer.getvalue().encode("utf-8"))


def _read_table(path: Path, header: Sequence[str], mend: str) -> list[tuple[int, list[str]]]:
    """Numbered records without the header and their checksums; the first one is record 1.

    `mend` says what to do about a table that was changed.
    """
    expected = [*header, _CHECKSUM]
    try:
        text = _read(path).decode("utf-8")  # not read_text: it would change \r inside a quoted field
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise CacheError(f"{path} is damaged: {error}; {mend}") from error
    if not rows or rows[0] != expected:
        raise CacheError(f"{path} is damaged: its first line is not {','.join(expected)}; {mend}")
    for number, row in enumerate(rows[1:], start=1):
        if len(row) != len(expected):
            raise CacheError(f"{path}, record {number}: {len(row)} fields instead of {len(expected)}; {mend}")
    records = [row[:-1] for row in rows[1:]]
    for number, (row, crc) in enumerate(zip(rows[1:], record_checksums(records), strict=True), start=1):
        if row[-1] != crc:
            raise CacheError(
                f"{path} does not match its checksums from record {number} on: it was changed or damaged "
                f"after it was written; {mend}"
            )
    return list(enumerate(records, start=1))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CacheError(f"cannot read {path}: {error.strerror or error}") from error


def _replace(path: Path, data: bytes) -> None:
    built = temporary(path)
    try:
        with built.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        built.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        built.unlink(missing_ok=True)
        raise CacheError(f"cannot write {path}: {error.strerror or error}") from error
