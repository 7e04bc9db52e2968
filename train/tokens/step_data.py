"""Owns the clips of a step as the trainer sees them: tokens wherever they stay, with their columns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from avcil.cache import TokenCache
from avcil.train.config import RunConfig
from avcil.train.network.inference import CLIPS_PER_PASS
from avcil.train.protocol import ClipSet
from avcil.train.tokens.batches import StepTokens
from avcil.train.tokens.budget import TokenPlan
from avcil.train.tokens.residency import (
    StreamedTokens,
    TokenSet,
    Visual,
    free_budget,
    load_audio,
    load_means,
    load_tokens,
)


@dataclass(frozen=True)
class StepClips:
    """Some clips in set order.

    Attributes:
        tokens: their tokens, or what the network sees of them; what the modality lacks is None.
        labels: [n] classifier columns, on the device where batches come.
    """

    tokens: StepTokens
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class StepData:
    """What a step is fitted on, and where its tokens stay."""

    current: StepClips
    exemplars: StepClips
    validation: StepClips | None
    plan: TokenPlan


def load_step(
    cache: TokenCache,
    current: ClipSet,
    exemplars: ClipSet,
    validation: ClipSet | None,
    config: RunConfig,
    device: torch.device,
) -> StepData:
    """Read what a network needs of a step; the sets share one budget, those touched most come first.

    Raises:
        CacheError: a clip has no tokens or its checksum does not match.
    """
    training = config.training
    wanted = [
        ("current clips", current, training.batch),
        ("exemplars", exemplars, training.exemplar_batch),
        *([("validation clips", validation, CLIPS_PER_PASS)] if validation is not None else []),
    ]
    asked = None if training.token_budget_gb is None else int(training.token_budget_gb * 1e9)
    tokens, plan = load_tokens(
        cache,
        [TokenSet(name, clips.ids, batch) for name, clips, batch in wanted],
        device,
        free_budget(device, asked),
        audio=config.modality != "visual",
        visual=_visual(config),
    )
    clips = [StepClips(held, _columns(one, device)) for held, (_, one, _) in zip(tokens, wanted, strict=True)]
    return StepData(clips[0], clips[1], clips[2] if validation is not None else None, plan)


def load_clips(cache: TokenCache, clips: ClipSet, config: RunConfig, device: torch.device) -> StepClips:
    """Clips that are passed through once: their visual tokens are read when they are asked for."""
    tokens: StepTokens
    if _visual(config) == "none":
        tokens = load_audio(cache, clips.ids, device)
    elif _visual(config) == "mean":
        tokens = load_means(cache, clips.ids, device, audio=config.modality != "visual")
    else:
        tokens = StreamedTokens(cache, clips.ids, device)
    return StepClips(tokens, _columns(clips, device))


def _visual(config: RunConfig) -> Visual:
    """Without attention a network sees no more of a clip's visual tokens than their mean."""
    if config.modality == "audio":
        return "none"
    return "whole" if config.modality == "audio-visual" and config.network.attention else "mean"


def _columns(clips: ClipSet, device: torch.device) -> Tensor:
    return torch.tensor(clips.columns, dtype=torch.long, device=device)
