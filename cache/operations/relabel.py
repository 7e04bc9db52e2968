"""Other labels and splits for clips of a cache: an editor would break the checksums of the manifest."""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from avcil.cache import folder
from avcil.cache.schema import CacheClip
from avcil.cache.shard import open_shard, shard_paths
from avcil.errors import CacheError
from avcil.files import reason

_COLUMNS = ("label", "split", "source")


def relabel(path: Path, table: Path) -> int:
    """Take labels, splits and sources from the CSV file `table`; gives the number of clips that changed.

    It has a column `id` and one or more of `label`, `split` and `source`; other columns are ignored, clips
    that it does not list stay as they are. Where the cache's own manifest is damaged or was edited, `table`
    must list every clip with label and split, and a new manifest is made of it; it may be that very file.

    Raises:
        CacheError: a record cannot be used (names it), a clip is unknown or, where all are needed, missing;
            another process writes the cache.
    """
    info = folder.read_info(path)  # before the lock, which would make a folder
    with folder.locked(path):
        known, reason = _manifest(path)
        clips = dict(known)
        stored = [clip_id for shard in shard_paths(path).values() for clip_id in open_shard(shard, info).ids]
        for where, row in _records(table):
            clip_id = row.pop("id")
            if clip_id not in known and clip_id not in stored:
                raise CacheError(f"{where}: clip {clip_id!r} is not in {path}")
            clips[clip_id] = _changed(clip_id, known.get(clip_id), row, where)
        if missing := [clip_id for clip_id in stored if clip_id not in clips]:
            raise CacheError(f"{table} must list all clips, {missing[0]!r} is missing, because {reason}")
        folder.write_manifest(path, clips.values())
    return sum(clip != known.get(clip_id) for clip_id, clip in clips.items())


def _manifest(path: Path) -> tuple[dict[str, CacheClip], str]:
    """The manifest, or nothing and why it cannot be trusted."""
    try:
        return folder.read_manifest(path), ""
    except CacheError as error:
        return {}, str(error)


def _changed(clip_id: str, before: CacheClip | None, row: Mapping[str, str], where: str) -> CacheClip:
    try:
        return CacheClip(clip_id, **row) if before is None else replace(before, **row)
    except (CacheError, TypeError) as error:
        raise CacheError(f"{where}: {error}") from error


def _records(table: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Where each record stands, and its fields that are known here."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            found = [name for name in _COLUMNS if name in (rows.fieldnames or ())]
            if "id" not in (rows.fieldnames or ()) or not found:
                raise CacheError(f"{table}: the first line must name id and one of {', '.join(_COLUMNS)}")
            seen: set[str] = set()
            for number, row in enumerate(rows, start=1):
                where = f"{table}, record {number}"
                fields = {name: row[name] for name in ("id", *found)}
                if None in fields.values() or None in row:  # a text with a comma needs quotes
                    raise CacheError(f"{where}: it has more or fewer fields than the first line")
                if fields["id"] in seen:
                    raise CacheError(f"{where}: its id {fields['id']!r} stands in the table twice")
                seen.add(fields["id"])
                yield where, fields
    except OSError as error:
        raise CacheError(f"cannot read {table}: {reason(error)}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise CacheError(f"{table} is not a CSV file in UTF-8: {error}") from error
