"""Owns forward passes without gradients over any number of clips; knows no loss and no step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from avcil.cache.resident import ResidentTokens
from avcil.train.model import AudioVisualNetwork

CLIPS_PER_PASS = 64  # at full size 0.3 GB of float32 tokens
# Matrix products take rows in fours and the rest in another way, which rounds otherwise (measured on CPUs).
# In passes of a multiple of this, a clip's numbers do not depend on how many others there are.
CLIPS_AT_LEAST = 8


def _chunks(tokens: ResidentTokens) -> Sequence[Tensor]:
    first = tokens.audio if tokens.audio is not None else tokens.visual
    assert first is not None
    return torch.split(torch.arange(len(first), device=first.device), CLIPS_PER_PASS) if len(first) else ()


@torch.no_grad()
def predict_logits(network: AudioVisualNetwork, tokens: ResidentTokens, dtype: torch.dtype) -> Tensor:
    """Logits [n, C] of all clips, over all classes the network has seen; each clip's own, bit by bit."""
    parts = [network.classifier.weight.new_zeros(0, network.shape.classes)]
    for rows in _chunks(tokens):
        filler = rows[-1:].expand(-len(rows) % CLIPS_AT_LEAST)
        chunk = tokens.gather(torch.cat([rows, filler]), dtype)
        parts.append(network(chunk.audio, chunk.visual).logits[: len(rows)])
    return torch.cat(parts)


@torch.no_grad()
def attention_maps(
    network: AudioVisualNetwork, tokens: ResidentTokens, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Spatial [n, T, S, D] and temporal [n, T, D] attention of an audio-visual network on all clips."""
    spatial, temporal = [], []
    for rows in _chunks(tokens):
        chunk = tokens.gather(rows, dtype)
        attended = network(chunk.audio, chunk.visual).attended
        spatial.append(attended.spatial)
        temporal.append(attended.temporal)
    return torch.cat(spatial), torch.cat(temporal)
