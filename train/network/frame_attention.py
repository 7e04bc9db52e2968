"""Owns attention over space as a differentiable function of frames, in blocks; knows no time and no clip.

Letters: N frames, S space, D width, M frames at the end that are compared with a teacher's. With
H = V W^T + b, P = tanh(H), scores s = P a (a the gate), Z = sum e^s, alpha = e^s / Z, q = sum alpha P and
v = sum alpha V (sums over S), and dq, dv, c the gradients at q, at v and at the divergence from the teacher:

    ds = alpha (dv (V - v) + dq (P - q)) + c (alpha - alpha_old)
    dH = (alpha dq + ds a) (1 - P^2)        dW = dH^T V        db = sum dH        da = sum ds P

|P| and |a| are at most 1, so the softmax needs no maximum and all sums over S are plain sums. Tokens need no
gradient. A block of frames goes through all its elementwise work while it is in the processor's cache. On the
way back P is what was kept of the way there; where memory is short, it is computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from avcil.train.network.kernels import Kernels, Map


@dataclass(frozen=True)
class Walk:
    """How to go through the frames.

    Attributes:
        tokens: V [F, S, D] of some frames, in a precision.
        kernels: the elementwise work.
        dtype: precision of products and of P.
        block: frames that go through the elementwise work together.
        chunk: frames of one matrix product; a multiple of `block`.
        keeps: frames whose P is kept for the way back.
    """

    tokens: Callable[[slice, torch.dtype], Tensor]
    kernels: Kernels
    dtype: torch.dtype
    block: int
    chunk: int
    keeps: int

    def blocks(self, start: int, stop: int) -> Iterator[slice]:
        """The blocks of some frames; the last may be smaller."""
        for first in range(start, stop, self.block):
            yield slice(first, min(first + self.block, stop))

    def chunks(self, count: int, compared: int) -> Iterator[slice]:
        """The chunks of all frames; none holds both compared frames and others."""
        for start, stop in ((0, count - compared), (count - compared, count)):
            for first in range(start, stop, self.chunk):
                yield slice(first, min(first + self.chunk, stop))


@dataclass(frozen=True)
class OldMaps:
    """A teacher's attention to M frames.

    Attributes:
        gate: a [M, D].
        share: 1 / Z [M, D].
        projected: P [F, S, D] of some of them, from their tokens V [F, S, D].
    """

    gate: Tensor
    share: Tensor
    projected: Callable[[slice, Tensor], Tensor]


@dataclass(frozen=True)
class FrameSums:
    """What attention over space made of N frames.

    Attributes:
        projected: P, one [F, S, D] for each block that is kept.
        total: Z [N, D].
        projected_mean: q [N, D].
        token_mean: v [N, D].
        divergence: KL(teacher || student) [M, D].
    """

    projected: list[Tensor]
    total: Tensor
    projected_mean: Tensor
    token_mean: Tensor
    divergence: Tensor


def look_at_frames(walk: Walk, weight: Tensor, bias: Tensor, gate: Tensor, old: OldMaps | None) -> FrameSums:
    """Attention over space without a way back; arguments as for `FrameAttention`."""
    weight, bias = weight.to(walk.dtype), bias.to(walk.dtype)
    kept, sums, divergences = [], [], [gate.new_empty(0, gate.shape[1])]
    compared = 0 if old is None else len(old.gate)
    for chunk in walk.chunks(len(gate), compared):
        seen = walk.tokens(chunk, walk.dtype)
        hidden = F.linear(seen.flatten(0, 1), weight, bias).view(seen.shape)
        teacher = _OldChunk.of(old, chunk, len(gate), seen)
        for rows in walk.blocks(chunk.start, chunk.stop):
            within = _shifted(rows, chunk.start)
            looked = walk.kernels.look(hidden[within], seen[within], gate[rows])
            sums.append(looked[1:])
            if teacher is not None:
                new = Map(looked.projected, gate[rows], 1 / looked.total)
                divergences.append(walk.kernels.divergence(new, teacher.block(within)))
            if chunk.stop <= walk.keeps:
                kept.append(looked.projected)
    total, q, v = (torch.cat(parts) for parts in zip(*sums, strict=True))
    return FrameSums(kept, total, q, v, torch.cat(divergences))


class FrameAttention(torch.autograd.Function):
    """q [N, D], v [N, D] and the divergence [M, D] of frames, see the module.

    Takes the walk, W [D, D], b [D], the gate a [N, D] and the teacher's maps of the last M frames or None.
    Gradients reach W, b and a, once.
    """

    @staticmethod
    def forward(
        ctx: Any, walk: Walk, weight: Tensor, bias: Tensor, gate: Tensor, old: OldMaps | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The sums of every frame."""
        weight, bias, gate = weight.detach(), bias.detach(), gate.detach()
        sums = look_at_frames(walk, weight, bias, gate, old)
        ctx.walk, ctx.old = walk, old
        q, v = sums.projected_mean, sums.token_mean
        ctx.save_for_backward(weight, bias, gate, sums.total, q, v, *sums.projected)
        return q, v, sums.divergence

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dq: Tensor, dv: Tensor, dc: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients at W, b and a, by the algebra of the module."""
        walk: Walk = ctx.walk
        old: OldMaps | None = ctx.old
        weight, bias, gate, total, q, v, *kept = (x.detach() for x in ctx.saved_tensors)
        weight, bias, share = weight.to(walk.dtype), bias.to(walk.dtype), 1 / total
        scale = _scale(walk.dtype, dq, dv, dc)
        dq, dv, dc = dq * scale, dv * scale, dc * scale
        d_weight = gate.new_zeros(weight.shape)
        d_bias, d_gate = gate.new_zeros(gate.shape[1]), torch.empty_like(gate)
        projected = iter(kept)
        for chunk in walk.chunks(len(gate), len(dc)):
            seen = walk.tokens(chunk, walk.dtype)
            hidden = None  # only where P was not kept
            if chunk.stop > walk.keeps:
                hidden = F.linear(seen.flatten(0, 1), weight, bias).view(seen.shape)
            teacher = _OldChunk.of(old, chunk, len(gate), seen)
            d_hidden = torch.empty_like(seen)
            for rows in walk.blocks(chunk.start, chunk.stop):
                within = _shifted(rows, chunk.start)
                p = next(projected) if hidden is None else walk.kernels.project(hidden[within], gate.dtype)
                d_hidden[within], d_gate[rows], d_bias_rows = walk.kernels.differentiate(
                    Map(p, gate[rows], share[rows]),
                    seen[within],
                    (q[rows], v[rows]),
                    (dq[rows], dv[rows]),
                    None if teacher is None else (teacher.block(within), dc[teacher.frames(within)]),
                )
                d_bias += d_bias_rows.sum(0)
            _add_product(d_weight, d_hidden.flatten(0, 1), seen.flatten(0, 1))
        return None, d_weight / scale, d_bias / scale, d_gate / scale, None


@dataclass(frozen=True)
class _OldChunk:
    """A teacher's maps of the frames of one chunk, `start` the first of them."""

    old: OldMaps
    start: int
    projected: Tensor

    @classmethod
    def of(cls, old: OldMaps | None, chunk: slice, count: int, seen: Tensor) -> _OldChunk | None:
        """None where the chunk, one of `count` frames, is not compared."""
        first_old = count if old is None else count - len(old.gate)
        if old is None or chunk.start < first_old:
            return None
        frames = _shifted(chunk, first_old)
        return cls(old, frames.start, old.projected(frames, seen))

    def frames(self, within: slice) -> slice:
        """Frames of the chunk as frames of the teacher."""
        return _shifted(within, -self.start)

    def block(self, within: slice) -> Map:
        """The maps of some frames of the chunk."""
        frames = self.frames(within)
        return Map(self.projected[within], self.old.gate[frames], self.old.share[frames])


def _shifted(rows: slice, by: int) -> slice:
    return slice(rows.start - by, rows.stop - by)


def _scale(dtype: torch.dtype, *gradients: Tensor) -> Tensor | float:
    """A power of two that lifts dH out of float16's subnormal numbers; 1 for wider exponents.

    All gradients are linear in those at q, at v and at the divergence, so these are scaled and the results
    scaled back. 2^15 over 64 times the largest leaves room for tokens of some ten standard deviations.
    """
    if dtype != torch.float16:
        return 1.0
    largest = torch.stack([gradient.abs().amax() for gradient in gradients if gradient.numel()]).amax()
    return torch.exp2(torch.floor(torch.log2(2**15 / (64 * largest.clamp(min=1e-30)))))


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left^T right, summed in the precision of `total` as far as the device can."""
    if left.dtype == total.dtype:
        total.addmm_(left.T, right)
    elif left.device.type == "cuda":
        total += torch.mm(left.T, right, out_dtype=total.dtype)
    else:
        total += left.T @ right
