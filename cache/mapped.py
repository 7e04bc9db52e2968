"""The rows of one shard as arrays over the mapped file, copied out checked."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avcil.cache.row import parts, row_crc
from avcil.cache.schema import CacheInfo
from avcil.cache.shard import Shard, open_shard
from avcil.errors import CacheError
from avcil.files import first_line


@dataclass(frozen=True)
class MappedShard:
    """A shard as it was when it was opened.

    Attributes:
        parts: arrays [n, ...] over the file, named as in `Tokens`.
        crcs: [n] checksums of the rows, 0 where a row is not written.
        audio_crcs: [n] checksums of their audio tokens.
    """

    shard: Shard
    file: mmap.mmap
    parts: Mapping[str, np.ndarray]
    crcs: np.ndarray
    audio_crcs: np.ndarray

    @classmethod
    def open(cls, path: Path, info: CacheInfo) -> MappedShard:
        """Map a shard whose size and structure were checked.

        Raises:
            CacheError: as `open_shard`, or the file cannot be mapped.
        """
        shard = open_shard(path, info)
        try:
            with path.open("rb") as file:
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            arrays = {
                name: np.frombuffer(
                    content, dtype, len(shard.ids) * int(np.prod(shape)), shard.offsets[name]
                ).reshape(-1, *shape)
                for name, (shape, dtype) in parts(info).items()
            }
            return cls(shard, content, arrays, shard.read_crcs(), shard.read_crcs("audio_crc32"))
        except (OSError, ValueError) as error:
            raise CacheError(f"{path} cannot be mapped: {first_line(error)}") from error

    def copy_row(self, row: int, out: Mapping[str, np.ndarray], *, verify: bool) -> None:
        """Copy a written row into contiguous arrays, all of its parts or `audio` alone.

        With `verify`, the row's checksum is checked first: nothing of a damaged row is copied.

        Raises:
            CacheError: the file was cut short since it was opened, or the checksum does not match.
        """
        self._check_size()
        stored = {name: self.parts[name][row] for name in out}
        # Before copying: a row that was just summed up comes from the processor's cache, which a copy of it,
        # written past the cache, does not. Rows are never rewritten in place.
        if verify and not self._matches(row, stored):
            raise CacheError(
                f"{self.shard.path}, row {row}: the tokens of clip {self.shard.ids[row]!r} do not match "
                "their checksum: the file is damaged; `avcil cache verify --repair` marks them missing, so "
                "that extract redoes them"
            )
        for name, target in out.items():
            target[...] = stored[name]

    def row_matches(self, row: int) -> bool:
        """Whether a written row, all of it, matches its checksums; nothing is copied.

        Raises:
            CacheError: the file was cut short since it was opened.
        """
        self._check_size()
        stored = {name: array[row] for name, array in self.parts.items()}
        return self._matches(row, stored) and self._matches(row, {"audio": stored["audio"]})

    def _matches(self, row: int, stored: Mapping[str, np.ndarray]) -> bool:
        clip_id = self.shard.ids[row]
        crcs = self.audio_crcs if stored.keys() == {"audio"} else self.crcs
        return row_crc(clip_id, stored) == crcs[row]

    def _check_size(self) -> None:
        """Touching a map beyond the end of its file would end the process."""
        if self.file.size() < self.shard.size_bytes:
            raise CacheError(f"{self.shard.path} was cut short after it was opened")
