"""A method of one's own: learn features once, then class means of every clip; no memory, no forgetting.

    avcil train cache --out run --steps 4 --method examples.nearest_class_mean:NEAREST_CLASS_MEAN

At step 0 the network learns its classes. From then on it is frozen, so a class mean that was once computed
stays right: nothing of an old class has to be kept but that one vector. `docs/methods.md` explains the parts.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from avcil.train.methods.contract import Method, Objective, Readout, StepContext, cross_entropy_objective
from avcil.train.network.model import NetworkOutput


def prepare(context: StepContext) -> Objective | None:
    """Cross-entropy at step 0; later nothing is fitted."""
    return cross_entropy_objective(context) if context.step == 0 else None


def keep(context: StepContext) -> dict[str, Tensor]:
    """The mean unit feature [C, D] of every class: those of the step before and the new ones."""
    features, labels = context.unit_features(), context.labels
    new = [features[labels == column].mean(dim=0) for column in context.tasks[context.step]]
    return {"means": torch.cat([*context.kept.values(), torch.stack(new)])}


def scores(output: NetworkOutput, kept: Mapping[str, Tensor]) -> Tensor:
    """Cosine [B, C] between a clip's feature and every class mean."""
    return F.normalize(output.fused, dim=1) @ F.normalize(kept["means"], dim=1).T


NEAREST_CLASS_MEAN = Method(name="nearest-class-mean", prepare=prepare, readout=Readout(scores, keep))
