"""Owns forward passes without gradients over any number of clips; knows no loss and no step."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from avcil.cache.step_tokens import StepTokens, TokenBatch
from avcil.train.model import AudioVisualNetwork

CLIPS_PER_PASS = 64  # at full size 0.3 GB of float32 tokens


def _chunks(tokens: StepTokens, dtype: torch.dtype) -> Iterator[TokenBatch]:
    if not len(tokens):
        return iter(())
    return tokens.batches(torch.split(torch.arange(len(tokens)), CLIPS_PER_PASS), dtype)


@torch.no_grad()
def predict_logits(network: AudioVisualNetwork, tokens: StepTokens, dtype: torch.dtype) -> Tensor:
    """Logits [n, C] of all clips, over all classes the network has seen."""
    parts = [network.classifier.weight.new_zeros(0, network.shape.classes)]
    for chunk in _chunks(tokens, dtype):
        parts.append(network(chunk.audio, chunk.visual).logits)
    return torch.cat(parts)


@torch.no_grad()
def attention_maps(
    network: AudioVisualNetwork, tokens: StepTokens, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Spatial [n, T, S, D] and temporal [n, T, D] attention of an audio-visual network on all clips."""
    spatial, temporal = [], []
    for chunk in _chunks(tokens, dtype):
        attended = network(chunk.audio, chunk.visual).attended
        spatial.append(attended.spatial)
        temporal.append(attended.temporal)
    return torch.cat(spatial), torch.cat(temporal)
