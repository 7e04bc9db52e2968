"""iCaRL (Rebuffi et al., CVPR 2017): cross-entropy and one distilled sigmoid per old class, replay joined.

The released program applies the student's sigmoid twice (`fidelity`).
"""

from __future__ import annotations

from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor

from avcil.train.methods import losses
from avcil.train.methods.method import Batch, Method, Objective, StepContext, cross_entropy_objective
from avcil.train.methods.nearest_mean import NearestMean, herd_exemplars
from avcil.train.network.inference import logits
from avcil.train.network.model import NetworkOutput


def prepare(context: StepContext) -> Objective:
    """Cross-entropy over all columns; after step 0 with distillation of the old ones."""
    if context.teacher is None:
        return cross_entropy_objective(context)
    teacher = logits(context.teacher, context.current.tokens)
    old, released = context.old_classes, context.released

    def objective(output: NetworkOutput, batch: Batch) -> dict[str, Tensor]:
        kd = losses.binary_distillation(
            output.logits[:, :old], teacher[batch.current], double_sigmoid=released
        )
        return {
            "cross_entropy": F.cross_entropy(output.logits, batch.labels),
            # With two sigmoids the term is not smallest at the teacher's own logits: its gradient is real.
            "distillation": kd if released else batch.against_teacher(kd),
        }

    return objective


ICARL_FC = Method(name="icarl-fc", title="iCaRL-FC", prepare=prepare, replay="joined", choose=herd_exemplars)
ICARL_NME = replace(ICARL_FC, name="icarl-nme", title="iCaRL-NME", head=NearestMean)
