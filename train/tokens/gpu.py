"""Fetching by a GPU: it copies clips from pinned RAM by itself while it computes."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from avcil.cache import Tokens
from avcil.train.tokens.batches import ResidentTokens, StepTokens, StoredRows


class PinnedTokens(StepTokens):
    """Tokens in RAM that a GPU fetches by itself, a batch ahead of the one it computes on.

    Args:
        memory: the tokens; pinned as long as it is referred to.
        tokens: the same memory as tensors.
        device: the GPU.
    """

    def __init__(self, memory: Tokens, tokens: ResidentTokens, device: torch.device) -> None:
        pin(memory)
        self._memory = memory
        self._tokens = tokens
        self._device = device

    def __len__(self) -> int:
        return len(self._tokens)

    def select(self, orders: Iterable[Tensor]) -> Iterator[StoredRows]:
        """The clips on the GPU."""
        return fetch_ahead(self._tokens.select(orders), self._device)


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
