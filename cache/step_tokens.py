"""Owns how batches of tokens come: gathered by position and widened. Knows neither placement nor files.

Tokens are kept as stored (float16, float32 or int8 with scales) and widened a batch at a time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import tee
from operator import itemgetter

import numpy as np
import torch
from torch import Tensor

GATHER_BYTES = 1 << 16  # what is gathered before it is widened stays in a core's own cache


@dataclass(frozen=True)
class TokenBatch:
    """Widened tokens of a batch, on the device; what nobody asked for is None.

    Attributes:
        audio: [B, D] audio vectors.
        visual: [B, T, S, D] visual tokens.
    """

    audio: Tensor | None
    visual: Tensor | None

    def rows(self, start: int, stop: int) -> TokenBatch:
        """The clips from `start` to `stop`, as views."""
        return TokenBatch(
            None if self.audio is None else self.audio[start:stop],
            None if self.visual is None else self.visual[start:stop],
        )


@dataclass(frozen=True)
class StoredRows:
    """The clips at positions `rows` [B] of tokens as they are stored."""

    tokens: ResidentTokens
    rows: Tensor


class StepTokens(ABC):
    """Tokens of some clips, wherever they stay."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def select(self, orders: Iterable[Tensor]) -> Iterator[StoredRows]:
        """The clips at the positions [B] of every order, on the device, until the next ones are asked for."""

    def gather(self, rows: Tensor, dtype: torch.dtype) -> TokenBatch:
        """The clips at positions `rows` [B], widened to `dtype`."""
        (batch,) = self.batches([rows], dtype)
        return batch

    def batches(self, orders: Iterable[Tensor], dtype: torch.dtype) -> Iterator[TokenBatch]:
        """The clips of every order, widened to `dtype`, the next batch fetched while one is used.

        A batch is overwritten by the next one.
        """
        return joint_batches([self], ([rows] for rows in orders), dtype)


def joint_batches(
    sets: Sequence[StepTokens], orders: Iterable[Sequence[Tensor]], dtype: torch.dtype
) -> Iterator[TokenBatch]:
    """Batches of several sets, [B_0 + B_1 + ...]: of every order the rows [B_i] of set i, widened.

    A batch is overwritten by the next one: on a CPU, filling fresh memory takes several times as long.
    """
    copies = tee(orders, len(sets))
    streams = [one.select(map(itemgetter(k), copies[k])) for k, one in enumerate(sets)]
    room, size = TokenBatch(None, None), -1
    for parts in zip(*streams, strict=True):
        ends = np.cumsum([len(part.rows) for part in parts]).tolist()
        if ends[-1] > size:
            room, size = _room(parts[0].tokens, ends[-1], dtype), ends[-1]
        for part, start, end in zip(parts, [0, *ends], ends, strict=False):
            _widen_into(room.rows(start, end), part.tokens, part.rows)
        yield room.rows(0, ends[-1])


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
        return len(_first(self.audio, self.visual))

    def select(self, orders: Iterable[Tensor]) -> Iterator[StoredRows]:
        """The clips where they are: nothing moves."""
        return (StoredRows(self, rows) for rows in orders)


def _first(*tensors: Tensor | None) -> Tensor:
    return next(tensor for tensor in tensors if tensor is not None)


def _room(like: ResidentTokens, size: int, dtype: torch.dtype) -> TokenBatch:
    def empty(stored: Tensor | None) -> Tensor | None:
        if stored is None:
            return None
        shape = (size, *stored.shape[1:])
        if stored.is_cpu:  # numpy asks for huge pages, torch does not: filling them takes a third of the time
            return torch.from_numpy(np.empty(shape, torch.empty(0, dtype=dtype).numpy().dtype))
        return torch.empty(shape, dtype=dtype, device=stored.device)

    return TokenBatch(empty(like.audio), empty(like.visual))


def _widen_into(out: TokenBatch, stored: ResidentTokens, rows: Tensor) -> None:
    """Write the clips at positions `rows` of `stored` into `out`."""
    if out.audio is not None and stored.audio is not None:
        _widen_part(out.audio, stored.audio, None, rows)
    if out.visual is not None and stored.visual is not None:
        _widen_part(out.visual, stored.visual, stored.visual_scale, rows)


def _widen_part(out: Tensor, stored: Tensor, scale: Tensor | None, rows: Tensor) -> None:
    """out[i] = stored[rows[i]] * scale[rows[i]]; on a CPU by few rows, so that nothing large is made."""
    rows = rows.to(stored.device)
    row_bytes = max(1, stored[:1].numel() * stored.element_size())
    step = max(1, GATHER_BYTES // row_bytes if stored.is_cpu else len(rows))
    for start in range(0, len(rows), step):
        some, target = rows[start : start + step], out[start : start + step]
        if step == 1:
            row = int(some)
            target.copy_(stored[row : row + 1])
        elif scale is None and stored.dtype == out.dtype:
            torch.index_select(stored, 0, some, out=target)
        else:
            target.copy_(stored.index_select(0, some))
        if scale is not None:
            target.mul_(scale.index_select(0, some)[..., None].to(out.dtype))
