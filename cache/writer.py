"""A cache being filled by its one writer: rows that are whole or absent.

Whatever moment the process is killed at, the cache stays readable and only rows of the batch in flight are
lost: the data of a row is on the disk before its checksum is written, and a row without one is missing.
"""

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np

from avcil.cache import folder
from avcil.cache.row_writer import RowWriter, as_text
from avcil.cache.schema import CacheClip, CacheInfo, differences
from avcil.cache.shard import create_shard, shard_path, shard_paths
from avcil.errors import CacheError
from avcil.files import os_errors_as, remove_unfinished, sync, unfinished

NOTE_INTERVAL_S = 2.0


class CacheWriter:
    """Fills a cache, from the start or from where another writer was stopped. A context manager.

    `open` it with all clips, then `write` the tokens of those that are `missing`, a batch at a time; any
    process that can make arrays may do so, see `examples/fill_a_cache.py`. Holds the cache's lock from `open`
    to `close`. Not for several threads at once.
    """

    path: Path
    info: CacheInfo
    unrequested: int = 0  # clips of the cache that were not given when it was opened; they stay

    def __init__(self, path: Path, info: CacheInfo, lock: ExitStack) -> None:
        """For `open` only: takes over a lock that is held."""
        self.path = path
        self.info = info
        self._lock = lock
        self._rows = RowWriter(path, info)
        self._written: set[str] = set()
        self._requested: list[str] = []
        self._failures: dict[str, tuple[str, str]] = {}
        self._unnoted, self._noted_s = False, 0.0  # failures not on disk yet, and when they last were
        self._closed = False
        self._began = (False, False)  # whether this writer began the cache, and made its folder

    @classmethod
    def open(
        cls, path: Path, info: CacheInfo, clips: Sequence[CacheClip], *, shards: int = 1
    ) -> "CacheWriter":
        """Create the cache at `path`, or resume it, with room for `clips`.

        Clips that no shard holds yet get `shards` new ones, dealt in turn, whose space is reserved before
        anything else is written. Clips that the cache knows keep their tokens and take the label and split
        given here; clips that it knows and that are not given stay.

        Raises:
            CacheError: another writer holds the cache; it was made with another recipe or encoder; a clip
                is given twice or with another source than before; `shards` is below 1; the folder is not a
                cache, or is damaged; the disk is full. Nothing is left behind by a cache that could not be
                begun.
        """
        if shards < 1:
            raise CacheError(f"{path}: {shards} shards have no room for clips: make it 1 or more")
        path = Path(path)
        requested = folder.by_id(clips)
        made_folder = not path.exists()
        lock = ExitStack()
        lock.enter_context(folder.locked(path))
        writer = cls(path, info, lock)
        fresh = not (path / folder.INFO_NAME).exists()
        writer._began = fresh, made_folder
        try:
            with os_errors_as(CacheError, f"cannot write {path}"):
                writer._prepare(requested, fresh, shards)
        except BaseException:
            remove_unfinished(path)
            if fresh:
                folder.remove_traces(path, made_folder)
            writer.close()
            raise
        return writer

    @property
    def missing(self) -> list[str]:
        """The ids of the requested clips that have no tokens yet, in the manifest's order."""
        return [clip_id for clip_id in self._requested if clip_id not in self._written]

    @property
    def failures(self) -> dict[str, tuple[str, str]]:
        """id -> (kind, detail) of the clips whose last attempt failed."""
        return dict(self._failures)

    def write(self, ids: Sequence[str], visual: np.ndarray, audio: np.ndarray) -> None:
        """Store the tokens of `ids`: `visual` [n, T, S, D], `audio` [n, D], cast to the cache's types.

        Either all rows are stored or, on an error in the arguments, none. When it returns, the rows survive
        the death of the process; a loss of power can still take the rows of the latest call.

        Raises:
            CacheError: a wrong shape, an id that is unknown, repeated or stored already, a number that is
                not finite or overflows the cache's type (names the id), a full disk.
        """
        self._check_lacking(ids)
        if len(set(ids)) != len(ids):
            raise CacheError(f"a clip stands twice in one batch: {list(ids)}")
        self._rows.write(ids, visual, audio)
        self.note_written(ids)

    def note_written(self, ids: Sequence[str]) -> None:
        """Count in rows that another process, told to by the holder of this writer, has written.

        See `RowWriter.of_cache`.
        """
        self._written.update(ids)
        if not self._failures.keys().isdisjoint(ids):
            self._failures = {key: value for key, value in self._failures.items() if key not in set(ids)}
            self._note_failures()

    def record_failure(self, id: str, kind: str, detail: str) -> None:
        """Note in `failures.csv` why a clip has no tokens; tokens written later take the note away.

        Notes reach the disk within seconds and at `close`; one that is lost is found again by trying.

        Raises:
            CacheError: the id is unknown or has tokens.
        """
        self._check_lacking([id])
        self._failures[id] = as_text(kind), as_text(detail)
        self._note_failures()

    def discard(self) -> None:
        """Close, and take away the cache if this writer began it and no row was stored since."""
        began, made_folder = self._began
        if began and not self._written and not self._closed:
            for shard, _ in self._rows.shards:
                shard.path.unlink(missing_ok=True)
            folder.remove_traces(self.path, made_folder)
            self._unnoted = False
        self.close()

    def record_flags(self, flags: Mapping[str, str]) -> None:
        """Note something in `flags.csv` about clips (id -> flag) that have tokens or are about to get them.

        See `RowWriter.record_flags`, which another process may call for the rows that are its own.

        Raises:
            CacheError: an id is unknown, or the writer is closed.
        """
        self._check_open()
        self._rows.record_flags(flags)

    def close(self) -> None:
        """Bring everything to the disk and give up the lock. May be called twice."""
        if self._closed:
            return
        self._closed = True
        try:
            self._rows.sync()
            folder.collect_flags(self.path)
            if self._unnoted:
                folder.write_failures(self.path, self._failures)
        finally:
            self._rows.close()
            self._lock.close()

    def __enter__(self) -> "CacheWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _note_failures(self) -> None:
        """Rewrite the file now and then, not for every clip: ten thousand may be missing."""
        self._unnoted = True
        if time.monotonic() - self._noted_s >= NOTE_INTERVAL_S:
            folder.write_failures(self.path, self._failures)
            self._unnoted, self._noted_s = False, time.monotonic()

    def _prepare(self, requested: dict[str, CacheClip], fresh: bool, shards: int) -> None:
        remove_unfinished(self.path)
        if not fresh:
            stored = folder.read_info(self.path)
            if lines := differences(stored, self.info):
                raise CacheError(f"{self.path} holds other tokens; {'; '.join(lines)}: choose another folder")
        paths = shard_paths(self.path)
        known = folder.read_manifest(self.path) if (self.path / folder.MANIFEST_NAME).exists() else {}
        manifest = folder.merged(known, requested)
        for path in paths.values():
            self._add_shard(path, known)
        self._failures = folder.read_failures(self.path)
        folder.collect_flags(self.path)
        new = [clip_id for clip_id in requested if clip_id not in self._rows.row]
        number = 1 + max(paths, default=-1)
        built = []
        for first in range(min(shards, len(new))):
            shard = shard_path(self.path, number + first)
            built.append((self._allocate(shard, new[first::shards]), shard))
        if fresh:
            folder.write_info(self.path, self.info)
        if fresh or manifest != known:
            folder.write_manifest(self.path, manifest.values())
        for temporary, shard in built:  # last: whoever finds a shard finds its clips in the manifest
            temporary.replace(shard)
            sync(self.path)
            self._add_shard(shard, manifest)
        self._requested = [clip_id for clip_id in manifest if clip_id in requested]
        self.unrequested = len(manifest) - len(requested)

    def _allocate(self, shard: Path, ids: list[str]) -> Path:
        built = unfinished(shard)
        try:
            create_shard(built, ids, self.info)
        except (OSError, RuntimeError) as error:
            size_gb = len(ids) * (self.info.visual.row_bytes + self.info.audio.row_bytes) / 1e9
            code = getattr(error, "errno", None)  # HDF5's own words run over several lines
            reason = os.strerror(code) if code else error
            message = f"cannot reserve {size_gb:.3g} GB for {len(ids)} clips in {self.path}: {reason}"
            raise CacheError(message) from error
        return built

    def _add_shard(self, path: Path, manifest: dict[str, CacheClip]) -> None:
        shard = self._rows.add_shard(path)
        for row, (clip_id, crc) in enumerate(zip(shard.ids, shard.read_crcs(), strict=True)):
            if clip_id not in manifest:
                raise CacheError(f"{path}, row {row}: id {clip_id!r} is not in the manifest")
            if crc:
                self._written.add(clip_id)

    def _check_open(self) -> None:
        if self._closed:
            raise CacheError(f"{self.path}: the writer is closed")

    def _check_lacking(self, ids: Sequence[str]) -> None:
        self._check_open()
        self._rows.require(ids)
        if present := next((clip_id for clip_id in ids if clip_id in self._written), None):
            raise CacheError(f"{self.path}: clip {present!r} has tokens already")
