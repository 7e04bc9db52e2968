"""A method of one's own: learn features once, then class means of every clip; no memory, no forgetting.

    avcil train cache --out run --steps 4 --method examples.nearest_class_mean:NEAREST_CLASS_MEAN

At step 0 the network learns its classes. From then on it is frozen, so a class mean that was once computed
stays right: nothing of an old class has to be kept but that one vector. `docs/methods.md` explains the parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from avcil.train.config import require_weight
from avcil.train.methods.head import Head
from avcil.train.methods.method import Method, Objective, StepContext, cross_entropy_objective
from avcil.train.network.inference import unit_features
from avcil.train.network.model import AudioVisualNetwork
from avcil.train.tokens.batches import StepTokens


@dataclass(frozen=True)
class Settings:
    """`[method]` of a protocol file, beside the method's name."""

    shrinkage: float = 0.0  # how far every class mean is drawn towards the mean of all

    def __post_init__(self) -> None:
        require_weight("method.shrinkage", self.shrinkage)


@dataclass(frozen=True)
class ClassMeans(Head):
    """The mean unit feature [C, D] of every class; saved with the step."""

    means: Tensor | None = None

    def grow(self, context: StepContext) -> ClassMeans:
        """The means of the step before and those of the new classes."""
        settings: Settings = context.settings
        features, labels = context.unit_features(), context.labels
        new = torch.stack([features[labels == c].mean(dim=0) for c in context.tasks[context.step]])
        new = new + settings.shrinkage * (features.mean(dim=0) - new)
        return ClassMeans(new if self.means is None else torch.cat([self.means, new]))

    def scores(self, network: AudioVisualNetwork, tokens: StepTokens) -> Tensor:
        """Cosine [n, C] between a clip's feature and every class mean."""
        assert self.means is not None
        return unit_features(network, tokens) @ F.normalize(self.means, dim=1).T


def prepare(context: StepContext) -> Objective | None:
    """Cross-entropy at step 0; later nothing is fitted."""
    return cross_entropy_objective(context) if context.step == 0 else None


NEAREST_CLASS_MEAN = Method(
    name="nearest-class-mean",
    title="nearest class mean",
    prepare=prepare,
    settings=Settings,
    head=ClassMeans,
)
