"""LwF (Li and Hoiem, ECCV 2016): new columns learn, old ones are distilled on the new clips; no memory.

The published program stops with a name error; with that one name put right it computes what stands here.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from avcil.train.methods import losses
from avcil.train.methods.contract import Batch, Method, Objective, StepContext, cross_entropy_objective
from avcil.train.network.inference import logits
from avcil.train.network.model import NetworkOutput


def prepare(context: StepContext) -> Objective:
    """Cross-entropy at step 0; afterwards over the new columns only, and task-wise distillation."""
    if context.teacher is None:
        return cross_entropy_objective(context)
    teacher, old = logits(context.teacher, context.current.tokens), context.old_classes
    tasks, temperature = context.tasks[: context.step], context.config.lwf.distillation_temperature

    def objective(output: NetworkOutput, batch: Batch) -> dict[str, Tensor]:
        kd = losses.task_distillation(output.logits, teacher[batch.current], tasks, temperature)
        return {
            "cross_entropy": F.cross_entropy(output.logits[:, old:], batch.labels - old),
            "distillation": batch.against_teacher(kd),
        }

    return objective


LWF = Method(name="lwf", prepare=prepare)
