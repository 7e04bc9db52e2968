"""Gaussian heads: nearest class mean, streaming LDA, LDA on random Fourier features, and LDA of least error.

Letters: n clips, C classes, P features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar, Literal

import torch
from torch import Tensor

from avcil.train.config import require_positive, require_weight
from avcil.train.methods.method import Method
from avcil.train.methods.statistics.discriminant import LeastError, shrunk_discriminant
from avcil.train.methods.statistics.features import Features, Fusion, blocks
from avcil.train.methods.statistics.head import StatisticsHead, by_settings, prepare
from avcil.train.methods.statistics.moments import Moments

MEDIAN_CLIPS = 1000  # whose distances give the width of a kernel


@dataclass(frozen=True)
class NcmSettings:
    """Nearest class mean on standardised features; nothing to choose but these."""

    features: Features = "mean-std"
    fusion: Fusion = "joint"


@dataclass(frozen=True)
class SldaSettings:
    """Streaming LDA (Hayes and Kanan, CVPR-W 2020).

    `shrinkage`: `oas` (Chen et al. 2010), `least-error` (see `discriminant.LeastError`; it may also shrink
    the class means, `shrink_means`), or `fixed` at `rho`, with the paper's 1e-4. `squash` k > 0 takes
    tanh(k x) of standardised features, which tames outliers.
    """

    features: Features = "mean-std"
    fusion: Fusion = "joint"
    shrinkage: Literal["oas", "least-error", "fixed"] = "oas"
    rho: float = 1e-4
    shrink_means: bool = False
    squash: float = 0.0

    def __post_init__(self) -> None:
        require_weight("method.rho", self.rho)
        require_weight("method.squash", self.squash)


@dataclass(frozen=True)
class KldaSettings:
    """Kernel LDA by random Fourier features of an RBF kernel (Momeni et al. 2025), shrunk by OAS.

    `width` times the median distance between clips of the first step is the kernel's width.
    """

    features: Features = "mean-std"
    fusion: Fusion = "joint"
    dimensions: int = 2000
    width: float = 1.0

    def __post_init__(self) -> None:
        require_positive("method.dimensions", self.dimensions)
        require_positive("method.width", self.width)


@dataclass(frozen=True)
class GaussianHead(StatisticsHead):
    """Classes are Gaussians around their means with one covariance for all of them, a stream."""

    log_probabilities: ClassVar[bool] = True
    needs_scatter: ClassVar[bool] = True

    def with_clips(self, streams: list[Tensor], labels: Tensor, classes: int) -> dict[str, Tensor]:
        """All that is kept, with clips in the moments of what streams are mapped to."""
        kept = dict(self.kept)
        for *block, some in blocks([*streams, labels]):
            for index, x in enumerate(self.mapped(block)):
                kept |= self.added(kept, f"{index}", x, some, classes)
        return kept

    def added(
        self, kept: Mapping[str, Tensor], name: str, x: Tensor, labels: Tensor, classes: int
    ) -> dict[str, Tensor]:
        """The moments that are kept as `name`, with clips x [n, P] in them."""
        before = (
            Moments.restored(kept, name)
            if f"{name}.count" in kept
            else Moments.empty(x.shape[1], x.device, scatter=self.needs_scatter)
        )
        return before.added(x, labels, classes).named(name)

    def moments(self) -> list[Moments]:
        """Of every stream."""
        count = sum(name.endswith(".count") for name in self.kept)
        return [Moments.restored(self.kept, f"{index}") for index in range(count)]

    def solved(self, streams: list[Tensor], labels: Tensor, classes: int) -> dict[str, Tensor]:
        """All that is kept, with the discriminants."""
        return dict(self.kept) | _named(self.linear(self.moments()))

    def linear(self, moments: list[Moments]) -> list[tuple[Tensor, Tensor]]:
        """Weight [C, P] and bias [C] of every stream; here shrunk by OAS."""
        return [shrunk_discriminant(one, None) for one in moments]


@dataclass(frozen=True)
class NearestClassMean(GaussianHead):
    """The nearest class mean: unit covariance."""

    log_probabilities: ClassVar[bool] = False
    needs_scatter: ClassVar[bool] = False

    def linear(self, moments: list[Moments]) -> list[tuple[Tensor, Tensor]]:
        """Minus half the squared distance to m_c, up to |x|^2: x m_c - |m_c|^2 / 2."""
        return [(one.mean, -one.mean.square().sum(dim=1) / 2) for one in moments]


@dataclass(frozen=True)
class StreamingLda(GaussianHead):
    """Streaming LDA as its settings have it."""

    def mapped(self, streams: list[Tensor]) -> list[Tensor]:
        """The streams, squashed where that is asked for."""
        squash = self.settings.squash
        return [torch.tanh(squash * x) for x in streams] if squash else streams

    def linear(self, moments: list[Moments]) -> list[tuple[Tensor, Tensor]]:
        """Weight [C, P] and bias [C] of every stream."""
        if self.settings.shrinkage == "least-error":
            return LeastError(moments, self.settings.shrink_means).chosen[0]
        fixed = self.settings.rho if self.settings.shrinkage == "fixed" else None
        return [shrunk_discriminant(one, fixed) for one in moments]


@dataclass(frozen=True)
class KernelLda(GaussianHead):
    """LDA on cos(x W + b) sqrt(2 / M), whose products approximate an RBF kernel (Rahimi, Recht 2007)."""

    def begun(self, streams: list[Tensor], labels: Tensor, classes: int, seed: int) -> StatisticsHead:
        """With the kernel's width of every stream, too."""
        head = super().begun(streams, labels, classes, seed)
        widths = {
            f"{index}.width": self.settings.width * _median_distance(x[:MEDIAN_CLIPS])
            for index, x in enumerate(head.standardised(streams))
        }
        return replace(head, kept=dict(head.kept) | widths)

    def mapped(self, streams: list[Tensor]) -> list[Tensor]:
        """Random Fourier features [n, M] of every stream."""
        seed, size = int(self.kept["seed"]), self.settings.dimensions
        return [
            _fourier(x / self.kept[f"{index}.width"], size, seed + index) for index, x in enumerate(streams)
        ]


def _median_distance(x: Tensor) -> Tensor:
    if len(x) < 2:
        return x.new_tensor(math.sqrt(x.shape[1]))
    return torch.nn.functional.pdist(x).median().clamp(min=1e-12)


def _fourier(x: Tensor, size: int, seed: int) -> Tensor:
    directions, phases = _frequencies(x.shape[1], size, seed)
    angles = x @ directions.to(x.device) + phases.to(x.device)
    return math.sqrt(2 / size) * angles.cos()


@lru_cache(maxsize=4)
def _frequencies(width: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(width, size, dtype=torch.float64, generator=generator)
    return directions, 2 * math.pi * torch.rand(size, dtype=torch.float64, generator=generator)


def _named(maps: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    named: dict[str, Tensor] = {}
    for k, (weight, bias) in enumerate(maps):
        named |= {f"{k}.weight": weight, f"{k}.bias": bias}
    return named


NCM = Method(
    name="ncm",
    title="NCM",
    prepare=prepare,
    settings=NcmSettings,
    head=NearestClassMean,
    by_settings=by_settings,
)
SLDA = Method(
    name="slda",
    title="SLDA",
    prepare=prepare,
    settings=SldaSettings,
    head=StreamingLda,
    by_settings=by_settings,
)
KLDA = Method(
    name="klda",
    title="KLDA",
    prepare=prepare,
    settings=KldaSettings,
    head=KernelLda,
    by_settings=by_settings,
)
