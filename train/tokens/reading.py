"""Reading from the cache: whole sets into RAM, or batch by batch ahead of their use."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from avcil.cache import TokenCache, Tokens
from avcil.machine import usable_cores
from avcil.train.tokens.batches import ResidentTokens, StepTokens, StoredRows
from avcil.train.tokens.gpu import fetch_ahead, pin

Item = TypeVar("Item")
Result = TypeVar("Result")
THREADS = min(4, usable_cores())  # copying and checking a row leave Python's lock
PIECE = 8  # clips a thread reads at a time
PASS = 16 * PIECE  # clips after which the pages of the files that were read are let go


class StreamedTokens(StepTokens):
    """Tokens that stay in the cache: the next batch is read and verified while one is used."""

    def __init__(
        self, cache: TokenCache, ids: Sequence[str], device: torch.device, *, audio: bool = True
    ) -> None:
        self._cache = cache
        self._ids = ids
        self._device = device
        self._audio = audio

    def __len__(self) -> int:
        return len(self._ids)

    def select(self, orders: Iterable[Tensor]) -> Iterator[StoredRows]:
        """The clips in RAM, or on the GPU.

        Raises:
            CacheError: a clip has no tokens or its checksum does not match.
        """
        on_gpu = self._device.type == "cuda"
        buffers: list[Tokens | None] = [None, None]

        def read(k: int, rows: Tensor) -> StoredRows:
            tokens = buffers[k % 2]
            if tokens is None or len(tokens.audio) < len(rows):
                tokens = buffers[k % 2] = self._cache.empty(len(rows))
                if on_gpu:
                    pin(tokens)
            read_into(self._cache, [self._ids[row] for row in rows.tolist()], tokens)
            return StoredRows(as_tensors(tokens, audio=self._audio), torch.arange(len(rows)))

        stored = read_ahead(read, orders)
        return fetch_ahead(stored, self._device) if on_gpu else stored


def read_whole(cache: TokenCache, ids: Sequence[str], *, audio: bool) -> tuple[Tokens, ResidentTokens]:
    """The tokens of `ids` in RAM, and the same memory as tensors, with or without audio vectors.

    Raises:
        CacheError: a clip has no tokens or its checksum does not match.
    """
    memory = cache.empty(len(ids))
    read_into(cache, ids, memory)
    return memory, as_tensors(memory, audio=audio)


def read_into(cache: TokenCache, ids: Sequence[str], out: Tokens) -> None:
    """Read the tokens of `ids` into the first rows of `out` in several threads, every checksum verified.

    Raises:
        CacheError: a clip has no tokens or its checksum does not match.
    """

    def piece(start: int) -> None:
        some = ids[start : start + PIECE]
        rows = slice(start, start + len(some))
        scale = None if out.visual_scale is None else out.visual_scale[rows]
        cache.read(some, out=Tokens(out.visual[rows], out.audio[rows], scale))

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


def as_tensors(tokens: Tokens, *, audio: bool) -> ResidentTokens:
    """The same memory as tensors."""
    scale = None if tokens.visual_scale is None else torch.from_numpy(tokens.visual_scale)
    return ResidentTokens(
        torch.from_numpy(tokens.audio) if audio else None, torch.from_numpy(tokens.visual), scale
    )
