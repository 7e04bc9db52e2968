"""Owns the tokens of a step as tensors on a device; the only place of the cache that knows torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from avcil.cache.reader import TokenCache


@dataclass(frozen=True)
class ResidentTokens:
    """Tokens of some clips, in the precision they are stored in; a part nobody asked for is None.

    Attributes:
        audio: [n, D] audio vectors.
        visual: [n, T, S, D] visual tokens.
    """

    audio: Tensor | None
    visual: Tensor | None

    def gather(self, rows: Tensor, dtype: torch.dtype) -> ResidentTokens:
        """The clips at positions `rows` [m], widened to `dtype`; stays on the device."""
        return ResidentTokens(
            None if self.audio is None else self.audio[rows].to(dtype),
            None if self.visual is None else self.visual[rows].to(dtype),
        )


def load_resident(
    cache: TokenCache, ids: Sequence[str], device: torch.device, *, audio: bool = True, visual: bool = True
) -> ResidentTokens:
    """Read the tokens of `ids` once, in that order, and keep them on `device`.

    Raises:
        CacheError: a clip has no tokens or its checksum does not match.
    """
    if not visual:
        return ResidentTokens(torch.from_numpy(cache.read_audio(ids)).to(device), None)
    tokens = cache.read(ids)
    return ResidentTokens(
        torch.from_numpy(tokens.audio).to(device) if audio else None,
        torch.from_numpy(tokens.visual).to(device),
    )
