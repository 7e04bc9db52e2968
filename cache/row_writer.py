"""Rows of tokens on their way to the disk: checked, cast, data before checksum.

A row is written in place, so several processes may write different rows of one cache at the same time; who
hands out the rows (`CacheWriter`, which holds the lock) answers for that.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from avcil.cache.folder import append_flags
from avcil.cache.row import Row, as_row, row_crc
from avcil.cache.schema import MAX_TEXT_BYTES, CacheInfo
from avcil.cache.shard import CRC_DTYPE, Shard, open_shard, pwrite_all, shard_paths
from avcil.errors import CacheError
from avcil.files import os_errors_as

_sync_data = getattr(os, "fdatasync", os.fsync)  # macOS has only fsync


class RowWriter:
    """Writes rows of the shards of one cache that it was given, and flags of their clips."""

    def __init__(self, path: Path, info: CacheInfo) -> None:
        self.path = path
        self.info = info
        self.shards: list[tuple[Shard, int]] = []  # with its file descriptor
        self.row: dict[str, tuple[int, int]] = {}  # id -> shard, row

    @classmethod
    def of_cache(cls, path: Path, info: CacheInfo) -> "RowWriter":
        """For all shards of a cache, in a process that was told which rows are its own."""
        rows = cls(path, info)
        for shard in shard_paths(path).values():
            rows.add_shard(shard)
        return rows

    def add_shard(self, path: Path) -> Shard:
        """Take a shard in.

        Raises:
            CacheError: it is damaged, or holds an id that another one holds.
        """
        shard = open_shard(path, self.info)
        with os_errors_as(CacheError, f"cannot write {path}"):
            self.shards.append((shard, os.open(path, os.O_RDWR)))
        for row, clip_id in enumerate(shard.ids):
            if clip_id in self.row:
                raise CacheError(f"{path}, row {row}: id {clip_id!r} stands twice")
            self.row[clip_id] = len(self.shards) - 1, row
        return shard

    def write(self, ids: Sequence[str], visual: np.ndarray, audio: np.ndarray) -> None:
        """Store the tokens of `ids`: `visual` [n, T, S, D], `audio` [n, D], cast to the cache's types.

        Both are floating-point whatever the cache's types: int8 tokens are made here. Either all rows
        are stored or, on an error in the arguments, none.

        Raises:
            CacheError: a wrong shape, an unknown id, a number that is not finite or overflows the cache's
                type (names the id), a full disk.
        """
        for name, array, spec in (("visual", visual, self.info.visual), ("audio", audio, self.info.audio)):
            if array.shape != (len(ids), *spec.shape) or not np.issubdtype(array.dtype, np.floating):
                found = f"{array.dtype} {list(array.shape)}"
                expected = f"floating-point {[len(ids), *spec.shape]}"
                raise CacheError(f"{name} tokens of clips {list(ids)[:3]}...: {found}, expected {expected}")
        self.require(ids)
        rows = {
            clip_id: as_row(clip_id, one, other, self.info)
            for clip_id, one, other in zip(ids, visual, audio, strict=True)
        }
        with os_errors_as(CacheError, f"cannot write tokens into {self.path}"):
            self._store(rows)

    def record_flags(self, flags: Mapping[str, str]) -> None:
        """Note something about clips (id -> flag) whose tokens are written next, or were.

        The note is on the disk when this returns: a process that is killed in between leaves a flag without
        tokens and never tokens without their flag.

        Raises:
            CacheError: an unknown id, or a full disk.
        """
        self.require(flags)
        append_flags(self.path, {clip_id: as_text(flag) for clip_id, flag in flags.items()})

    def unwrite(self, clip_id: str) -> None:
        """Mark a row missing, whatever its tokens are.

        Raises:
            CacheError: the file cannot be written.
        """
        with os_errors_as(CacheError, f"cannot write tokens into {self.path}"):
            self._write_crc("crc32", clip_id, 0)

    def require(self, ids: Sequence[str] | Mapping[str, str]) -> None:
        """Raise `CacheError` at the first clip that has no row."""
        for clip_id in ids:
            if clip_id not in self.row:
                raise CacheError(f"{self.path}: clip {clip_id!r} was not given when the cache was opened")

    def sync(self) -> None:
        """Bring everything to the disk."""
        for _, fd in self.shards:
            _sync_data(fd)

    def close(self) -> None:
        """Give the files back."""
        for _, fd in self.shards:
            os.close(fd)
        self.shards = []

    def _store(self, rows: Mapping[str, Row]) -> None:
        touched = set()
        for clip_id, stored in rows.items():
            number, row = self.row[clip_id]
            shard, fd = self.shards[number]
            for name, part in stored.items():
                pwrite_all(fd, part.data, shard.offsets[name] + row * part.nbytes)
            self._write_crc("audio_crc32", clip_id, row_crc(clip_id, {"audio": stored["audio"]}))
            touched.add(fd)
        for fd in touched:
            _sync_data(fd)  # data before checksum, on the disk too
        for clip_id, stored in rows.items():
            self._write_crc("crc32", clip_id, row_crc(clip_id, stored))

    def _write_crc(self, dataset: str, clip_id: str, crc: int) -> None:
        number, row = self.row[clip_id]
        shard, fd = self.shards[number]
        pwrite_all(fd, np.array(crc, CRC_DTYPE).tobytes(), shard.offsets[dataset] + row * CRC_DTYPE.itemsize)


def as_text(text: str) -> str:
    """What a table can hold of a remark: a file name may be any bytes, an error of any length."""
    known = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return known.replace("\0", " ")[:MAX_TEXT_BYTES]
