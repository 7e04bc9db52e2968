"""Loss terms as pure functions of tensors, without their weights.

Letters: N clips of a batch (n_c current then n_e exemplars), T time, S space, D width, C classes seen.
All values are dimensionless, natural logarithms throughout.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def separated_cross_entropy(logits: Tensor, labels: Tensor, n_current: int, old: int) -> Tensor:
    """Cross-entropy that lets current clips and exemplars compete among their own columns only.

    (n_c CE(current, new columns) + n_e CE(exemplars, old columns)) / N (SS-IL, Eq. 3; AV-CIL, section 3.5).

    Args:
        logits: [N, C], current clips first.
        labels: [N] columns; current ones in [old, C), exemplars in [0, old).
        n_current: n_c.
        old: number of old columns.
    """
    current = F.cross_entropy(logits[:n_current, old:], labels[:n_current] - old, reduction="sum")
    exemplar = F.cross_entropy(logits[n_current:, :old], labels[n_current:], reduction="sum")
    return (current + exemplar) / len(labels)


def task_distillation(logits: Tensor, teacher: Tensor, tasks: Sequence[range], temperature: float) -> Tensor:
    """Knowledge distillation, one softmax per old task, summed over tasks (SS-IL, Eq. 5).

    sum over k of T^2 * mean over clips of KL(softmax(teacher_k / T) || softmax(logits_k / T)).

    Args:
        logits: [N, C] of the student.
        teacher: [N, C_old] of the frozen old network.
        tasks: columns of each old task.
        temperature: T.
    """
    total = logits.new_zeros(())
    for task in tasks:
        columns = slice(task.start, task.stop)
        student = F.log_softmax(logits[:, columns] / temperature, dim=1)
        target = F.log_softmax(teacher[:, columns] / temperature, dim=1)
        total = total + F.kl_div(student, target, reduction="batchmean", log_target=True) * temperature**2
    return total


def binary_distillation(logits: Tensor, teacher: Tensor, *, double_sigmoid: bool) -> Tensor:
    """Distillation of one sigmoid per old class, mean over clips and classes (iCaRL, Algorithm 3).

    Binary cross-entropy of sigmoid(logits) against sigmoid(teacher). The published program takes the
    student's sigmoid for a logit, so that another one is applied to it (`double_sigmoid`).

    Args:
        logits: [N, C_old] of the student.
        teacher: [N, C_old] of the frozen old network.
        double_sigmoid: as in the published program.
    """
    student = logits.sigmoid() if double_sigmoid else logits
    return F.binary_cross_entropy_with_logits(student, teacher.sigmoid())


def nca(
    similarities: Tensor, labels: Tensor, scale: Tensor | float, margin: float, *, on_target_only: bool
) -> Tensor:
    """Neighbourhood component analysis with a margin (PODNet; AFC), mean over clips.

    With z = scale * (similarities - margin) and M = max_j z_j: -(z_y - M) + log(1 + sum over j != y of
    exp(z_j - M)). The published program subtracts the margin from every similarity, where it cancels;
    the papers subtract it from the target's only.

    Args:
        similarities: [N, C], larger is closer.
        labels: [N] columns.
        scale: multiplies the similarities; learned.
        margin: by how much the target must be ahead.
        on_target_only: subtract the margin from the target's similarity only.
    """
    is_target = F.one_hot(labels, similarities.shape[1])
    margins = margin * is_target.to(similarities) if on_target_only else margin
    z = scale * (similarities - margins)
    shifted = z - z.max(dim=1, keepdim=True).values
    others = shifted.exp().masked_fill(is_target.bool(), 1.0)  # the formula's 1, in the target's place
    target = shifted.gather(1, labels[:, None]).squeeze(1)
    return (others.sum(dim=1).log() - target).mean()


def weighted_distance(student: Tensor, teacher: Tensor, weight: Tensor | float) -> Tensor:
    """Mean over clips of weight * |student - teacher|, both of unit length (AFC's discrepancy).

    Args:
        student: [N, D].
        teacher: [N, D] of the frozen old network.
        weight: [N], how much the old network's loss depends on the feature.
    """
    return (weight * torch.linalg.vector_norm(student - teacher, dim=1)).mean()


def _audio_to_visual(audio: Tensor, visual: Tensor, temperature: float) -> Tensor:
    """Log-softmax over the visual features of the batch for every audio feature, [N, N]."""
    return F.log_softmax(audio @ visual.T / temperature, dim=1)


def instance_contrast(audio: Tensor, visual: Tensor, temperature: float) -> Tensor:
    """D-AVSC, instance-aware: each clip's sound finds its own picture (AV-CIL, Eq. 5).

    mean over i of -log softmax_j(audio_i . visual_j / temperature)[j = i]; one direction only.

    Args:
        audio: [N, D] features of unit length.
        visual: [N, D] features of unit length.
        temperature: scale of the similarities.
    """
    return -_audio_to_visual(audio, visual, temperature).diagonal().mean()


def class_contrast(
    audio: Tensor, visual: Tensor, labels: Tensor, temperature: float, *, per_positive: bool
) -> Tensor:
    """D-AVSC, class-aware: each clip's sound finds the pictures of its class (AV-CIL, Eq. 7).

    -mean over i of (1 / n_i) * sum over j with y_j = y_i of log softmax_j(audio_i . visual_j / temperature),
    with n_i the number of positives (`per_positive`, Eq. 7) or N, as the released program computes it.

    Args:
        audio: [N, D] features of unit length.
        visual: [N, D] features of unit length.
        labels: [N] true columns.
        temperature: scale of the similarities.
        per_positive: divide by the positives instead of by N.
    """
    positive = labels[:, None] == labels[None, :]
    log_softmax = _audio_to_visual(audio, visual, temperature)
    matched = torch.where(positive, log_softmax, 0.0).sum(dim=1)
    divisor = positive.sum(dim=1) if per_positive else len(labels)
    return -(matched / divisor).mean()


def spatial_attention_distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """VAD over space: KL(teacher || student) over S, summed over T and D, mean over exemplars.

    (AV-CIL, section 3.4.) A sum over frames and channels, not a mean.

    Args:
        student: [n_e, T, S, D] attention, softmax over S.
        teacher: [n_e, T, S, D] attention of the frozen old network.
    """
    return _summed_divergence(student, teacher, dim=2)


def temporal_attention_distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """VAD over time: KL(teacher || student) over T, summed over D, mean over exemplars.

    Args:
        student: [n_e, T, D] attention, softmax over T.
        teacher: [n_e, T, D] attention of the frozen old network.
    """
    return _summed_divergence(student, teacher, dim=1)


def _summed_divergence(student: Tensor, teacher: Tensor, dim: int) -> Tensor:
    # Each softmax is summed by itself first: its signed terms cancel, and in float32 they must do so
    # before the large sum over rows.
    return (teacher * (teacher.log() - student.log())).sum(dim).sum() / len(student)
