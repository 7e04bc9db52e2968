"""Owns how reading is spread over threads and runs ahead of who needs it; knows no torch and no placement."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from avcil.cache import TokenCache, Tokens

Item = TypeVar("Item")
Result = TypeVar("Result")
THREADS = min(4, os.cpu_count() or 1)  # copying and checking a row leave Python's lock
PIECE = 8  # clips a thread reads at a time
PASS = 16 * PIECE  # clips after which the pages of the files that were read are let go


def token_rows(tokens: Tokens, start: int, stop: int) -> Tokens:
    """The clips from `start` to `stop`, as views."""
    scale = None if tokens.visual_scale is None else tokens.visual_scale[start:stop]
    return Tokens(tokens.visual[start:stop], tokens.audio[start:stop], scale)


def read_into(cache: TokenCache, ids: Sequence[str], out: Tokens) -> None:
    """Read the tokens of `ids` into the first rows of `out` in several threads, every checksum verified.

    Raises:
        CacheError: a clip has no tokens or its checksum does not match.
    """

    def piece(start: int) -> None:
        some = ids[start : start + PIECE]
        cache.read(some, out=token_rows(out, start, start + len(some)))

    with ThreadPoolExecutor(THREADS) as pool:
        for first in range(0, len(ids), PASS):
            for _ in pool.map(piece, range(first, min(first + PASS, len(ids)), PIECE)):
                pass
            _let_go(cache)


def _let_go(cache: TokenCache) -> None:
    """Stop counting the file's pages as memory of this process; the kernel keeps them as long as it likes."""
    if hasattr(mmap, "MADV_DONTNEED"):
        for shard in cache.shards:
            shard.file.madvise(mmap.MADV_DONTNEED)


def read_ahead(work: Callable[[int, Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield `work(k, item)` of every item in order; the next one is made while the last one is used.

    Two results exist at a time: when `work(k, ...)` begins, the caller has let go of result k - 2, so that
    two buffers in turn are enough. `items` are taken in the caller's thread.

    Raises:
        Exception: whatever `work` raised, in place of its result.
    """
    with ThreadPoolExecutor(max_workers=1) as pool:
        ahead: Future[Result] | None = None
        for k, item in enumerate(items):
            begun = pool.submit(work, k, item)
            if ahead is not None:
                yield ahead.result()
            ahead = begun
        if ahead is not None:
            yield ahead.result()
