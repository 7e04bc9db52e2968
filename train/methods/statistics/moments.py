"""Class moments: count, mean and scatter within classes, exact in float64 however clips arrive.

Letters: n clips, C classes, P features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class Moments:
    """What Gaussian heads need of the clips so far.

    Attributes:
        count: [C] clips of every class, float64.
        mean: [C, P] their means.
        scatter: [P, P] the sum over all clips of (x - mean of its class) (x - mean of its class)^T; [0, 0]
            where nobody asks for it.
    """

    count: Tensor
    mean: Tensor
    scatter: Tensor

    @classmethod
    def empty(cls, width: int, device: torch.device, *, scatter: bool = True) -> Moments:
        """Of no clip and no class."""
        size = width if scatter else 0
        zeros = torch.zeros(size, size, dtype=torch.float64, device=device)
        return cls(zeros.new_zeros(0), zeros.new_zeros(0, width), zeros)

    @classmethod
    def restored(cls, kept: Mapping[str, Tensor], prefix: str) -> Moments:
        """Those that `named` gave."""
        return cls(**{one.name: kept[f"{prefix}.{one.name}"] for one in fields(cls)})

    def named(self, prefix: str) -> dict[str, Tensor]:
        """As tensors by name."""
        return {f"{prefix}.{one.name}": getattr(self, one.name) for one in fields(self)}

    def added(self, x: Tensor, labels: Tensor, classes: int) -> Moments:
        """With the clips x [n, P] of columns `labels` [n] among `classes` columns.

        The moments of two sets are merged as Chan, Golub and LeVeque (1983) do: deviations are taken from the
        means of the block, and the means' own deviation enters as one more row a class. Nothing cancels, so
        any order and any cut into blocks gives the same sums to rounding.
        """
        x = x.double()
        count = torch.bincount(labels, minlength=classes).double()
        there = count.clamp(min=1)[:, None]
        mean = x.new_zeros(classes, x.shape[1]).index_add_(0, labels, x) / there
        centred = x - mean[labels]
        rest = x.new_zeros(classes, x.shape[1]).index_add_(0, labels, centred) / there
        centred, mean = centred - rest[labels], mean + rest  # a second pass takes the mean's rounding away
        grown = classes - len(self.count)
        old_count = torch.cat([self.count, self.count.new_zeros(grown)])
        old_mean = torch.cat([self.mean, mean[len(self.count) :]])
        total = (old_count + count).clamp(min=1)
        moved = mean - old_mean
        between = moved * (old_count * count / total).sqrt()[:, None]
        scatter = self.scatter
        if len(scatter):
            scatter = scatter + centred.T @ centred + between.T @ between
        return Moments(old_count + count, old_mean + moved * (count / total)[:, None], scatter)

    @property
    def degrees(self) -> int:
        """Degrees of freedom of the scatter, clips minus classes that have one."""
        return int(self.count.sum()) - int((self.count > 0).sum())

    @property
    def covariance(self) -> Tensor:
        """The pooled covariance [P, P] within classes."""
        return self.scatter / max(1, self.degrees)
