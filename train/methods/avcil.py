"""AV-CIL (Pian et al., ICCV 2023): separated cross-entropy, task-wise distillation, D-AVSC and VAD.

The tokens and the old network are frozen, so the teacher's logits of every clip of the step and its
attention on the exemplars are constants of the step: they are computed once. Every term has a switch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from avcil.train.config import Fidelity, require, require_positive, require_weight
from avcil.train.methods import losses
from avcil.train.methods.method import (
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


@dataclass(frozen=True)
class AvcilSettings:
    """Weights and switches of the objective (AV-CIL, sections 3.3 to 3.5).

    `lambda_class = None` takes the value that belongs to the fidelity: 1 for `released`, whose class-aware
    term is divided by the batch size, 0.07 for `corrected`, where it is divided by the positives (Eq. 7).
    Without `separated_cross_entropy` all clips compete over all columns. For
    `joint_cross_entropy_at_step_1` see `SsilSettings`.
    """

    lambda_instance: float = 0.5
    lambda_class: float | None = None
    lambda_attention: float = 0.5
    contrastive_temperature: float = 0.05
    distillation_temperature: float = 2.0
    instance_term: bool = True
    class_term: bool = True
    spatial_term: bool = True
    temporal_term: bool = True
    distillation_term: bool = True
    separated_cross_entropy: bool = True
    joint_cross_entropy_at_step_1: bool = False

    def __post_init__(self) -> None:
        for name in ("contrastive_temperature", "distillation_temperature"):
            require_positive(f"method.{name}", getattr(self, name))
        require_weight("method.lambda_instance", self.lambda_instance)
        require_weight("method.lambda_class", self.lambda_class or 0.0)
        require(
            0 <= self.lambda_attention <= 1,
            f"method.lambda_attention = {self.lambda_attention}; it shares the weight between the spatial "
            "and the temporal map and must lie between 0 and 1",
        )


def prepare(context: StepContext) -> Objective | AttentionObjective:
    """Cross-entropy at step 0; afterwards the whole objective (AV-CIL, section 3.5)."""
    if context.teacher is None:
        return cross_entropy_objective(context)
    settings: AvcilSettings = context.settings
    terms: dict[str, Term] = {"cross_entropy": _cross_entropy(context)}
    if settings.distillation_term:
        terms["distillation"] = distillation(context, settings.distillation_temperature)
    if settings.instance_term:
        terms["instance"] = _instance(settings)
    if settings.class_term:
        terms["class"] = _class(settings, context.config.fidelity)
    attends = context.student.attends  # averaged tokens leave nothing to distil
    if attends and settings.spatial_term:
        terms["spatial"] = _spatial(settings)
    if attends and settings.temporal_term:
        terms["temporal"] = _temporal(settings)

    def objective(output: NetworkOutput, batch: Batch) -> dict[str, Tensor]:
        return {name: term(output, batch) for name, term in terms.items()}

    if "spatial" in terms or "temporal" in terms:
        return AttentionObjective(objective, teacher_attention(context.teacher, context.exemplars.tokens))
    return objective


def _cross_entropy(context: StepContext) -> Term:
    settings: AvcilSettings = context.settings
    old = context.old_classes
    published_joint = context.released and settings.joint_cross_entropy_at_step_1 and context.step == 1

    def joint(output: NetworkOutput, batch: Batch) -> Tensor:
        return F.cross_entropy(output.logits, batch.labels)

    def separated(output: NetworkOutput, batch: Batch) -> Tensor:
        return losses.separated_cross_entropy(output.logits, batch.labels, len(batch.current), old)

    return joint if published_joint or not settings.separated_cross_entropy else separated


def _instance(settings: AvcilSettings) -> Term:
    def term(output: NetworkOutput, batch: Batch) -> Tensor:
        audio, visual = _unit_features(output)
        loss = losses.instance_contrast(audio, visual, settings.contrastive_temperature)
        return settings.lambda_instance * loss

    return term


def _class(settings: AvcilSettings, fidelity: Fidelity) -> Term:
    weight = CLASS_WEIGHT[fidelity] if settings.lambda_class is None else settings.lambda_class
    per_positive = fidelity == "corrected"

    def term(output: NetworkOutput, batch: Batch) -> Tensor:
        audio, visual = _unit_features(output)
        temperature = settings.contrastive_temperature
        return weight * losses.class_contrast(
            audio, visual, batch.labels, temperature, per_positive=per_positive
        )

    return term


def _spatial(settings: AvcilSettings) -> Term:
    def term(output: NetworkOutput, batch: Batch) -> Tensor:
        assert output.attended is not None and output.attended.spatial_divergence is not None
        return settings.lambda_attention * batch.against_teacher(output.attended.spatial_divergence.mean())

    return term


def _temporal(settings: AvcilSettings) -> Term:
    def term(output: NetworkOutput, batch: Batch) -> Tensor:
        assert output.attended is not None and output.attended.temporal_divergence is not None
        loss = output.attended.temporal_divergence.mean()
        return (1 - settings.lambda_attention) * batch.against_teacher(loss)

    return term


def _unit_features(output: NetworkOutput) -> tuple[Tensor, Tensor]:
    assert output.audio is not None and output.visual is not None
    return F.normalize(output.audio, dim=1), F.normalize(output.visual, dim=1)


AVCIL = Method(
    name="avcil",
    title="AV-CIL",
    prepare=prepare,
    settings=AvcilSettings,
    modalities=("audio-visual",),
    replay="beside",
)
