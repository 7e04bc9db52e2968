"""Owns how a cache is filled: one writer, rows that are whole or absent. Knows no encoder and no video.

Whatever moment the process is killed at, the cache stays readable and only rows of the batch in flight are
lost: the data of a row is on the disk before its checksum is written, and a row without one is missing.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from avcil.cache import folder, metadata
from avcil.cache.schema import CacheClip, CacheInfo, TokenSpec, differences
from avcil.cache.shard import CRC_DTYPE, Shard, allocate, open_shard, pwrite_all, row_crc
from avcil.errors import CacheError

_sync_data = getattr(os, "fdatasync", os.fsync)  # macOS has only fsync


class CacheWriter:
    """Fills a cache, from the start or from where another writer was stopped. A context manager.

    Holds the cache's lock from `open` to `close`. Not for several threads at once.
    """

    path: Path
    info: CacheInfo
    unrequested: int = 0  # clips of the cache that were not given when it was opened; they stay

    def __init__(self, path: Path, info: CacheInfo, lock_fd: int) -> None:
        """For `open` only: takes over a lock that is held."""
        self.path = path
        self.info = info
        self._lock_fd = lock_fd
        self._shards: list[tuple[Shard, int]] = []  # with its file descriptor
        self._row: dict[str, tuple[int, int]] = {}  # id -> shard, row
        self._written: set[str] = set()
        self._requested: list[str] = []
        self._failures: dict[str, tuple[str, str]] = {}
        self._closed = False
        self._began = (False, False)  # whether this writer began the cache, and made its folder

    @classmethod
    def open(cls, path: Path, info: CacheInfo, clips: Sequence[CacheClip]) -> "CacheWriter":
        """Create the cache at `path`, or resume it, with room for `clips`.

        Clips that no shard holds yet get one new shard, whose space is reserved before anything else is
        written. Clips that the cache knows keep their tokens and take the label and split given here;
        clips that it knows and that are not given stay.

        Raises:
            CacheError: another writer holds the cache; it was made with another recipe or encoder; a clip
                is given twice or with another source than before; the folder is not a cache, or is damaged;
                the disk is full. Nothing is left behind by a cache that could not be begun.
        """
        path = Path(path)
        requested = metadata.by_id(clips)
        made_folder = not path.exists()
        writer = cls(path, info, folder.lock(path))
        fresh = not (path / metadata.INFO_NAME).exists()
        writer._began = fresh, made_folder
        try:
            writer._prepare(requested, fresh)
        except BaseException as error:
            folder.remove_temporaries(path)
            if fresh:
                folder.remove_traces(path, made_folder)
            writer.close()
            if isinstance(error, OSError):
                raise CacheError(f"cannot write {path}: {error.strerror or error}") from error
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
        self._check_batch(ids, visual, audio)
        rows = []
        for clip_id, one_visual, one_audio in zip(ids, visual, audio, strict=True):
            tokens = _cast(one_visual, self.info.visual, clip_id), _cast(one_audio, self.info.audio, clip_id)
            rows.append((clip_id, *tokens))
        try:
            self._store(rows)
        except OSError as error:
            raise CacheError(f"cannot write tokens into {self.path}: {error.strerror or error}") from error
        self._written.update(ids)
        if not self._failures.keys().isdisjoint(ids):
            self._failures = {key: value for key, value in self._failures.items() if key not in set(ids)}
            metadata.write_failures(self.path, self._failures)

    def record_failure(self, id: str, kind: str, detail: str) -> None:
        """Note in `failures.csv` why a clip has no tokens; tokens written later take the note away.

        Raises:
            CacheError: the id is unknown or has tokens.
        """
        self._check_known(id)
        self._failures[id] = (kind, detail.replace("\0", " "))
        metadata.write_failures(self.path, self._failures)

    def discard(self) -> None:
        """Close, and take away the cache if this writer began it and no row was stored since."""
        began, made_folder = self._began
        if began and not self._written and not self._closed:
            for shard, _ in self._shards:
                shard.path.unlink(missing_ok=True)
            folder.remove_traces(self.path, made_folder)
        self.close()

    def close(self) -> None:
        """Bring everything to the disk and give up the lock. May be called twice."""
        if self._closed:
            return
        self._closed = True
        try:
            for _, fd in self._shards:
                _sync_data(fd)
        finally:
            for _, fd in self._shards:
                os.close(fd)
            folder.unlock(self._lock_fd)

    def __enter__(self) -> "CacheWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _prepare(self, requested: dict[str, CacheClip], fresh: bool) -> None:
        folder.remove_temporaries(self.path)
        if not fresh:
            stored = metadata.read_info(self.path)
            if lines := differences(stored, self.info):
                raise CacheError(f"{self.path} holds other tokens; {'; '.join(lines)}: choose another folder")
        shards = sorted(self.path.glob("shard-*.h5"))
        known = metadata.read_manifest(self.path) if (self.path / metadata.MANIFEST_NAME).exists() else {}
        manifest = metadata.merged(known, requested)
        for path in shards:
            self._add_shard(path, known)
        self._failures = metadata.read_failures(self.path)
        built = None
        if new := [clip_id for clip_id in requested if clip_id not in self._row]:
            number = 1 + max((int(path.stem.split("-")[1]) for path in shards), default=-1)
            shard = self.path / f"shard-{number:05d}.h5"
            built = self._allocate(shard, new)
        if fresh:
            metadata.write_info(self.path, self.info)
        if fresh or manifest != known:
            metadata.write_manifest(self.path, manifest.values())
        if built is not None:  # last: whoever finds a shard finds its clips in the manifest
            built.replace(shard)
            metadata.sync_folder(self.path)
            self._add_shard(shard, manifest)
        self._requested = [clip_id for clip_id in manifest if clip_id in requested]
        self.unrequested = len(manifest) - len(requested)

    def _allocate(self, shard: Path, ids: list[str]) -> Path:
        built = metadata.temporary(shard)
        try:
            allocate(built, ids, self.info)
        except (OSError, RuntimeError) as error:
            size_gb = len(ids) * (self.info.visual.row_bytes + self.info.audio.row_bytes) / 1e9
            code = getattr(error, "errno", None)  # HDF5's own words run over several lines
            reason = os.strerror(code) if code else error
            message = f"cannot reserve {size_gb:.3g} GB for {len(ids)} clips in {self.path}: {reason}"
            raise CacheError(message) from error
        return built

    def _add_shard(self, path: Path, manifest: dict[str, CacheClip]) -> None:
        shard = open_shard(path, self.info)
        self._shards.append((shard, os.open(path, os.O_RDWR)))
        for row, (clip_id, crc) in enumerate(zip(shard.ids, shard.read_crcs(), strict=True)):
            if clip_id not in manifest or clip_id in self._row:
                raise CacheError(f"{path}, row {row}: id {clip_id!r} is not in the manifest or stands twice")
            self._row[clip_id] = len(self._shards) - 1, row
            if crc:
                self._written.add(clip_id)

    def _check_known(self, clip_id: str) -> None:
        if self._closed:
            raise CacheError(f"{self.path}: the writer is closed")
        if clip_id not in self._row:
            raise CacheError(f"{self.path}: clip {clip_id!r} was not given when the cache was opened")
        if clip_id in self._written:
            raise CacheError(f"{self.path}: clip {clip_id!r} has tokens already")

    def _check_batch(self, ids: Sequence[str], visual: np.ndarray, audio: np.ndarray) -> None:
        for name, array, spec in (("visual", visual, self.info.visual), ("audio", audio, self.info.audio)):
            if array.shape != (len(ids), *spec.shape) or not np.issubdtype(array.dtype, np.floating):
                found = f"{array.dtype} {list(array.shape)}"
                expected = f"floating-point {[len(ids), *spec.shape]}"
                raise CacheError(f"{name} tokens of clips {list(ids)[:3]}...: {found}, expected {expected}")
        for clip_id in ids:
            self._check_known(clip_id)
        if len(set(ids)) != len(ids):
            raise CacheError(f"a clip stands twice in one batch: {list(ids)}")

    def _store(self, rows: list[tuple[str, np.ndarray, np.ndarray]]) -> None:
        touched = set()
        for clip_id, visual, audio in rows:
            number, row = self._row[clip_id]
            shard, fd = self._shards[number]
            pwrite_all(fd, visual.data, shard.offsets["visual"] + row * visual.nbytes)
            pwrite_all(fd, audio.data, shard.offsets["audio"] + row * audio.nbytes)
            touched.add(fd)
        for fd in touched:
            _sync_data(fd)  # data before checksum, on the disk too
        for clip_id, visual, audio in rows:
            number, row = self._row[clip_id]
            shard, fd = self._shards[number]
            crc = np.array(row_crc(clip_id, visual, audio), CRC_DTYPE)
            pwrite_all(fd, crc.tobytes(), shard.offsets["crc32"] + row * CRC_DTYPE.itemsize)


def _cast(tokens: np.ndarray, spec: TokenSpec, clip_id: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(tokens, dtype=spec.numpy_dtype)
    # Without its sign bit, a float is finite if its bits stay below those of infinity: 20 times faster than
    # np.isfinite on float16.
    kind = np.dtype(f"<u{stored.itemsize}")
    infinity = np.array(np.inf, spec.numpy_dtype).view(kind)
    if (stored.view(kind) & (np.iinfo(kind).max >> 1)).max() >= infinity:
        why = f"overflow {spec.dtype}" if np.isfinite(tokens).all() else "are not finite"
        raise CacheError(f"tokens of clip {clip_id!r} {why}")
    return stored
