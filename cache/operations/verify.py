"""The check of all checksums of a cache, and bad rows marked missing."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from avcil.cache import folder
from avcil.cache.mapped import MappedShard
from avcil.cache.reader import TokenCache
from avcil.cache.row_writer import RowWriter
from avcil.machine import usable_cores

_ROWS_A_TASK = 16


@dataclass(frozen=True)
class BadRow:
    """A row whose tokens do not match their checksum: the clip, its shard and the row's number there."""

    id: str
    shard: Path
    row: int


@dataclass(frozen=True)
class Verification:
    """What a check found: `rows` with tokens, `size_bytes` of tokens read, and the bad rows among them."""

    rows: int
    size_bytes: int
    elapsed_s: float
    bad: tuple[BadRow, ...]

    @property
    def gb_per_s(self) -> float:
        """Speed of the check, in 1e9 bytes a second."""
        return self.size_bytes / 1e9 / self.elapsed_s if self.elapsed_s else 0.0


def verify(
    cache: TokenCache,
    *,
    threads: int | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Verification:
    """Compare every row that has tokens with its checksums; threads: one per core unless given.

    `on_progress` is called in this thread with the rows done and their number.

    Raises:
        CacheError: a shard is cut short meanwhile.
    """
    rows = [(shard, int(row)) for shard in cache.shards for row in shard.crcs.nonzero()[0]]
    tasks = [rows[start : start + _ROWS_A_TASK] for start in range(0, len(rows), _ROWS_A_TASK)]
    began_s = time.monotonic()
    bad: list[BadRow] = []
    with ThreadPoolExecutor(threads or usable_cores()) as pool:  # the checksum is taken outside the GIL
        for done, found in enumerate(pool.map(_bad_among, tasks), start=1):
            bad += found
            on_progress(min(done * _ROWS_A_TASK, len(rows)), len(rows))
    row_bytes = cache.info.visual.row_bytes + cache.info.audio.row_bytes
    return Verification(len(rows), len(rows) * row_bytes, time.monotonic() - began_s, tuple(bad))


def mark_missing(cache: TokenCache, bad: Sequence[BadRow]) -> None:
    """Take the checksums of bad rows away: their clips then have no tokens, and extraction redoes them.

    Rows that were redone since they were found stay.

    Raises:
        CacheError: a cache is being written by another process or cannot be written.
    """
    for path in dict.fromkeys(one.shard for one in bad):
        with folder.locked(path.parent), closing(RowWriter(path.parent, cache.info)) as rows:
            rows.add_shard(path)
            now = MappedShard.open(path, cache.info)
            for one in bad:
                if one.shard == path and not now.row_matches(one.row):
                    rows.unwrite(one.id)
            rows.sync()


def _bad_among(rows: Sequence[tuple[MappedShard, int]]) -> list[BadRow]:
    return [
        BadRow(mapped.shard.ids[row], mapped.shard.path, row)
        for mapped, row in rows
        if not mapped.row_matches(row)
    ]
