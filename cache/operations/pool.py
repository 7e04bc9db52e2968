"""Smaller copies of a cache: visual tokens on a coarser grid, or statistics in their place."""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from avcil.cache.reader import TokenCache
from avcil.cache.reduction import reduced
from avcil.cache.token_spec import Reduction, Statistics
from avcil.cache.writer import CacheWriter
from avcil.errors import CacheError
from avcil.machine import usable_cores

BATCH = 16  # clips that a thread reads and reduces at a time; at full size 39 MB, 4.8 MB of a clip in float32


@dataclass(frozen=True)
class PoolSummary:
    """Clips written now, written before, and without tokens in the source; bytes of a clip in both caches."""

    done: int
    already: int
    missing: int
    source_bytes: int
    clip_bytes: int


def pool(
    cache: TokenCache,
    out: Path,
    *,
    statistics: Statistics | None = None,
    grid: int | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> PoolSummary:
    """Write what a `Reduction` keeps of every clip into the cache at `out`, or go on with it.

    Every clip is read once, its checksum verified. Labels, splits, failures and flags are taken over; a clip
    without tokens gets its place, and its tokens when this is called again.

    Raises:
        CacheError: the cache cannot be reduced like this, or has no tokens; a row is damaged; or as
            `CacheWriter`. Nothing is left behind by a cache that could not be begun.
    """
    before = cache.info.visual_reduction
    if before is not None and (before.statistics is not None or grid is not None):
        raise CacheError(f"{cache.path} is reduced already ({before}): take the cache that it was made from")
    todo = Reduction(cache.info.visual, grid, statistics)
    whole = todo if before is None else replace(before, statistics=statistics)
    info = replace(cache.info, visual=todo.spec, visual_reduction=whole)
    if not cache.present():
        raise CacheError(f"{cache.path} has no clip with tokens")
    with CacheWriter.open(out, info, cache.clips) as writer:
        try:
            asked = writer.missing
            ids = [clip_id for clip_id in asked if cache.has(clip_id)]
            for clip_id in set(asked) - set(ids):
                if clip_id in cache.failures:
                    writer.record_failure(clip_id, *cache.failures[clip_id])
            already = len(cache.clips) - len(asked)
            done = already
            with closing(_batches(cache, ids, todo)) as batches:
                for some, visual, audio in batches:
                    if flags := {one: cache.flags[one] for one in some if one in cache.flags}:
                        writer.record_flags(flags)
                    writer.write(some, visual, audio)
                    done += len(some)
                    on_progress(done, already + len(ids))
        except BaseException:
            writer.discard()
            raise
    sizes = [one.visual.row_bytes + one.audio.row_bytes for one in (cache.info, info)]
    return PoolSummary(len(ids), already, len(asked) - len(ids), *sizes)


def _batches(
    cache: TokenCache, ids: Sequence[str], todo: Reduction
) -> Generator[tuple[Sequence[str], np.ndarray, np.ndarray]]:
    """Ids, visual [n, T, S, D] and audio [n, D] of some clips at a time, read ahead in threads."""

    def read(some: Sequence[str]) -> tuple[Sequence[str], np.ndarray, np.ndarray]:
        tokens = cache.read(some)
        clips = (tokens.clip(k).widened()[0] for k in range(len(some)))  # a batch in float32 would be large
        return some, np.stack([reduced(one, todo) for one in clips]), tokens.audio

    threads = usable_cores()
    with ThreadPoolExecutor(threads) as readers:
        coming: deque[Future[tuple[Sequence[str], np.ndarray, np.ndarray]]] = deque()
        for start in range(0, len(ids), BATCH):
            coming.append(readers.submit(read, ids[start : start + BATCH]))
            if len(coming) > threads:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
