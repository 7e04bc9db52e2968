"""SS-IL (Ahn et al., ICCV 2021): separated cross-entropy and task-wise distillation, exemplars beside.

AV-CIL adds its terms to these, so both functions here take their settings as arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from avcil.train.config import require_positive
from avcil.train.methods import losses
from avcil.train.methods.method import Batch, Method, Objective, StepContext, cross_entropy_objective
from avcil.train.network.inference import logits
from avcil.train.network.model import NetworkOutput


@dataclass(frozen=True)
class SsilSettings:
    """Temperature as AV-CIL runs it.

    `joint_cross_entropy_at_step_1` is what the published program does on AVE with four classes a step and
    nowhere else; it holds for fidelity `released` only.
    """

    distillation_temperature: float = 2.0
    joint_cross_entropy_at_step_1: bool = False

    def __post_init__(self) -> None:
        require_positive("method.distillation_temperature", self.distillation_temperature)


def prepare(context: StepContext) -> Objective:
    """Cross-entropy at step 0; afterwards separated, with task-wise distillation."""
    if context.teacher is None:
        return cross_entropy_objective(context)
    settings: SsilSettings = context.settings
    old = context.old_classes
    distil = distillation(context, settings.distillation_temperature)
    joint = context.released and settings.joint_cross_entropy_at_step_1 and context.step == 1

    def objective(output: NetworkOutput, batch: Batch) -> dict[str, Tensor]:
        if joint:
            # The published program has by then counted the current labels from 0: they are the columns of
            # the first step's classes, and the new clips are trained as those. No other case does this.
            n_current = len(batch.current)
            labels = torch.cat([batch.labels[:n_current] - old, batch.labels[n_current:]])
            cross_entropy = F.cross_entropy(output.logits, labels)
        else:
            cross_entropy = losses.separated_cross_entropy(
                output.logits, batch.labels, len(batch.current), old
            )
        return {"cross_entropy": cross_entropy, "distillation": distil(output, batch)}

    return objective


def distillation(context: StepContext, temperature: float) -> Callable[[NetworkOutput, Batch], Tensor]:
    """Task-wise distillation on all clips of a batch; the teacher's logits are computed once."""
    assert context.teacher is not None
    current = logits(context.teacher, context.current.tokens)
    exemplars = logits(context.teacher, context.exemplars.tokens)
    tasks = context.tasks[: context.step]

    def term(output: NetworkOutput, batch: Batch) -> Tensor:
        teacher = torch.cat([current[batch.current], exemplars[batch.exemplars]])
        return batch.against_teacher(losses.task_distillation(output.logits, teacher, tasks, temperature))

    return term


SSIL = Method(name="ss-il", title="SS-IL", prepare=prepare, settings=SsilSettings, replay="beside")
