"""Owns the fast form of the audio-guided attention and what a teacher's leaves behind; knows no loss.

The same function as `tanh` and `attention.audio_guided_attention`, which stay the readable form and the judge
of this one. Attention over space, nearly all of the work, is in `frame_attention`.

Letters: B batch, T time, S space, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from avcil.train.attention_kernels import Kernels, Map
from avcil.train.frame_attention import FrameAttention, Walk, look_at_frames

NUMBERS_PER_BLOCK = {"cpu": 2**18, "cuda": 2**30}  # on a CPU 1 MB of float32: a core's own cache


def product_dtype(precision: Literal["fp32", "fp64", "auto"], device: torch.device) -> torch.dtype:
    """The precision of matrix products: `auto` is float16 on a GPU, bfloat16 on CPUs that multiply it."""
    if precision == "fp64":
        return torch.float64
    if precision == "auto" and device.type == "cuda":
        return torch.float16
    # torch 2.11 has no public way to ask; its own products in bfloat16 are chosen by the same two answers.
    able = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    if precision == "auto" and able:
        return torch.bfloat16
    return torch.float32


@dataclass(frozen=True)
class FrozenAttention:
    """A frozen network's attention to some clips, in the form that its maps are rebuilt from.

    The student's maps are rebuilt by the same arithmetic, so while both have the same weights the maps are
    equal bit by bit and nothing is distilled. Maps stored in 16 bit would differ by their rounding.

    Attributes:
        projected: P [n, T, S, D] in the precision of the products: 2.4 MB a full-size clip in 16 bit.
        gate: a [n, D].
        total: Z [n, T, D].
        projected_mean: q [n, T, D].
    """

    projected: Tensor
    gate: Tensor
    total: Tensor
    projected_mean: Tensor

    def __getitem__(self, rows: Tensor) -> FrozenAttention:
        """The clips at positions `rows` [m]."""
        return FrozenAttention(
            self.projected[rows], self.gate[rows], self.total[rows], self.projected_mean[rows]
        )


@dataclass(frozen=True)
class FusedAttended:
    """What the attention made of a batch of clips.

    Attributes:
        pooled: [B, D] visual tokens summed under both attentions.
        spatial_divergence: [n_e] KL(teacher || student) over S, summed over T and D; None without a teacher.
        temporal_divergence: [n_e] KL(teacher || student) over T, summed over D; None without a teacher.
    """

    pooled: Tensor
    spatial_divergence: Tensor | None
    temporal_divergence: Tensor | None


class FusedAttention:
    """The operation in one precision of products and of P; all else has the precision of the gate.

    Args:
        dtype: see `product_dtype`.
        compiled: compile the elementwise work, see `attention_kernels.compiling_pays`.
    """

    def __init__(self, dtype: torch.dtype, *, compiled: bool = False) -> None:
        self.dtype = dtype
        self._kernels = Kernels(compiled=compiled)

    def __call__(
        self,
        tokens: Tensor,
        weight: Tensor,
        bias: Tensor,
        gate: Tensor,
        teacher: FrozenAttention | None = None,
    ) -> FusedAttended:
        """Attend to clips and compare with a teacher's attention to the last n_e of them.

        Args:
            tokens: V [B, T, S, D] in any floating precision; they get no gradient.
            weight: W [D, D] of the visual projection of the attention.
            bias: b [D].
            gate: a [B, D], tanh of the projected audio vectors.
            teacher: the frozen network's attention to the last n_e clips.
        """
        time = tokens.shape[1]
        old = None
        if teacher is not None:
            share = 1 / teacher.total.flatten(0, 1)
            old = Map(teacher.projected.flatten(0, 1), _of_frames(teacher.gate, time), share)
        q, v, rows = FrameAttention.apply(  # type: ignore[no-untyped-call]
            self._walk(tokens, keeps=torch.is_grad_enabled()),
            tokens.flatten(0, 1),
            weight,
            bias,
            _of_frames(gate, time),
            old,
        )
        scores = q.unflatten(0, (-1, time)) * gate[:, None]
        temporal = (scores - scores.logsumexp(1, keepdim=True)).exp()
        pooled = (temporal * v.unflatten(0, (-1, time))).sum(1)
        if teacher is None:
            return FusedAttended(pooled, None, None)
        n_old = len(teacher.gate)
        old_scores = teacher.projected_mean * teacher.gate[:, None]
        return FusedAttended(
            pooled,
            rows.unflatten(0, (n_old, time)).sum((1, 2)),
            _temporal_divergence(scores[len(scores) - n_old :], old_scores),
        )

    @torch.no_grad()
    def freeze(self, tokens: Tensor, weight: Tensor, bias: Tensor, gate: Tensor) -> FrozenAttention:
        """The attention to clips as that of a teacher; arguments as for a call."""
        time = tokens.shape[1]
        walk = self._walk(tokens, keeps=True)
        sums = look_at_frames(walk, tokens.flatten(0, 1), weight, bias, _of_frames(gate, time), None)
        return FrozenAttention(
            torch.cat(sums.projected).view(tokens.shape),
            gate.detach(),
            sums.total.view(len(gate), time, -1),
            sums.projected_mean.view(len(gate), time, -1),
        )

    def _walk(self, tokens: Tensor, *, keeps: bool) -> Walk:
        _, time, space, width = tokens.shape
        at_once = max(1, NUMBERS_PER_BLOCK[tokens.device.type] // (space * width))
        # Whole clips, or equal parts of one: where compiling pays, all blocks have one shape.
        block = at_once // time * time or max(n for n in range(1, time) if time % n == 0 and n <= at_once)
        return Walk(self._kernels, self.dtype, block, max(block, time), keeps)


def _of_frames(per_clip: Tensor, time: int) -> Tensor:
    """[B, D] of clips as [B T, D] of their frames."""
    return per_clip.repeat_interleave(time, dim=0)


def _temporal_divergence(scores: Tensor, old_scores: Tensor) -> Tensor:
    """KL(old || new) over T, summed over D, of softmaxes of scores [n_e, T, D]; exactly 0 for equal ones."""
    old_total = old_scores.logsumexp(1, keepdim=True)
    old = (old_scores - old_total).exp()
    rows = (old * (old_scores - scores)).sum(1) + scores.logsumexp(1) - old_total.squeeze(1)
    return rows.sum(1)
