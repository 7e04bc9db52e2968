"""Owns where the tokens of a step stay: on the GPU, in RAM or in the cache's files, as the budget goes.

Every placement gives the same numbers: tokens stay as stored and are widened when they are looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from avcil.cache import TokenCache, Tokens
from avcil.train.tokens.batches import ResidentTokens, StepTokens, StoredRows, TokenBatch
from avcil.train.tokens.budget import SHARE, Budget, Demand, Place, Placement, TokenPlan, available_ram, place
from avcil.train.tokens.gpu_fetch import fetch_ahead, pin, room_for
from avcil.train.tokens.read_ahead import read_ahead, read_into

__all__ = [
    "PinnedTokens",
    "ResidentTokens",
    "StepTokens",
    "StreamedTokens",
    "TokenBatch",
    "TokenSet",
    "Visual",
    "free_budget",
    "load_audio",
    "load_means",
    "load_tokens",
]
Visual = Literal["whole", "mean", "none"]  # what of its visual tokens a clip is loaded with
LOAD_CLIPS = 64  # that go to the GPU at a time: 0.3 GB of RAM for two loads at full size


class PinnedTokens(StepTokens):
    """Tokens in RAM that a GPU fetches by itself, a batch ahead of the one it computes on."""

    def __init__(self, tokens: Tokens, device: torch.device, *, audio: bool = True) -> None:
        self._memory = tokens  # pinned as long as it is referred to
        pin(tokens)
        self._host = _as_tensors(tokens, audio=audio)
        self._device = device

    def __len__(self) -> int:
        return len(self._host)

    def select(self, orders: Iterable[Tensor]) -> Iterator[StoredRows]:
        """The clips on the GPU."""
        return fetch_ahead(self._host.select(orders), self._device)


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
            return StoredRows(_as_tensors(tokens, audio=self._audio), torch.arange(len(rows)))

        stored = read_ahead(read, orders)
        return fetch_ahead(stored, self._device) if on_gpu else stored


@dataclass(frozen=True)
class TokenSet:
    """A set of clips whose tokens a step needs.

    Attributes:
        name: what they are, in the plural, such as "exemplars".
        ids: the clips.
        batch: how many are gathered at a time.
    """

    name: str
    ids: Sequence[str]
    batch: int


def load_tokens(
    cache: TokenCache,
    sets: Sequence[TokenSet],
    device: torch.device,
    budget: Budget,
    *,
    audio: bool = True,
    visual: Visual = "whole",
) -> tuple[list[StepTokens], TokenPlan]:
    """Bring the tokens of a step where they will be used, as far as the budget goes.

    Args:
        cache: where they are.
        sets: those that are touched most first.
        device: where they will be used.
        budget: what they may take.
        audio: whether audio vectors are needed.
        visual: what of the visual tokens is; their means and audio vectors alone are always resident.

    Raises:
        CacheError: a clip has no tokens or its checksum does not match.
    """
    info, on_gpu = cache.info, device.type == "cuda"
    audio_bytes, mean_bytes = info.audio.row_bytes, 8 * info.visual.shape[-1]
    visual_bytes = {"whole": info.visual.row_bytes, "mean": mean_bytes, "none": 0}[visual]
    demands = [Demand(one.name, len(one.ids), audio_bytes + visual_bytes, one.batch) for one in sets]
    if visual == "whole":
        placements = place(demands, budget, on_gpu=on_gpu)
        tokens = [
            _load(cache, one.ids, device, placement.place, audio)
            for one, placement in zip(sets, placements, strict=True)
        ]
    else:
        placements = tuple(Placement(demand, "device" if on_gpu else "ram") for demand in demands)
        tokens = [
            load_audio(cache, one.ids, device)
            if visual == "none"
            else load_means(cache, one.ids, device, audio=audio)
            for one in sets
        ]
    what = {"whole": info.visual.dtype, "mean": "float64 means", "none": info.audio.dtype}[visual]
    return tokens, TokenPlan(placements, what, budget.device_bytes if on_gpu else budget.host_bytes)


def load_audio(cache: TokenCache, ids: Sequence[str], device: torch.device) -> StepTokens:
    """The audio vectors of `ids` alone, on the device; the visual tokens are not touched.

    Raises:
        CacheError: a clip has no tokens or the checksum of its audio vector does not match.
    """
    return ResidentTokens(torch.from_numpy(cache.read_audio(ids)).to(device), None)


def load_means(cache: TokenCache, ids: Sequence[str], device: torch.device, *, audio: bool) -> StepTokens:
    """The visual tokens of `ids` averaged over time and space, as clips of one place and one moment.

    A network that averages tokens anyway has nothing else to see in them: [n, 1, 1, D], in float64, so that
    every precision gets its own. The tokens themselves are read once.

    Raises:
        CacheError: a clip has no tokens or its checksum does not match.
    """
    width, audio_width = cache.info.visual.shape[-1], cache.info.audio.shape[-1]
    means = torch.empty(len(ids), 1, 1, width, dtype=torch.float64, device=device)
    vectors = torch.empty(len(ids), audio_width, device=device)
    source, done = StreamedTokens(cache, ids, device, audio=audio), 0
    orders = torch.split(torch.arange(len(ids)), LOAD_CLIPS) if ids else ()
    for batch in source.batches(orders, torch.float32):
        assert batch.visual is not None
        for clip in range(len(batch.visual)):
            wide = batch.visual.widened(torch.float32, clip, clip + 1)
            means[done + clip] = wide.mean(dim=(0, 1, 2), dtype=torch.float64)
        if batch.audio is not None:
            vectors[done : done + len(batch.visual)] = batch.audio
        done += len(batch.visual)
    return ResidentTokens(vectors if audio else None, means)


def free_budget(device: torch.device, asked_bytes: int | None = None) -> Budget:
    """What tokens may take now: `asked_bytes` where they are used, by default a share of what is free."""
    host = int(SHARE * available_ram())
    if device.type != "cuda":
        return Budget(0, host if asked_bytes is None else asked_bytes)
    free = torch.cuda.mem_get_info(device)[0]
    return Budget(int(SHARE * free) if asked_bytes is None else asked_bytes, host)


def _load(
    cache: TokenCache, ids: Sequence[str], device: torch.device, place: Place, audio: bool
) -> StepTokens:
    streamed = StreamedTokens(cache, ids, device, audio=audio)
    if place == "streamed":
        return streamed
    if place == "device":
        return _load_on_gpu(streamed, device)
    stored = cache.empty(len(ids))
    read_into(cache, ids, stored)
    return _as_tensors(stored, audio=audio) if place == "ram" else PinnedTokens(stored, device, audio=audio)


def _load_on_gpu(source: StreamedTokens, device: torch.device) -> ResidentTokens:
    """Read every clip once, a few at a time, to where it stays."""
    whole: ResidentTokens | None = None
    done = 0
    for part in source.select(torch.split(torch.arange(len(source)), LOAD_CLIPS)):
        whole = whole or room_for(part.tokens, len(source), device)
        end = done + len(part.rows)
        for name in ("audio", "visual", "visual_scale"):
            if (target := getattr(whole, name)) is not None:
                target[done:end].copy_(getattr(part.tokens, name)[: end - done])
        done = end
    assert whole is not None
    return whole


def _as_tensors(tokens: Tokens, *, audio: bool) -> ResidentTokens:
    """The same memory as tensors."""
    scale = None if tokens.visual_scale is None else torch.from_numpy(tokens.visual_scale)
    return ResidentTokens(
        torch.from_numpy(tokens.audio) if audio else None, torch.from_numpy(tokens.visual), scale
    )
