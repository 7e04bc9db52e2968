"""The folder of a cache beside its shards: lock, `cache.json`, and the tables of clips, failures and flags.

`cache.json` and the tables are replaced whole and carry checksums, so that a change is noticed. Ids and
labels may be any text; the csv module quotes what has to be quoted. Flags that come while a cache is written
are appended to `flags.log`, which the writer takes into `flags.csv` when it opens and closes the cache.
"""

import contextlib
import csv
import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from avcil.cache.checked_json import decode_checked, encode_checked, record_checksums
from avcil.cache.schema import CacheClip, CacheInfo
from avcil.errors import CacheError
from avcil.files import is_unfinished, os_errors_as, sync, write_bytes
from avcil.files import locked as holding
from avcil.tables import parse_json, shown

INFO_FORMAT = "avcil-tokens"
INFO_NAME, MANIFEST_NAME = "cache.json", "manifest.csv"
LOCK_NAME, FLAGS_LOG_NAME = ".lock", "flags.log"
_CHECKSUM = "crc32"  # the last column of every table


@dataclass(frozen=True)
class _Table:
    """A table of text; `remedy` says what to do where it was changed."""

    name: str
    columns: tuple[str, ...]
    remedy: str

    def write(self, folder: Path, records: Sequence[Sequence[str]]) -> None:
        """Replace the table in `folder`."""
        buffer = io.StringIO()
        table = csv.writer(buffer)
        table.writerow([*self.columns, _CHECKSUM])
        table.writerows([*one, crc] for one, crc in zip(records, record_checksums(records), strict=True))
        _replace(folder / self.name, buffer.getvalue().encode("utf-8"))

    def read(self, folder: Path) -> list[list[str]]:
        """The records of the table in `folder`, without their checksums; raises `CacheError`."""
        path, expected = folder / self.name, [*self.columns, _CHECKSUM]
        try:
            text = _read(path).decode("utf-8")  # not read_text: it would change \r inside a quoted field
            rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
        except (csv.Error, UnicodeDecodeError) as error:
            raise CacheError(f"{path} is damaged: {error}; {self.remedy}") from error
        if not rows or rows.pop(0) != expected:
            raise CacheError(f"{path} is damaged: its first line is not {','.join(expected)}; {self.remedy}")
        for number, row in enumerate(rows, start=1):
            if len(row) != len(expected):
                counts = f"{len(row)} fields instead of {len(expected)}"
                raise CacheError(f"{path}, record {number}: {counts}; {self.remedy}")
        records = [row[:-1] for row in rows]
        for number, (row, crc) in enumerate(zip(rows, record_checksums(records), strict=True), start=1):
            if row[-1] != crc:
                raise CacheError(
                    f"{path} does not match its checksums from record {number} on: it was changed or damaged "
                    f"after it was written; {self.remedy}"
                )
        return records


