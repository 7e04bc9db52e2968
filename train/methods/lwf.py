"""LwF (Li and Hoiem, ECCV 2016): new columns learn, old ones are distilled on the new clips; no memory.

The published program stops with a name error; with that one name put right it computes what stands here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from avcil.train.config import require_positive
from avcil.train.methods import losses
from avcil.train.methods.method import Batch, Method, Objective, StepContext, cross_entropy_objective
from avcil.train.network.inference import logits
from avcil.train.network.model import NetworkOutput


@dataclass(frozen=True)
class LwfSettings:
    """Temperature as in the paper."""

    distillation_temperature: float = 2.0

    def __post_init__(self) -> None:
        require_positive("method.distillation_temperature", self.distillation_temperature)


def prepare(context: StepContext) -> Objective:
    """Cross-entropy at step 0; afterwards over the new columns only, and task-wise distillation."""
    if context.teacher is None:
        return cross_entropy_objective(context)
    teacher, old = logits(context.teacher, context.current.tokens), context.old_classes
    settings: LwfSettings = context.settings
    tasks, temperature = context.tasks[: context.step], settings.distillation_temperature

    def objective(output: NetworkOutput, batch: Batch) -> dict[str, Tensor]:
        kd = losses.task_distillation(output.logits, teacher[batch.current], tasks, temperature)
        return {
            "cross_entropy": F.cross_entropy(output.logits[:, old:], batch.labels - old),
            "distillation": batch.against_teacher(kd),
        }

    return objective


LWF = Method(name="lwf", title="LwF", prepare=prepare, settings=LwfSettings)
