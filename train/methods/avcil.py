"""AV-CIL (Pian et al., ICCV 2023): separated cross-entropy, task-wise distillation, D-AVSC and VAD.

The tokens and the old network are frozen, so the teacher's logits of every clip of the step and its
attention on the exemplars are constants of the step: they are computed once. Every term has a switch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from avcil.train.config import AvcilConfig, Fidelity
from avcil.train.methods import losses
from avcil.train.methods.contract import (
    AttentionObjective,
    Batch,
    Method,
    Objective,
    StepContext,
    cross_entropy_objective,
)
from avcil.train.methods.ssil import distillation
from avcil.train.network.inference import teacher_attention
from avcil.train.network.model import NetworkOutput

CLASS_WEIGHT: dict[Fidelity, float] = {"released": 1.0, "corrected": 0.07}

Term = Callable[[NetworkOutput, Batch], Tensor]


def prepare(context: StepContext) -> Objective | AttentionObjective:
    """Cross-entropy at step 0; afterwards the whole objective (AV-CIL, section 3.5)."""
    if context.teacher is None:
        return cross_entropy_objective(context)
    settings = context.config.avcil
    terms: dict[str, Term] = {"cross_entropy": _cross_entropy(context)}
    if settings.distillation_term:
        terms["distillation"] = distillation(context, settings.distillation_temperature)
    if settings.instance_term:
        terms["instance"] = _instance(settings)
    if settings.class_term:
        terms["class"] = _class(settings, context.config.fidelity)
    looks = context.student.looks  # averaged tokens leave nothing to distil
    if looks and settings.spatial_term:
        terms["spatial"] = _spatial(settings)
    if looks and settings.temporal_term:
        terms["temporal"] = _temporal(settings)

    def objective(output: NetworkOutput, batch: Batch) -> dict[str, Tensor]:
        return {name: term(output, batch) for name, term in terms.items()}

    if "spatial" in terms or "temporal" in terms:
        return AttentionObjective(objective, teacher_attention(context.teacher, context.exemplars.tokens))
    return objective


def _cross_entropy(context: StepContext) -> Term:
    settings, old = context.config.avcil, context.old_classes
    published_joint = context.released and settings.joint_cross_entropy_at_step_1 and context.step == 1

    def joint(output: NetworkOutput, batch: Batch) -> Tensor:
        return F.cross_entropy(output.logits, batch.labels)

    def separated(output: NetworkOutput, batch: Batch) -> Tensor:
        return losses.separated_cross_entropy(output.logits, batch.labels, len(batch.current), old)

    return joint if published_joint or not settings.separated_cross_entropy else separated


def _instance(settings: AvcilConfig) -> Term:
    def term(output: NetworkOutput, batch: Batch) -> Tensor:
        audio, visual = _unit_features(output)
        loss = losses.instance_contrast(audio, visual, settings.contrastive_temperature)
        return settings.lambda_instance * loss

    return term


def _class(settings: AvcilConfig, fidelity: Fidelity) -> Term:
    weight = CLASS_WEIGHT[fidelity] if settings.lambda_class is None else settings.lambda_class
    per_positive = fidelity == "corrected"

    def term(output: NetworkOutput, batch: Batch) -> Tensor:
        audio, visual = _unit_features(output)
        temperature = settings.contrastive_temperature
        return weight * losses.class_contrast(
            audio, visual, batch.labels, temperature, per_positive=per_positive
        )

    return term


def _spatial(settings: AvcilConfig) -> Term:
    def term(output: NetworkOutput, batch: Batch) -> Tensor:
        assert output.attended is not None and output.attended.spatial_divergence is not None
        return settings.lambda_attention * batch.against_teacher(output.attended.spatial_divergence.mean())

    return term


def _temporal(settings: AvcilConfig) -> Term:
    def term(output: NetworkOutput, batch: Batch) -> Tensor:
        assert output.attended is not None and output.attended.temporal_divergence is not None
        loss = output.attended.temporal_divergence.mean()
        return (1 - settings.lambda_attention) * batch.against_teacher(loss)

    return term


def _unit_features(output: NetworkOutput) -> tuple[Tensor, Tensor]:
    assert output.audio is not None and output.visual is not None
    return F.normalize(output.audio, dim=1), F.normalize(output.visual, dim=1)


AVCIL = Method(name="avcil", prepare=prepare, modalities=("audio-visual",), replay="beside")