_MANIFEST = _Table(
    MANIFEST_NAME,
    ("id", "label", "split", "source"),
    "`avcil cache relabel` changes labels and splits, and makes a whole manifest of a list of them",
)
_FAILURES = _Table(
    "failures.csv", ("id", "kind", "detail"), "delete it: the next extraction finds failures again"
)
_FLAGS = _Table("flags.csv", ("id", "flag"), "delete it: only its remarks are lost")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Make the folder `path` if need be and hold its lock.

    Raises:
        CacheError: it holds something that is not a cache, another process writes it, or it cannot be
            written at all.
    """
    busy = CacheError(f"{path} is being written by another process: wait for it or stop it")
    with contextlib.ExitStack() as lock:
        with os_errors_as(CacheError, f"cannot write a cache at {path}"):
            path.mkdir(parents=True, exist_ok=True)
            _check_content(path)
            lock.enter_context(holding(path / LOCK_NAME, busy))
        yield


def remove_traces(path: Path, made_folder: bool) -> None:
    """Take away a cache that could not be begun; the folder too if it was made for it."""
    for name in (MANIFEST_NAME, _FAILURES.name, _FLAGS.name, FLAGS_LOG_NAME, INFO_NAME, LOCK_NAME):
        (path / name).unlink(missing_ok=True)
    if made_folder:
        with contextlib.suppress(OSError):  # something else came to lie in it
            path.rmdir()


def _check_content(path: Path) -> None:
    """Refuse a folder that is neither a cache, nor a cache just begun, nor empty."""
    if (path / INFO_NAME).exists():
        return
    for entry in path.iterdir():
        if entry.name != LOCK_NAME and not is_unfinished(entry):
            raise CacheError(
                f"{path} holds {entry.name!r} and no {INFO_NAME}: it is not a token cache; "
                "choose an empty or a new folder"
            )


def write_info(folder: Path, info: CacheInfo) -> None:
    """Write `cache.json`."""
    _replace(folder / INFO_NAME, encode_checked(INFO_FORMAT, {**info.content(), "identity": info.identity}))


def read_info(folder: Path) -> CacheInfo:
    """Read `cache.json`.

    Raises:
        CacheError: it is missing, changed, damaged, foreign or of another version.
    """
    path = folder / INFO_NAME
    if not path.is_file():
        if folder.is_file():
            why = "it is a file, a cache is a folder"
        else:
            why = f"it has no {INFO_NAME}" if folder.is_dir() else "there is no such folder"
        raise CacheError(f"{folder} is not a token cache: {why}")
    data = _read(path)
    try:
        content = decode_checked(data, INFO_FORMAT)
        identity = content.pop("identity", None)
        info = CacheInfo.from_content(content)
        if identity != info.identity:
            raise CacheError(f'"identity" is {shown(identity)}, expected {info.identity!r}')
    except CacheError as error:
        raise CacheError(f"{path}: {error}") from error
    return info


def write_manifest(folder: Path, clips: Iterable[CacheClip]) -> None:
    """Write `manifest.csv`, one line a clip."""
    _MANIFEST.write(folder, [[clip.id, clip.label, clip.split, clip.source] for clip in clips])


def read_manifest(folder: Path) -> dict[str, CacheClip]:
    """Read `manifest.csv` as id -> clip, in the order of the file.

    Raises:
        CacheError: it is missing, changed or damaged, or an id stands in it twice; names the record.
    """
    clips: dict[str, CacheClip] = {}
    for number, record in enumerate(_MANIFEST.read(folder), start=1):
        where = f"{folder / MANIFEST_NAME}, record {number}"
        try:
            clip = CacheClip(*record)
        except CacheError as error:
            raise CacheError(f"{where}: {error}") from error
        if clip.id in clips:
            raise CacheError(f"{where}: id {clip.id!r} stands in it twice")
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


def write_failures(folder: Path, failures: Mapping[str, tuple[str, str]]) -> None:
    """Write `failures.csv` from id -> (kind, detail)."""
    _FAILURES.write(folder, [[clip_id, *why] for clip_id, why in failures.items()])


def read_failures(folder: Path) -> dict[str, tuple[str, str]]:
    """Read `failures.csv` as id -> (kind, detail); empty if there is none.

    Raises:
        CacheError: it is damaged; names the record.
    """
    if not (folder / _FAILURES.name).exists():
        return {}
    return {clip_id: (kind, detail) for clip_id, kind, detail in _FAILURES.read(folder)}


def append_flags(folder: Path, flags: Mapping[str, str]) -> None:
    """Add flags to `flags.log`, on the disk when this returns; several processes may."""
    path = folder / FLAGS_LOG_NAME
    lines = (json.dumps([*flag, *record_checksums([flag])]) for flag in flags.items())
    with os_errors_as(CacheError, f"cannot write {path}"):
        is_new = not path.exists()
        with path.open("ab") as log:
            log.write("".join(f"{line}\n" for line in lines).encode("ascii"))
            log.flush()
            os.fsync(log.fileno())
        if is_new:
            sync(folder)


def collect_flags(folder: Path) -> None:
    """Take the flags of `flags.log` into `flags.csv`; for the holder of the lock."""
    log = folder / FLAGS_LOG_NAME
    if log.exists():
        _FLAGS.write(folder, [[*flag] for flag in read_flags(folder).items()])
        with os_errors_as(CacheError, f"cannot remove {log}"):
            log.unlink()


def read_flags(folder: Path) -> dict[str, str]:
    """id -> flag of the flagged clips.

    Raises:
        CacheError: a file is damaged.
    """
    late = dict(_read_log(folder / FLAGS_LOG_NAME))  # first: a writer moves them from there to the table
    records = _FLAGS.read(folder) if (folder / _FLAGS.name).exists() else []
    return {clip_id: flag for clip_id, flag in records} | late


def _read_log(path: Path) -> Iterator[tuple[str, str]]:
    if not path.exists():
        return
    *lines, _ = _read(path).split(b"\n")  # what follows the last newline was cut off: no tokens came after it
    for number, line in enumerate(lines, start=1):
        try:
            record = parse_json(line)
            if not isinstance(record, list) or [type(one) for one in record] != [str] * 3:
                raise ValueError("expected a list of id, flag and checksum")
            clip_id, flag, crc = record
            if [crc] != [*record_checksums([[clip_id, flag]])]:
                raise ValueError("it does not match its checksum")
        except ValueError as error:
            raise CacheError(f"{path}, line {number}, is damaged: {error}; {_FLAGS.remedy}") from error
        yield clip_id, flag


def _read(path: Path) -> bytes:
    with os_errors_as(CacheError, f"cannot read {path}"):
        return path.read_bytes()


def _replace(path: Path, data: bytes) -> None:
    with os_errors_as(CacheError, f"cannot write {path}"):
        write_bytes(path, data, durable=True)
