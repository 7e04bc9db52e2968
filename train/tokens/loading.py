"""Loading the tokens of a step: on the GPU, into RAM, or streamed from the cache, as the budget goes.

Every placement gives the same numbers: tokens stay as stored and are widened where they are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from avcil.cache.reader import TokenCache
from avcil.cache.schema import CacheInfo
from avcil.cache.token_spec import Statistics
from avcil.train.tokens.batches import ResidentTokens, StepTokens
from avcil.train.tokens.budget import (
    Budget,
    Demand,
    Location,
    SetPlacement,
    TokenPlacement,
    available_ram,
    divide,
    place_sets,
)
from avcil.train.tokens.gpu import PinnedTokens, room_for
from avcil.train.tokens.reading import StreamedTokens, read_whole

LOAD_CLIPS = 64  # that go to the GPU at a time: 0.3 GB of RAM for two loads at full size


@dataclass(frozen=True)
class TokenNeeds:
    """What a network sees of a clip.

    Attributes:
        audio: whether it sees the audio vector.
        visual: what it sees of the visual tokens: all, nothing, or statistics over time and space, which are
            always resident.
    """

    audio: bool = True
    visual: Literal["whole", "none"] | Statistics = "whole"

    @property
    def statistics(self) -> tuple[str, ...]:
        """The statistics of the visual tokens, in order; empty where all tokens are needed, or none."""
        return () if self.visual in ("whole", "none") else tuple(self.visual.split("-"))


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
    cache: TokenCache, sets: Sequence[TokenSet], needs: TokenNeeds, device: torch.device, budget: Budget
) -> tuple[list[StepTokens], TokenPlacement]:
    """Bring the tokens of a step where they will be used, as far as the budget goes.

    Args:
        cache: where they are.
        sets: those that are touched most first.
        needs: what of them is needed.
        device: where they will be used.
        budget: what they may take.

    Raises:
        CacheError: a clip has no tokens or its checksum does not match.
    """
    info, on_gpu = cache.info, device.type == "cuda"
    whole = needs.visual == "whole"
    visual_bytes = info.visual.row_bytes if whole else 8 * len(needs.statistics) * info.visual.shape[-1]
    clip_bytes = info.audio.row_bytes + visual_bytes
    demands = [Demand(one.name, len(one.ids), clip_bytes, one.batch) for one in sets]
    if whole:
        placements = place_sets(demands, budget, on_gpu=on_gpu)
        tokens = [
            _load(cache, one.ids, device, placement.location, needs.audio)
            for one, placement in zip(sets, placements, strict=True)
        ]
    else:
        placements = tuple(SetPlacement(demand, "device" if on_gpu else "ram") for demand in demands)
        tokens = [load_once(cache, one.ids, needs, device) for one in sets]
    what = info.visual.dtype if whole else info.audio.dtype
    if needs.statistics:
        what = "float64 means" if needs.visual == "mean" else "float64 statistics"
    return tokens, TokenPlacement(placements, what, budget.device_bytes if on_gpu else budget.host_bytes)


def load_once(cache: TokenCache, ids: Sequence[str], needs: TokenNeeds, device: torch.device) -> StepTokens:
    """The tokens of clips that are passed through once: visual tokens are read when they are asked for.

    Raises:
        CacheError: a clip has no tokens or its checksum does not match.
    """
    if needs.visual == "none":
        return ResidentTokens(torch.from_numpy(cache.read_audio(ids)).to(device), None)
    return as_needed(StreamedTokens(cache, ids, device, audio=needs.audio), needs, cache.info, device)


def free_budget(device: torch.device, asked_gb: float | None = None) -> Budget:
    """The budget of what is free now; `asked_gb` (1e9 bytes) is what tokens may take where they are used."""
    asked_bytes = None if asked_gb is None else int(asked_gb * 1e9)
    if device.type != "cuda":
        return divide(None, available_ram(), asked_bytes)
    torch.cuda.empty_cache()  # what the step before has left to torch counts as taken else
    return divide(torch.cuda.mem_get_info(device)[0], available_ram(), asked_bytes)


def _load(
    cache: TokenCache, ids: Sequence[str], device: torch.device, location: Location, audio: bool
) -> StepTokens:
    if location in ("streamed", "device"):
        streamed = StreamedTokens(cache, ids, device, audio=audio)
        return streamed if location == "streamed" else _load_on_gpu(streamed, device)
    memory, tokens = read_whole(cache, ids, audio=audio)
    return tokens if location == "ram" else PinnedTokens(memory, tokens, device)


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


def as_needed(source: StepTokens, needs: TokenNeeds, info: CacheInfo, device: torch.device) -> StepTokens:
    """The tokens of a cache like `info`, or what is needed of their statistics, as clips [n, 1, k, D].

    Statistics are all that a network needs that averages tokens, and all that statistics heads need; in
    float64, so that every precision gets its own. The tokens are read once; a cache of statistics gives those
    it holds.
    """
    if not needs.statistics:
        return source
    width, audio_width = info.visual.shape[-1], info.audio.shape[-1]
    held = () if info.visual_reduction is None else info.visual_reduction.names
    found = torch.empty(len(source), 1, len(needs.statistics), width, dtype=torch.float64, device=device)
    vectors = torch.empty(len(source), audio_width, device=device)
    orders = torch.split(torch.arange(len(source)), LOAD_CLIPS) if len(source) else ()
    done = 0
    for batch in source.batches(orders, torch.float32):
        assert batch.visual is not None
        for clip in range(len(batch.visual)):
            wide = batch.visual.widened(torch.float32, clip, clip + 1)
            known = dict(zip(held, wide[0, 0], strict=True)) if held else _statistics(wide, needs.statistics)
            for row, name in zip(found[done + clip, 0], needs.statistics, strict=True):
                row.copy_(known[name])
        if batch.audio is not None:
            vectors[done : done + len(batch.visual)] = batch.audio
        done += len(batch.visual)
    return ResidentTokens(vectors if needs.audio else None, found)


def _statistics(tokens: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """Statistics [D] of one clip's visual tokens [1, T, S, D] by name; `std` is that of the population."""
    mean = tokens.mean(dim=(0, 1, 2), dtype=torch.float64)
    values = {"mean": mean}
    if "std" in names:
        values["std"] = (tokens - mean).square().mean(dim=(0, 1, 2)).sqrt()
    if "max" in names:
        values["max"] = tokens.amax(dim=(0, 1, 2))
    return values
