"""Features of clips that need no training: statistics of their frozen tokens, or a network's that is frozen.

Letters: n clips, D width of the tokens, P features of a stream.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from avcil.train.network.inference import outputs
from avcil.train.network.model import AudioVisualNetwork
from avcil.train.tokens.batches import StepTokens

Features = Literal["mean", "mean-std", "mean-std-max", "network"]
Fusion = Literal["late", "joint"]
CLIPS_AT_ONCE = 1024
FLOOR = 0.1  # of the median deviation: a feature that hardly varied in the first step must not dominate later


def stream_features(
    network: AudioVisualNetwork, tokens: StepTokens, features: Features, fusion: Fusion
) -> list[Tensor]:
    """The streams [n, P] of clips, in float64: the modalities apart (`late`, sound first) or side by side.

    `mean`, `mean-std`, `mean-std-max`: these statistics of the visual tokens over time and space, side by
    side, and the audio vector. `network`: fa, and fv beside the pooled tokens (AV-CIL, section 3.2).
    """
    found = _of_network(network, tokens) if features == "network" else _of_tokens(tokens)
    modalities = [torch.cat(parts) for parts in zip(*found, strict=True)]
    return modalities if fusion == "late" else [torch.cat(modalities, dim=1)]


def _of_tokens(tokens: StepTokens) -> Iterator[list[Tensor]]:
    for batch in tokens.batches(torch.split(torch.arange(len(tokens)), CLIPS_AT_ONCE), torch.float64):
        parts = [] if batch.audio is None else [batch.audio]
        if batch.visual is not None:
            parts.append(batch.visual.widened(torch.float64).flatten(1))
        yield parts


def _of_network(network: AudioVisualNetwork, tokens: StepTokens) -> Iterator[list[Tensor]]:
    for _, output in outputs(network, tokens):
        visual = [part for part in (output.visual, output.pooled) if part is not None]
        parts = [output.audio, torch.cat(visual, dim=1) if visual else None]
        yield [part.double() for part in parts if part is not None] or [output.fused.double()]


def standardiser(x: Tensor) -> tuple[Tensor, Tensor]:
    """Shift and scale [P] that give clips x [n, P] mean 0 and deviation 1: (x - shift) * scale."""
    if len(x) < 2:
        return x.mean(dim=0), torch.ones_like(x[0])
    deviation = x.std(dim=0, correction=0)
    return x.mean(dim=0), 1 / deviation.clamp(min=FLOOR * float(deviation.median()) + 1e-12)


def blocks(parts: list[Tensor]) -> Iterator[list[Tensor]]:
    """The same some rows of every tensor, in order."""
    splits = (torch.split(part, CLIPS_AT_ONCE) for part in parts)
    return (list(some) for some in zip(*splits, strict=True))
