"""FeCAM (Goswami et al., NeurIPS 2023): the Mahalanobis distance to class means, a covariance a class.

Letters: n clips, C classes, P features of a stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from avcil.train.config import require, require_positive, require_weight
from avcil.train.methods.method import Method
from avcil.train.methods.statistics.features import Features, Fusion, blocks
from avcil.train.methods.statistics.gaussian import GaussianHead
from avcil.train.methods.statistics.head import by_settings, prepare
from avcil.train.methods.statistics.moments import Moments

JITTER = 1e-8  # of the variance, so that exactly dependent features do not stop the decomposition


@dataclass(frozen=True)
class FecamSettings:
    """Defaults are the paper's for many clips a class (section 4); for few it has alpha1 = alpha2 = 100.

    `power` is that of Tukey's transform, 1 leaves features as they are. `covariance`: each class's own, which
    keeps 8 C P^2 bytes, or one for all, 8 P^2. `unit` scales clips and class means to unit length before they
    are compared; where one class makes up most of the first step, standardised features leave its mean no
    direction: set `unit = false`.
    """

    features: Features = "mean-std"
    fusion: Fusion = "joint"
    covariance: Literal["class", "shared"] = "class"
    power: float = 0.5
    unit: bool = True
    alpha1: float = 1.0
    alpha2: float = 1.0

    def __post_init__(self) -> None:
        require_positive("method.power", self.power)
        require_weight("method.alpha1", self.alpha1)
        require_weight("method.alpha2", self.alpha2)
        require(
            self.alpha2 <= self.alpha1,
            f"method.alpha2 = {self.alpha2}; it must not exceed method.alpha1 = {self.alpha1}, or a "
            "covariance could have negative variances",
        )


@dataclass(frozen=True)
class Fecam(GaussianHead):
    """Minus the squared Mahalanobis distance of the clip's features to each class mean.

    Features are transformed, covariances shrunk and normalised to correlations, so that the distances to
    classes of different spread compare. Beside the sums, scoring holds as many bytes again: the covariances
    decomposed.
    """

    log_probabilities: ClassVar[bool] = False

    def mapped(self, streams: list[Tensor]) -> list[Tensor]:
        """The streams under Tukey's transform, the sign kept, since standardised features have both."""
        return [x.sign() * x.abs().pow(self.settings.power) for x in streams]

    def with_clips(self, streams: list[Tensor], labels: Tensor, classes: int) -> dict[str, Tensor]:
        """All that is kept, with clips in the moments, those of every class apart or of all together."""
        if self.settings.covariance == "shared":
            return super().with_clips(streams, labels, classes)
        kept = dict(self.kept)
        for column in torch.unique(labels).tolist():
            rows = labels == column
            for *block, own in blocks([*(x[rows] for x in streams), labels[rows] - column]):
                for index, x in enumerate(self.mapped(block)):
                    kept |= self.added(kept, f"{index}.{column}", x, own, 1)
        return kept

    def solved(self, streams: list[Tensor], labels: Tensor, classes: int) -> dict[str, Tensor]:
        """All that is kept: distances follow from the sums when they are asked for."""
        return dict(self.kept) | {"classes": torch.tensor(classes)}

    @cached_property
    def _gaussians(self) -> list[list[tuple[Tensor, Tensor]]]:
        """Of every stream, of every class or of all: means [C, P] and the metric's factor [P, P]."""
        streams = sum(name.endswith(".shift") for name in self.kept)
        columns = range(int(self.kept["classes"]))
        shared = self.settings.covariance == "shared"
        return [
            [
                self._gaussian(Moments.restored(self.kept, name))
                for name in ([f"{index}"] if shared else [f"{index}.{column}" for column in columns])
            ]
            for index in range(streams)
        ]

    def _gaussian(self, moments: Moments) -> tuple[Tensor, Tensor]:
        """Means [C, P], scaled, and the factor of the shrunk covariance as a correlation (section 3.3)."""
        covariance, width = moments.covariance, moments.mean.shape[1]
        identity = torch.eye(width, dtype=covariance.dtype, device=covariance.device)
        variance = covariance.trace() / width
        across = (covariance.sum() - covariance.trace()) / max(1, width * (width - 1))
        shrunk = covariance + (self.settings.alpha1 + JITTER) * variance * identity
        shrunk = shrunk + self.settings.alpha2 * across * (1 - identity)
        shrunk = torch.where(variance > 1e-12, shrunk, identity)
        deviation = shrunk.diagonal().sqrt()
        return self._scaled(moments.mean), torch.linalg.cholesky(shrunk / deviation / deviation[:, None])

    def _scaled(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=1) if self.settings.unit else x

    def of_mapped(self, inputs: list[Tensor]) -> Tensor:
        """Scores [n, C], those of the streams added."""
        return torch.stack(
            [
                torch.cat([_closeness(self._scaled(x), *one) for one in gaussians], dim=1)
                for x, gaussians in zip(inputs, self._gaussians, strict=True)
            ]
        ).sum(dim=0)


def _closeness(x: Tensor, means: Tensor, factor: Tensor) -> Tensor:
    """Minus the squared distances [n, C] of x [n, P] to means [C, P] in the metric of one factor [P, P]."""
    x, means = (torch.linalg.solve_triangular(factor, some.T, upper=False) for some in (x, means))
    return -torch.stack([(x - mean[:, None]).square().sum(dim=0) for mean in means.T], dim=1)


FECAM = Method(
    name="fecam",
    title="FeCAM",
    prepare=prepare,
    settings=FecamSettings,
    head=Fecam,
    by_settings=by_settings,
)
