"""Exemplars chosen by herding, classes by the nearest mean of exemplars (iCaRL, Rebuffi et al., CVPR 2017).

The published program and the paper differ in two ways (`fidelity`): it may pick a clip twice, and a class
with fewer than m clips is padded with zero vectors that enter its mean.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from avcil.train.methods.contract import Readout, StepContext
from avcil.train.methods.herding import herd
from avcil.train.network.model import NetworkOutput


def herd_exemplars(context: StepContext) -> list[Tensor]:
    """Rows of `context.labels` that each class keeps, chosen with the student as it is."""
    return _herd(context, context.unit_features())


def class_means(context: StepContext) -> dict[str, Tensor]:
    """The mean [C, D] of every class's exemplars as the student sees them; not scaled to unit length."""
    features = context.unit_features()
    m = context.exemplars_per_class
    means = [
        features[rows].sum(dim=0) / (m if context.released else len(rows))
        for rows in _herd(context, features)
    ]
    return {"class_means": torch.stack(means)}


def nearness(output: NetworkOutput, kept: Mapping[str, Tensor]) -> Tensor:
    """Scores [B, C]: minus the Euclidean distance of the unit feature to every class mean."""
    exact = "donot_use_mm_for_euclid_dist"
    return -torch.cdist(F.normalize(output.fused, dim=1), kept["class_means"], compute_mode=exact)


def _herd(context: StepContext, features: Tensor) -> list[Tensor]:
    new, m = context.tasks[context.step], context.exemplars_per_class
    return herd(features, context.labels, context.classes, new, m, repeats=context.released)


NEAREST_MEAN = Readout(nearness, class_means, needs_exemplars=True)
