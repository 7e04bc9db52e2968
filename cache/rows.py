"""Owns how rows of tokens reach the disk: checked, cast, data before checksum. Knows no manifest and no lock.

A row is written in place, so several processes may write different rows of one cache at the same time; who
hands out the rows (`CacheWriter`, which holds the lock) answers for that.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from avcil.cache.quantise import quantise
from avcil.cache.reader import Tokens
from avcil.cache.row_layout import CRC_DTYPE, audio_crc, parts, row_crc
from avcil.cache.schema import CacheInfo, TokenSpec
from avcil.cache.shard import Shard, open_shard, pwrite_all, shard_paths
from avcil.errors import CacheError

_sync_data = getattr(os, "fdatasync", os.fsync)  # macOS has only fsync
_Row = dict[str, np.ndarray]  # a row's parts by name, in the order of its checksum


class RowWriter:
    """Writes rows of the shards of one cache that it was given."""

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
        try:
            self.shards.append((shard, os.open(path, os.O_RDWR)))
        except OSError as error:
            raise CacheError(f"cannot write {path}: {error.strerror or error}") from error
        for row, clip_id in enumerate(shard.ids):
            if clip_id in self.row:
                raise CacheError(f"{path}, row {row}: id {clip_id!r} stands twice")
            self.row[clip_id] = len(self.shards) - 1, row
        return shard

    def write(
        self, ids: Sequence[str], visual: np.ndarray, audio: np.ndarray, held: Collection[str] = ()
    ) -> dict[str, int]:
        """Store the tokens of `ids`: `visual` [n, T, S, D], `audio` [n, D], cast to the cache's types.

        Both are floating-point whatever the cache's types: int8 tokens are made here. Either all rows
        are stored or, on an error in the arguments, none. Rows of `held` stay missing until `commit` is given
        their checksums, which are returned.

        Raises:
            CacheError: a wrong shape, an unknown id, a number that is not finite or overflows the cache's
                type (names the id), a full disk.
        """
        self._check(ids, visual, audio)
        rows = {
            clip_id: _row_of(clip_id, one, other, self.info)
            for clip_id, one, other in zip(ids, visual, audio, strict=True)
        }
        try:
            crcs = self._store(rows)
        except OSError as error:
            raise CacheError(f"cannot write tokens into {self.path}: {error.strerror or error}") from error
        self.commit({clip_id: crc for clip_id, crc in crcs.items() if clip_id not in held})
        return {clip_id: crcs[clip_id] for clip_id in held}

    def commit(self, crcs: Mapping[str, int]) -> None:
        """Make rows count whose data is on the disk: id -> the checksum that `write` gave.

        Raises:
            CacheError: the file cannot be written.
        """
        for clip_id, crc in crcs.items():
            self._write_crc(clip_id, crc)

    def unwrite(self, clip_id: str) -> None:
        """Mark a row missing, whatever its tokens are.

        Raises:
            CacheError: the file cannot be written.
        """
        self._write_crc(clip_id, 0)

    def sync(self) -> None:
        """Bring everything to the disk."""
        for _, fd in self.shards:
            _sync_data(fd)

    def close(self) -> None:
        """Give the files back."""
        for _, fd in self.shards:
            os.close(fd)
        self.shards = []

    def _check(self, ids: Sequence[str], visual: np.ndarray, audio: np.ndarray) -> None:
        for name, array, spec in (("visual", visual, self.info.visual), ("audio", audio, self.info.audio)):
            if array.shape != (len(ids), *spec.shape) or not np.issubdtype(array.dtype, np.floating):
                found = f"{array.dtype} {list(array.shape)}"
                expected = f"floating-point {[len(ids), *spec.shape]}"
                raise CacheError(f"{name} tokens of clips {list(ids)[:3]}...: {found}, expected {expected}")
        for clip_id in ids:
            if clip_id not in self.row:
                raise CacheError(f"{self.path}: clip {clip_id!r} was not given when the cache was opened")

    def _store(self, rows: Mapping[str, _Row]) -> dict[str, int]:
        touched = set()
        for clip_id, stored in rows.items():
            number, row = self.row[clip_id]
            shard, fd = self.shards[number]
            for name, part in stored.items():
                pwrite_all(fd, part.data, shard.offsets[name] + row * part.nbytes)
            _write_crc(fd, shard.offsets["audio_crc32"], row, audio_crc(clip_id, stored["audio"]))
            touched.add(fd)
        for fd in touched:
            _sync_data(fd)  # data before checksum, on the disk too
        return {clip_id: row_crc(clip_id, stored) for clip_id, stored in rows.items()}

    def _write_crc(self, clip_id: str, crc: int) -> None:
        number, row = self.row[clip_id]
        shard, fd = self.shards[number]
        try:
            _write_crc(fd, shard.offsets["crc32"], row, crc)
        except OSError as error:
            raise CacheError(f"cannot write {shard.path}: {error.strerror or error}") from error


def _write_crc(fd: int, offset: int, row: int, crc: int) -> None:
    pwrite_all(fd, np.array(crc, CRC_DTYPE).tobytes(), offset + row * CRC_DTYPE.itemsize)


def as_stored(clip_id: str, visual: np.ndarray, audio: np.ndarray, info: CacheInfo) -> Tokens:
    """The tokens that a cache like `info` would give back of a clip: n = 1 of them, cast to its types.

    Args:
        clip_id: for the message.
        visual: [T, S, D], of any floating-point type.
        audio: [D], of any floating-point type.
        info: what the cache says of itself.

    Raises:
        CacheError: a number that is not finite or overflows the cache's type.
    """
    return Tokens(**{name: part[None] for name, part in _row_of(clip_id, visual, audio, info).items()})


def _row_of(clip_id: str, visual: np.ndarray, audio: np.ndarray, info: CacheInfo) -> _Row:
    stored = _stored(visual, info.visual, clip_id, "visual")
    stored |= _stored(audio, info.audio, clip_id, "audio")
    return {name: stored[name] for name in parts(info)}


def _stored(tokens: np.ndarray, spec: TokenSpec, clip_id: str, name: str) -> _Row:
    """Tokens [..., D] of one clip as they lie on the disk, by dataset."""
    if spec.scale_shape is not None:
        numbers, scale = quantise(tokens)
        stored, floats = {name: numbers, f"{name}_scale": scale}, scale
    else:
        with np.errstate(over="ignore"):
            floats = np.ascontiguousarray(tokens, dtype=spec.numpy_dtype)
        stored = {name: floats}
    if not _all_finite(floats):
        why = f"overflow {spec.dtype}" if np.isfinite(tokens).all() else "are not finite"
        raise CacheError(f"tokens of clip {clip_id!r} {why}")
    return stored


def _all_finite(floats: np.ndarray) -> bool:
    # Without its sign bit, a float is finite if its bits stay below those of infinity: 20 times faster than
    # np.isfinite on float16.
    kind = np.dtype(f"<u{floats.itemsize}")
    infinity = np.array(np.inf, floats.dtype).view(kind)
    return bool((floats.view(kind) & (np.iinfo(kind).max >> 1)).max() < infinity)
