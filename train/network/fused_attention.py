"""The fast form of the audio-guided attention, and a teacher's attention in the form it is kept in.

The same function as `tanh` and `attention.audio_guided_attention`, which stay the readable form and the judge
of this one. Attention over space, nearly all of the work, is in `frame_attention`.

Letters: B batch, T time, S space, D width.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from avcil.train.network.frame_attention import FrameAttention, FrameSchedule, TeacherMaps, attend_frames
from avcil.train.network.kernels import Kernels
from avcil.train.tokens.batches import VisualTokens
from avcil.train.tokens.budget import PROJECTION_BYTES

# On a CPU 1 MB of float32: a core's own cache. On a GPU 55 full-size clips: enough for every core of it, and
# what is not fused takes 2 GB.
NUMBERS_PER_BLOCK = {"cpu": 2**18, "cuda": 2**26}


@dataclass(frozen=True)
class TeacherAttention:
    """A frozen network's attention to n clips, in the form that its maps are rebuilt from.

    The student's maps are rebuilt by the same arithmetic, so while both have the same weights the maps are
    equal bit by bit and nothing is distilled. Maps stored in 16 bit would differ by their rounding.

    Attributes:
        weight, bias: W [D, D] and b [D] of the projection.
        gate: a [n, D].
        total: Z [n, T, D].
        projected_mean: q [n, T, D].
        projected: P [k, T, S, D] in the precision of the products, 2.4 MB a full-size clip in 16 bit; None
            where it would take too much: then it is computed from the tokens whenever it is needed.
        rows: [n] which of P are meant.
    """

    weight: Tensor
    bias: Tensor
    gate: Tensor
    total: Tensor
    projected_mean: Tensor
    projected: Tensor | None
    rows: Tensor

    @classmethod
    def joined(cls, parts: Iterable[TeacherAttention], count: int) -> TeacherAttention:
        """One for all `count` clips; a part is released before the next is made."""
        sums: list[TeacherAttention] = []
        projected: Tensor | None = None
        done = 0
        for part in parts:
            if part.projected is not None:
                if projected is None:
                    projected = part.projected.new_empty(count, *part.projected.shape[1:])
                projected[done : done + len(part.gate)] = part.projected
            done += len(part.gate)
            sums.append(replace(part, projected=None))
        return cls(
            sums[0].weight,
            sums[0].bias,
            torch.cat([part.gate for part in sums]),
            torch.cat([part.total for part in sums]),
            torch.cat([part.projected_mean for part in sums]),
            projected,
            torch.arange(count),
        )

    @property
    def projected_bytes(self) -> int:
        """What P takes."""
        return 0 if self.projected is None else self.projected.numel() * self.projected.element_size()

    def __getitem__(self, rows: Tensor) -> TeacherAttention:
        """The clips at positions `rows` [m]; P stays where it is."""
        return replace(
            self,
            gate=self.gate[rows],
            total=self.total[rows],
            projected_mean=self.projected_mean[rows],
            rows=self.rows.to(rows.device)[rows],
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
    """The attention in one precision of products and of P; all else has the precision of the gate.

    Args:
        dtype: see `plan.product_dtype`; None is that of the weight.
        compiled: compile the elementwise work, see `kernels.compiling_pays`.
        projection_bytes: what P of a batch and of the teacher may take together, `PROJECTION_BYTES` unless
            given. What does not fit is computed again, which changes no number.
    """

    def __init__(
        self,
        dtype: torch.dtype | None = None,
        *,
        compiled: bool = False,
        projection_bytes: int | None = None,
    ) -> None:
        self.dtype = dtype
        self._kernels = Kernels(compiled=compiled)
        self._projection_bytes = projection_bytes

    def within(self, projection_bytes: int) -> FusedAttention:
        """The same with the same compiled kernels and another budget."""
        other = copy(self)
        other._projection_bytes = projection_bytes
        return other

    def __call__(
        self,
        tokens: VisualTokens,
        weight: Tensor,
        bias: Tensor,
        gate: Tensor,
        teacher: TeacherAttention | None = None,
    ) -> FusedAttended:
        """Attend to clips and compare with a teacher's attention to the last n_e of them.

        Args:
            tokens: V [B, T, S, D]; they get no gradient and must stay where they are until there is one.
            weight: W [D, D] of the visual projection of the attention.
            bias: b [D].
            gate: a [B, D], tanh of the projected audio vectors.
            teacher: the frozen network's attention to the last n_e clips.
        """
        time = tokens.clip_shape[0]
        room = self._room(tokens.device, 0 if teacher is None else teacher.projected_bytes)
        schedule = self._schedule(tokens, weight, room if torch.is_grad_enabled() else 0)
        maps = None if teacher is None else _teacher_maps(teacher, time, schedule.dtype)
        q, v, rows = FrameAttention.apply(  # type: ignore[no-untyped-call]
            schedule, weight, bias, _of_frames(gate, time), maps
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
    def as_teacher(
        self, tokens: VisualTokens, weight: Tensor, bias: Tensor, gate: Tensor, *, clips: int = 1
    ) -> TeacherAttention:
        """The attention to clips as that of a teacher; `clips` is how many there are in all."""
        time, space, width = tokens.clip_shape
        itemsize = (self.dtype or weight.dtype).itemsize
        keeps = clips * time * space * width * itemsize <= 0.75 * self._room(tokens.device, 0)
        schedule = self._schedule(tokens, weight, self._room(tokens.device, 0) if keeps else 0)
        sums = attend_frames(schedule, weight, bias, _of_frames(gate, time), None)
        return TeacherAttention(
            weight.detach(),
            bias.detach(),
            gate.detach(),
            sums.total.view(len(gate), time, -1),
            sums.projected_mean.view(len(gate), time, -1),
            torch.cat(sums.projected).view(-1, time, space, width) if keeps else None,
            torch.arange(len(gate)),
        )

    def _room(self, device: torch.device, taken: int) -> int:
        budget = self._projection_bytes
        return max(0, (PROJECTION_BYTES[device.type] if budget is None else budget) - taken)

    def _schedule(self, tokens: VisualTokens, weight: Tensor, room: int) -> FrameSchedule:
        """`room` is what P may take."""
        time, space, width = tokens.clip_shape
        dtype = self.dtype or weight.dtype
        at_once = max(1, NUMBERS_PER_BLOCK[tokens.device.type] // (space * width))
        # Whole clips, or equal parts of one: where compiling pays, all blocks have one shape.
        block = at_once // time * time or max(n for n in range(1, time) if time % n == 0 and n <= at_once)
        keeps = room // (space * width * dtype.itemsize)
        return FrameSchedule(tokens, self._kernels, dtype, block, max(block, time), keeps)


def _teacher_maps(teacher: TeacherAttention, time: int, dtype: torch.dtype) -> TeacherMaps:
    return TeacherMaps(
        _of_frames(teacher.gate, time),
        1 / teacher.total.flatten(0, 1),
        teacher.weight.to(dtype),
        teacher.bias.to(dtype),
        teacher.projected,
        teacher.rows,
    )


def _of_frames(per_clip: Tensor, time: int) -> Tensor:
    """[B, D] of clips as [B T, D] of their frames."""
    return per_clip.repeat_interleave(time, dim=0)


def _temporal_divergence(scores: Tensor, old_scores: Tensor) -> Tensor:
    """KL(old || new) over T, summed over D, of softmaxes of scores [n_e, T, D]; exactly 0 for equal ones."""
    old_total = old_scores.logsumexp(1, keepdim=True)
    old = (old_scores - old_total).exp()
    rows = (old * (old_scores - scores)).sum(1) + scores.logsumexp(1) - old_total.squeeze(1)
    return rows.sum(1)
