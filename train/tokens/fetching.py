"""Tokens that are fetched ahead of their use: read from the cache's files, or copied from RAM by a GPU."""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from avcil.cache.reader import TokenCache, Tokens
from avcil.train.tokens.batches import ResidentTokens, StepTokens, StoredRows

Item = TypeVar("Item")
Result = TypeVar("Result")
THREADS = min(4, os.cpu_count() or 1)  # copying and checking a row leave Python's lock
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


class PinnedTokens(StepTokens):
    """Tokens in RAM that a GPU fetches by itself, a batch ahead of the one it computes on."""

    def __init__(self, tokens: Tokens, device: torch.device, *, audio: bool = True) -> None:
        self._memory = tokens  # pinned as long as it is referred to
        pin(tokens)
        self._host = as_tensors(tokens, audio=audio)
        self._device = device

    def __len__(self) -> int:
        return len(self._host)

    def select(self, orders: Iterable[Tensor]) -> Iterator[StoredRows]:
        """The clips on the GPU."""
        return fetch_ahead(self._host.select(orders), self._device)


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


def fetch_ahead(source: Iterator[StoredRows], device: torch.device) -> Iterator[StoredRows]:
    """Clips of pinned memory on the GPU: a batch is copied on a stream of its own while one is used."""
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    slots: list[ResidentTokens | None] = [None, None]
    used = [torch.cuda.Event() for _ in slots]  # type: ignore[no-untyped-call]
    ahead: tuple[StoredRows, torch.cuda.Event] | None = None

    def deliver(batch: StoredRows, copied: torch.cuda.Event) -> StoredRows:
        torch.cuda.current_stream(device).wait_event(copied)
        return batch

    for k, batch in enumerate(source):
        slot = slots[k % 2]
        if slot is None or len(slot) < len(batch.rows):
            slot = slots[k % 2] = room_for(batch.tokens, len(batch.rows), device)
            used[k % 2].record(torch.cuda.current_stream(device))  # its memory may still be in use
        stream.wait_event(used[k % 2])
        with torch.cuda.stream(stream):
            _copy_rows(batch, slot)
            copied = stream.record_event()
        if ahead is not None:
            yield deliver(*ahead)
            used[(k - 1) % 2].record(torch.cuda.current_stream(device))
        copied.synchronize()  # the source may now overwrite its own memory
        ahead = StoredRows(slot, torch.arange(len(batch.rows), device=device)), copied
    if ahead is not None:
        yield deliver(*ahead)


def pin(tokens: Tokens) -> None:
    """Lock memory in RAM for the GPU to copy from, until `tokens` is no longer referred to.

    Torch's own pinned memory comes in powers of two: up to twice the budget.
    """
    cudart = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    for array in (tokens.audio, tokens.visual, tokens.visual_scale):
        if array is not None and array.size:
            address = array.ctypes.data
            torch.cuda.check_error(int(cudart.cudaHostRegister(address, array.nbytes, 0)))
            weakref.finalize(tokens, cudart.cudaHostUnregister, address).atexit = False


def room_for(like: ResidentTokens, size: int, device: torch.device) -> ResidentTokens:
    """Memory for `size` clips stored as `like` is."""

    def empty(stored: Tensor | None) -> Tensor | None:
        if stored is None:
            return None
        return torch.empty((size, *stored.shape[1:]), dtype=stored.dtype, device=device)

    return ResidentTokens(empty(like.audio), empty(like.visual), empty(like.visual_scale))


def _copy_rows(source: StoredRows, target: ResidentTokens) -> None:
    """Copy clips one by one, from pinned memory without waiting, into the first rows of `target`."""
    rows = source.rows.tolist()
    for name in ("audio", "visual", "visual_scale"):
        stored, copy = getattr(source.tokens, name), getattr(target, name)
        if stored is not None:
            for i, row in enumerate(rows):
                copy[i].copy_(stored[row], non_blocking=True)


def as_tensors(tokens: Tokens, *, audio: bool) -> ResidentTokens:
    """The same memory as tensors."""
    scale = None if tokens.visual_scale is None else torch.from_numpy(tokens.visual_scale)
    return ResidentTokens(
        torch.from_numpy(tokens.audio) if audio else None, torch.from_numpy(tokens.visual), scale
    )
