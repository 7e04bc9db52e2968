"""Exemplars chosen by herding, classes by the nearest mean of exemplars (iCaRL, Rebuffi et al., CVPR 2017).

The published program and the paper differ in two ways (`fidelity`): it may pick a clip twice, and a class
with fewer than m clips is padded with zero vectors that enter its mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from avcil.train.methods.exemplars import herd
from avcil.train.methods.head import Head
from avcil.train.methods.method import StepContext
from avcil.train.network.inference import predict
from avcil.train.network.model import AudioVisualNetwork
from avcil.train.tokens.batches import StepTokens


@dataclass(frozen=True)
class NearestMean(Head):
    """The nearest mean of exemplars.

    Attributes:
        class_means: [C, D] the mean of every class's exemplars as the network sees them; not scaled to unit
            length.
    """

    needs_exemplars: ClassVar[bool] = True
    class_means: Tensor | None = None

    def grow(self, context: StepContext) -> NearestMean:
        """Means of the exemplars that would be kept now; those of the step before are not used."""
        features, m = context.unit_features(), context.exemplars_per_class
        means = [
            features[rows].sum(dim=0) / (m if context.released else len(rows))
            for rows in _herd(context, features)
        ]
        return NearestMean(torch.stack(means))

    def scores(self, network: AudioVisualNetwork, tokens: StepTokens) -> Tensor:
        """Minus the Euclidean distance of the unit feature to every class mean."""
        return predict(network, tokens, lambda output: self.nearness(output.fused))

    def nearness(self, features: Tensor) -> Tensor:
        """Scores [B, C] of fused features [B, D]."""
        assert self.class_means is not None
        exact = "donot_use_mm_for_euclid_dist"
        return -torch.cdist(F.normalize(features, dim=1), self.class_means, compute_mode=exact)


def herd_exemplars(context: StepContext) -> list[Tensor]:
    """Rows of `context.labels` that each class keeps, chosen with the student as it is."""
    return _herd(context, context.unit_features())


def _herd(context: StepContext, features: Tensor) -> list[Tensor]:
    new, m = context.tasks[context.step], context.exemplars_per_class
    return herd(features, context.labels, context.classes, new, m, repeats=context.released)
