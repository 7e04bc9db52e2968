"""Batches of tokens: clips by position, kept as stored (float16, float32 or int8 with scales).

A batch says where its clips are; its visual tokens are widened where they are used, some clips at a time, so
a wide batch never exists.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import tee
from operator import itemgetter

import torch
from torch import Tensor


@dataclass(frozen=True)
class StoredRows:
    """The clips at positions `rows` [B] of tokens as they are stored."""

    tokens: ResidentTokens
    rows: Tensor


@dataclass(frozen=True)
class VisualTokens:
    """The visual tokens [B, T, S, D] of a batch of clips, where they are stored."""

    parts: tuple[StoredRows, ...]

    @classmethod
    def of(cls, tokens: Tensor) -> VisualTokens:
        """Tokens [B, T, S, D] that are at hand in a floating precision."""
        return cls((StoredRows(ResidentTokens(None, tokens), torch.arange(len(tokens))),))

    def __len__(self) -> int:
        return sum(len(part.rows) for part in self.parts)

    @property
    def clip_shape(self) -> tuple[int, int, int]:
        """T, S and D."""
        _, time, space, width = self._first.shape
        return time, space, width

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self._first.device

    def widened(self, dtype: torch.dtype, start: int = 0, stop: int | None = None) -> Tensor:
        """The clips from `start` to `stop` [B, T, S, D]; a view where there is nothing to do."""
        stop = len(self) if stop is None else stop
        pieces, begin = [], 0
        for part in self.parts:
            rows = part.rows[max(0, start - begin) : max(0, stop - begin)]
            if len(rows):
                pieces.append(_widened(part.tokens, rows, dtype))
            begin += len(part.rows)
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    @property
    def _first(self) -> Tensor:
        first = self.parts[0].tokens.visual
        assert first is not None
        return first


@dataclass(frozen=True)
class TokenBatch:
    """The tokens of a batch, on the device; what nobody asked for is None.

    Attributes:
        audio: [B, D] audio vectors, widened.
        visual: the visual tokens, valid until the next batch.
    """

    audio: Tensor | None
    visual: VisualTokens | None


class StepTokens(ABC):
    """Tokens of some clips, wherever they stay."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def select(self, orders: Iterable[Tensor]) -> Iterator[StoredRows]:
        """The clips at the positions [B] of every order, on the device, until the next ones are asked for."""

    def batches(self, orders: Iterable[Tensor], dtype: torch.dtype) -> Iterator[TokenBatch]:
        """The clips of every order, the next batch fetched while one is used; audio vectors in `dtype`."""
        return joint_batches([self], ([rows] for rows in orders), dtype)


def joint_batches(
    sets: Sequence[StepTokens], orders: Iterable[Sequence[Tensor]], dtype: torch.dtype
) -> Iterator[TokenBatch]:
    """Batches of several sets, [B_0 + B_1 + ...]: of every order the rows [B_i] of set i."""
    copies = tee(orders, len(sets))
    streams = [one.select(map(itemgetter(k), copies[k])) for k, one in enumerate(sets)]
    for parts in zip(*streams, strict=True):
        audio = [
            part.tokens.audio.index_select(0, part.rows.to(part.tokens.audio.device))
            for part in parts
            if part.tokens.audio is not None
        ]
        yield TokenBatch(
            torch.cat(audio).to(dtype) if audio else None,
            None if parts[0].tokens.visual is None else VisualTokens(parts),
        )


@dataclass(frozen=True)
class ResidentTokens(StepTokens):
    """Tokens on the device where they are used, as they are stored; a part nobody asked for is None.

    Attributes:
        audio: [n, D] audio vectors.
        visual: [n, T, S, D] visual tokens.
        visual_scale: [n, T, S] what int8 tokens are multiplied by.
    """

    audio: Tensor | None
    visual: Tensor | None
    visual_scale: Tensor | None = None

    def __len__(self) -> int:
        return next(len(part) for part in (self.audio, self.visual) if part is not None)

    def select(self, orders: Iterable[Tensor]) -> Iterator[StoredRows]:
        """The clips where they are: nothing moves."""
        return (StoredRows(self, rows) for rows in orders)


@dataclass(frozen=True)
class StepClips:
    """Some clips of a step in set order.

    Attributes:
        tokens: their tokens, or what the network sees of them; what the modality lacks is None.
        labels: [n] classifier columns, on the device where batches come.
    """

    tokens: StepTokens
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def _widened(tokens: ResidentTokens, rows: Tensor, dtype: torch.dtype) -> Tensor:
    """visual[rows] * scale[rows] in `dtype`, [B, T, S, D]."""
    assert tokens.visual is not None
    stored = take(tokens.visual, rows)
    if tokens.visual_scale is not None:  # 8 + 11 bits: the product is exact in float32
        stored = stored.float() * take(tokens.visual_scale, rows)[..., None].float()
    elif {stored.dtype, dtype} == {torch.float16, torch.bfloat16}:
        # From float16 straight to bfloat16 takes a CPU three times as long as by way of float32.
        stored = stored.float()
    return stored.to(dtype)


def take(stored: Tensor, rows: Tensor) -> Tensor:
    """stored[rows]; of one row in RAM a view."""
    if len(rows) == 1 and stored.is_cpu:
        row = int(rows)
        return stored[row : row + 1]
    return stored.index_select(0, rows.to(stored.device))
