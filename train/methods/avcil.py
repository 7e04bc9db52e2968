"""AV-CIL (Pian et al., ICCV 2023): separated cross-entropy, task-wise distillation, D-AVSC and VAD.

The tokens and the old network are frozen, so the teacher's logits of every clip of the step and its
attention on the exemplars are constants of the step: they are computed once.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from avcil.train import losses
from avcil.train.config import AvcilConfig, Fidelity
from avcil.train.methods.contract import Batch, Method, Objective, StepContext, cross_entropy_objective
from avcil.train.model import NetworkOutput
from avcil.train.predict import attention_maps, predict_logits

CLASS_WEIGHT: dict[Fidelity, float] = {"released": 1.0, "corrected": 0.07}


def prepare(context: StepContext) -> Objective:
    """Cross-entropy at step 0; afterwards the whole objective (AV-CIL, section 3.5)."""
    if context.teacher is None:
        return cross_entropy_objective(context)
    settings = context.config.avcil
    teacher_current = predict_logits(context.teacher, context.current.tokens, context.dtype)
    teacher_exemplars = predict_logits(context.teacher, context.exemplars.tokens, context.dtype)
    teacher_spatial, teacher_temporal = (
        attention_maps(context.teacher, context.exemplars.tokens, context.dtype)
        if settings.attention_term
        else (None, None)
    )

    def objective(output: NetworkOutput, batch: Batch) -> dict[str, Tensor]:
        n_current = len(batch.current)
        terms = {"cross_entropy": _cross_entropy(context, output.logits, batch)}
        if settings.distillation_term:
            terms["distillation"] = losses.task_distillation(
                output.logits,
                torch.cat([teacher_current[batch.current], teacher_exemplars[batch.exemplars]]),
                context.tasks[: context.step],
                settings.distillation_temperature,
            )
        terms |= _contrast(settings, context.config.fidelity, output, batch.labels)
        if teacher_spatial is not None and teacher_temporal is not None:
            assert output.attended is not None
            share = settings.lambda_attention
            terms["spatial"] = share * losses.spatial_attention_distillation(
                output.attended.spatial[n_current:], teacher_spatial[batch.exemplars]
            )
            terms["temporal"] = (1 - share) * losses.temporal_attention_distillation(
                output.attended.temporal[n_current:], teacher_temporal[batch.exemplars]
            )
        return terms

    return objective


def _cross_entropy(context: StepContext, logits: Tensor, batch: Batch) -> Tensor:
    joint = context.config.avcil.joint_cross_entropy_at_step_1 and context.config.fidelity == "released"
    if joint and context.step == 1:
        return F.cross_entropy(logits, batch.labels)
    return losses.separated_cross_entropy(logits, batch.labels, len(batch.current), context.old_classes)


def _contrast(
    settings: AvcilConfig, fidelity: Fidelity, output: NetworkOutput, labels: Tensor
) -> dict[str, Tensor]:
    assert output.audio is not None and output.visual is not None
    audio, visual = F.normalize(output.audio, dim=1), F.normalize(output.visual, dim=1)
    temperature = settings.contrastive_temperature
    terms: dict[str, Tensor] = {}
    if settings.instance_term:
        terms["instance"] = settings.lambda_instance * losses.instance_contrast(audio, visual, temperature)
    if settings.class_term:
        weight = CLASS_WEIGHT[fidelity] if settings.lambda_class is None else settings.lambda_class
        terms["class"] = weight * losses.class_contrast(
            audio, visual, labels, temperature, per_positive=fidelity == "corrected"
        )
    return terms


AVCIL = Method(name="avcil", prepare=prepare, modalities=("audio-visual",), replays=True)
