"""Owns the clips of a step as the trainer sees them: tokens on the device, with their columns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from avcil.cache import TokenCache
from avcil.cache.resident import ResidentTokens, load_resident
from avcil.train.config import Modality
from avcil.train.protocol import ClipSet


@dataclass(frozen=True)
class StepClips:
    """Some clips in set order.

    Attributes:
        tokens: their tokens, resident on the device; what the modality lacks is None.
        labels: [n] classifier columns on the same device.
    """

    tokens: ResidentTokens
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def load_clips(cache: TokenCache, clips: ClipSet, modality: Modality, device: torch.device) -> StepClips:
    """Read the tokens a modality needs; the rest stays on disk."""
    tokens = load_resident(cache, clips.ids, device, audio=modality != "visual", visual=modality != "audio")
    return StepClips(tokens, torch.tensor(clips.columns, dtype=torch.long, device=device))
