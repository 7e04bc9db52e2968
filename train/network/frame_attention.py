"""Attention over space as a differentiable function of frames, computed in blocks.

Letters: N = B T frames of B clips, S space, D width, M frames at the end that are compared with a teacher's.
With H = V W^T + b, P = tanh(H), scores s = P a (a the gate), Z = sum e^s, alpha = e^s / Z, q = sum alpha P
and v = sum alpha V (sums over S), and dq, dv, c the gradients at q, at v and at the divergence from the
teacher:

    ds = alpha (dv (V - v) + dq (P - q)) + c (alpha - alpha_old)
    dH = (alpha dq + ds a) (1 - P^2)        dW = dH^T V        db = sum dH        da = sum ds P

|P| and |a| are at most 1, so the softmax needs no maximum and all sums over S are plain sums. Tokens need no
gradient. A block of frames goes through all its elementwise work while it is in the processor's cache. On the
way back P is what was kept of the way there; where memory is short, it is computed again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from avcil.train.network.kernels import Kernels, SpatialMap
from avcil.train.tokens.batches import VisualTokens, take


@dataclass(frozen=True)
class FrameSchedule:
    """In which order and precision the frames of a batch of clips are computed.

    Attributes:
        clips: V [B, T, S, D] of the clips, T frames each.
        kernels: the elementwise work.
        dtype: precision of products and of P.
        block: frames that go through the elementwise work together.
        chunk: frames of one matrix product, whole clips; a multiple of `block`.
        keeps: frames whose P is kept for the way back.
    """

    clips: VisualTokens
    kernels: Kernels
    dtype: torch.dtype
    block: int
    chunk: int
    keeps: int

    def tokens(self, chunk: slice) -> Tensor:
        """V [F, S, D] of the frames of a chunk, widened."""
        time = self.clips.clip_shape[0]
        return self.clips.widened(self.dtype, chunk.start // time, chunk.stop // time).flatten(0, 1)

    def blocks(self, start: int, stop: int) -> Iterator[slice]:
        """The blocks of some frames; the last may be smaller."""
        for first in range(start, stop, self.block):
            yield slice(first, min(first + self.block, stop))

    def chunks(self, count: int, compared: int) -> Iterator[slice]:
        """The chunks of all frames; none holds both frames before `compared` and others."""
        for start, stop in ((0, compared), (compared, count)):
            for first in range(start, stop, self.chunk):
                yield slice(first, min(first + self.chunk, stop))


@dataclass(frozen=True)
class TeacherMaps:
    """A teacher's attention to M frames.

    Attributes:
        gate: a [M, D].
        share: 1 / Z [M, D].
        weight, bias: W [D, D] and b [D] of its projection, in the precision of the products.
        projected: P [k, T, S, D] of its clips, None where it is computed from the tokens.
        rows: which of P are those of the M / T clips.
    """

    gate: Tensor
    share: Tensor
    weight: Tensor
    bias: Tensor
    projected: Tensor | None
    rows: Tensor

    def of(self, frames: slice, tokens: Tensor, schedule: FrameSchedule) -> SpatialMap:
        """The maps of some frames, whole clips, whose tokens V [F, S, D] are at hand."""
        if self.projected is not None:
            time = self.projected.shape[1]
            clips = self.rows[frames.start // time : frames.stop // time]
            projected = take(self.projected, clips).flatten(0, 1)
        else:
            projected = F.linear(tokens.flatten(0, 1), self.weight, self.bias).view(tokens.shape)
            for block in torch.split(projected, schedule.block):
                block.copy_(schedule.kernels.project(block, self.gate.dtype))
        return SpatialMap(projected, self.gate[frames], self.share[frames])


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


def attend_frames(
    schedule: FrameSchedule, weight: Tensor, bias: Tensor, gate: Tensor, teacher: TeacherMaps | None
) -> FrameSums:
    """Attention over space without a way back; arguments as for `FrameAttention`."""
    weight, bias = weight.to(schedule.dtype), bias.to(schedule.dtype)
    kept, sums, divergences = [], [], [gate.new_empty(0, gate.shape[1])]
    first = len(gate) - (0 if teacher is None else len(teacher.gate))  # of the compared frames
    for chunk in schedule.chunks(len(gate), first):
        tokens = schedule.tokens(chunk)
        hidden = F.linear(tokens.flatten(0, 1), weight, bias).view(tokens.shape)
        old = _compared(teacher, chunk, first, tokens, schedule)
        for rows in schedule.blocks(chunk.start, chunk.stop):
            within = _shifted(rows, chunk.start)
            block = schedule.kernels.attend(hidden[within], tokens[within], gate[rows])
            sums.append(block[1:])
            if old is not None:
                new = SpatialMap(block.projected, gate[rows], 1 / block.total)
                divergences.append(schedule.kernels.divergence(new, old.part(within)))
            if chunk.stop <= schedule.keeps:
                kept.append(block.projected)
    total, q, v = (torch.cat(parts) for parts in zip(*sums, strict=True))
    return FrameSums(kept, total, q, v, torch.cat(divergences))


class FrameAttention(torch.autograd.Function):
    """q [N, D], v [N, D] and the divergence [M, D] of frames, see the module.

    Takes the schedule, W [D, D], b [D], the gate a [N, D] and a teacher's maps of the last M frames or None.
    Gradients reach W, b and a, once.
    """

    @staticmethod
    def forward(
        ctx: Any,
        schedule: FrameSchedule,
        weight: Tensor,
        bias: Tensor,
        gate: Tensor,
        teacher: TeacherMaps | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The sums of every frame."""
        weight, bias, gate = weight.detach(), bias.detach(), gate.detach()
        sums = attend_frames(schedule, weight, bias, gate, teacher)
        ctx.schedule, ctx.teacher = schedule, teacher
        q, v = sums.projected_mean, sums.token_mean
        ctx.save_for_backward(weight, bias, gate, sums.total, q, v, *sums.projected)
        return q, v, sums.divergence

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dq: Tensor, dv: Tensor, dc: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients at W, b and a, by the algebra of the module."""
        schedule: FrameSchedule = ctx.schedule
        teacher: TeacherMaps | None = ctx.teacher
        kernels = schedule.kernels
        weight, bias, gate, total, q, v, *kept = (x.detach() for x in ctx.saved_tensors)
        weight, bias, share = weight.to(schedule.dtype), bias.to(schedule.dtype), 1 / total
        scale = _scale(schedule.dtype, dq, dv, dc)
        dq, dv, dc = dq * scale, dv * scale, dc * scale
        d_weight = gate.new_zeros(weight.shape)
        d_bias, d_gate = gate.new_zeros(gate.shape[1]), torch.empty_like(gate)
        projected = iter(kept)
        first = len(gate) - len(dc)
        for chunk in schedule.chunks(len(gate), first):
            tokens = schedule.tokens(chunk)
            hidden = None  # only where P was not kept
            if chunk.stop > schedule.keeps:
                hidden = F.linear(tokens.flatten(0, 1), weight, bias).view(tokens.shape)
            old = _compared(teacher, chunk, first, tokens, schedule)
            d_hidden = torch.empty_like(tokens)
            for rows in schedule.blocks(chunk.start, chunk.stop):
                within = _shifted(rows, chunk.start)
                p = next(projected) if hidden is None else kernels.project(hidden[within], gate.dtype)
                d_hidden[within], d_gate[rows], d_bias_rows = kernels.differentiate(
                    SpatialMap(p, gate[rows], share[rows]),
                    tokens[within],
                    (q[rows], v[rows]),
                    (dq[rows], dv[rows]),
                    None if old is None else (old.part(within), dc[_shifted(rows, first)]),
                )
                d_bias += d_bias_rows.sum(0)
            _add_product(d_weight, d_hidden.flatten(0, 1), tokens.flatten(0, 1))
        return None, d_weight / scale, d_bias / scale, d_gate / scale, None


def _compared(
    teacher: TeacherMaps | None, chunk: slice, first: int, tokens: Tensor, schedule: FrameSchedule
) -> SpatialMap | None:
    """A teacher's maps of a chunk; None before `first`, where frames are not compared."""
    if teacher is None or chunk.start < first:
        return None
    return teacher.of(_shifted(chunk, first), tokens, schedule)


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
