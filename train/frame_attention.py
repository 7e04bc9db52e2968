"""Owns attention over space as a differentiable function of frames, in blocks; knows no time and no clip.

Letters: N frames, S space, D width, M frames at the end that are compared with a teacher's. With
H = V W^T + b, P = tanh(H), scores s = P a (a the gate), Z = sum e^s, alpha = e^s / Z, q = sum alpha P and
v = sum alpha V (sums over S), and dq, dv, c the gradients at q, at v and at the divergence from the teacher:

    ds = alpha (dv (V - v) + dq (P - q)) + c (alpha - alpha_old)
    dH = (alpha dq + ds a) (1 - P^2)        dW = dH^T V        db = sum dH        da = sum ds P

|P| and |a| are at most 1, so the softmax needs no maximum and all sums over S are plain sums. Tokens need no
gradient. A block of frames goes through all its elementwise work while it is in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from avcil.train.attention_kernels import Kernels, Map


@dataclass(frozen=True)
class Walk:
    """How to go through the frames.

    Attributes:
        kernels: the elementwise work.
        dtype: precision of products and of P.
        block: frames that go through the elementwise work together.
        chunk: frames of one matrix product; a multiple of `block`.
        keeps: whether there will be a way back.
    """

    kernels: Kernels
    dtype: torch.dtype
    block: int
    chunk: int
    keeps: bool

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
class FrameSums:
    """What attention over space made of N frames.

    Attributes:
        projected: P, one [F, S, D] a block; empty when nothing is kept.
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


def look_at_frames(
    walk: Walk, tokens: Tensor, weight: Tensor, bias: Tensor, gate: Tensor, old: Map | None
) -> FrameSums:
    """Attention over space without a way back; arguments as for `FrameAttention`."""
    weight, bias = weight.to(walk.dtype), bias.to(walk.dtype)
    kept, sums, divergences = [], [], [gate.new_empty(0, gate.shape[1])]
    compared = 0 if old is None else len(old.gate)
    first_old = len(tokens) - compared
    for chunk in walk.chunks(len(tokens), compared):
        seen = _widened(tokens[chunk], walk.dtype)
        hidden = F.linear(seen.flatten(0, 1), weight, bias).view(seen.shape)
        for rows in walk.blocks(chunk.start, chunk.stop):
            within = _shifted(rows, chunk.start)
            looked = walk.kernels.look(hidden[within], seen[within], gate[rows])
            sums.append(looked[1:])
            if old is not None and rows.start >= first_old:
                new = Map(looked.projected, gate[rows], 1 / looked.total)
                divergences.append(walk.kernels.divergence(new, _part(old, rows, first_old)))
            if walk.keeps:
                kept.append(looked.projected)
    total, q, v = (torch.cat(parts) for parts in zip(*sums, strict=True))
    return FrameSums(kept, total, q, v, torch.cat(divergences))


class FrameAttention(torch.autograd.Function):
    """q [N, D], v [N, D] and the divergence [M, D] of frames, see the module.

    Takes the walk, tokens V [N, S, D], W [D, D], b [D], the gate a [N, D] and the teacher's map of the last M
    frames or None. Gradients reach W, b and a, once.
    """

    @staticmethod
    def forward(
        ctx: Any, walk: Walk, tokens: Tensor, weight: Tensor, bias: Tensor, gate: Tensor, old: Map | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The sums of every frame."""
        gate = gate.detach()
        sums = look_at_frames(walk, tokens, weight, bias, gate, old)
        ctx.walk, ctx.old = walk, old
        q, v = sums.projected_mean, sums.token_mean
        if walk.keeps:
            ctx.save_for_backward(tokens, gate, sums.total, q, v, *sums.projected)
        return q, v, sums.divergence

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dq: Tensor, dv: Tensor, weights: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients at W, b and a, by the algebra of the module."""
        walk: Walk = ctx.walk
        old: Map | None = ctx.old
        tokens, gate, total, q, v, *kept = (x.detach() for x in ctx.saved_tensors)
        share = 1 / total
        scale = _scale(walk.dtype, dq, dv, weights)
        dq, dv, weights = dq * scale, dv * scale, weights * scale
        d_weight = gate.new_zeros(tokens.shape[2], tokens.shape[2])
        d_bias, d_gate = gate.new_zeros(gate.shape[1]), torch.empty_like(gate)
        first_old = len(tokens) - len(weights)
        projected = iter(kept)
        for chunk in walk.chunks(len(tokens), len(weights)):
            seen = _widened(tokens[chunk], walk.dtype)
            d_hidden = torch.empty_like(seen)
            for rows in walk.blocks(chunk.start, chunk.stop):
                within = _shifted(rows, chunk.start)
                teacher = None
                if old is not None and rows.start >= first_old:
                    teacher = (
                        _part(old, rows, first_old),
                        weights[rows.start - first_old : rows.stop - first_old],
                    )
                d_hidden[within], d_gate[rows], d_bias_rows = walk.kernels.differentiate(
                    Map(next(projected), gate[rows], share[rows]),
                    seen[within],
                    (q[rows], v[rows]),
                    (dq[rows], dv[rows]),
                    teacher,
                )
                d_bias += d_bias_rows.sum(0)
            _add_product(d_weight, d_hidden.flatten(0, 1), seen.flatten(0, 1))
        return None, None, d_weight / scale, d_bias / scale, d_gate / scale, None


def _widened(tokens: Tensor, dtype: torch.dtype) -> Tensor:
    # From float16 straight to bfloat16 takes a CPU three times as long as by way of float32.
    if {tokens.dtype, dtype} == {torch.float16, torch.bfloat16}:
        tokens = tokens.float()
    return tokens.to(dtype)


def _shifted(rows: slice, by: int) -> slice:
    return slice(rows.start - by, rows.stop - by)


def _part(old: Map, rows: slice, first_old: int) -> Map:
    part = _shifted(rows, first_old)
    return Map(old.projected[part], old.gate[part], old.share[part])


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
