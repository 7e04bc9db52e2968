"""Ridge regression on random features: its sums in float64, its solution, and the choice of its ridge.

Letters: n clips, C columns of targets, P features, M random features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

RIDGES = tuple(10.0**k for k in range(-8, 9))  # McDonnell et al. (2023), section 4.3
RIDGE_OF_FEW = 1.0  # where no class has a clip to hold out: the squared length of a clip's random features
MOST_CLIPS = 2000  # of a step that choose a ridge
PARTS = 5  # one of which is held out
LEAST_RIDGE = 1e-12  # of the trace of G, whose rounding is smaller


def random_features(x: Tensor, activation: Callable[[Tensor], Tensor], size: int, seed: int) -> Tensor:
    """sqrt(2 / M) activation(x W / sqrt P) [n, M] of standardised x [n, P], W [P, M] drawn standard normal.

    Under ReLU a clip has about unit length, so a ridge means the same for every P and M.
    """
    directions = _directions(x.shape[1], size, seed, x.device)
    return activation(x @ directions) * math.sqrt(2 / size)


@lru_cache(maxsize=4)
def _directions(width: int, size: int, seed: int, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(width, size, dtype=torch.float64, generator=generator)
    return drawn.div_(math.sqrt(width)).to(device)


@dataclass(frozen=True)
class RidgeSums:
    """What a ridge regression needs of the clips so far: 8 M (M + C) bytes.

    Attributes:
        gram: [M, M] G, the sum of w f f^T over clips with random features f and weights w.
        targets: [M, C] Q, the sum of w f y^T over them with targets y.
    """

    gram: Tensor
    targets: Tensor

    @classmethod
    def copied(
        cls, kept: Mapping[str, Tensor], name: str, size: int, columns: int, device: torch.device
    ) -> RidgeSums:
        """A copy of those kept as `name`, or of no clip, for so many columns."""
        targets = torch.zeros(size, columns, dtype=torch.float64, device=device)
        if f"{name}.gram" not in kept:
            return cls(targets.new_zeros(size, size), targets)
        before = cls.restored(kept, name)
        targets[:, : before.targets.shape[1]] = before.targets
        return cls(before.gram.clone(), targets)

    @classmethod
    def restored(cls, kept: Mapping[str, Tensor], name: str) -> RidgeSums:
        """Those that `named` gave."""
        return cls(kept[f"{name}.gram"], kept[f"{name}.targets"])

    def named(self, name: str) -> dict[str, Tensor]:
        """As tensors by name."""
        return {f"{name}.gram": self.gram, f"{name}.targets": self.targets}

    def add_(self, f: Tensor, y: Tensor, weights: Tensor) -> None:
        """Add clips with random features f [n, M], targets y [n, C] and weights [n], in place."""
        weighted = f.T * weights
        self.gram.addmm_(weighted, f)
        self.targets.addmm_(weighted, y)

    def solved(self, ridge: Tensor) -> Tensor:
        """((G + ridge I)^-1 Q)^T, [C, M]."""
        system = self.gram.clone()
        system.diagonal().add_(torch.maximum(ridge, LEAST_RIDGE * system.diagonal().sum()))
        return torch.cholesky_solve(self.targets, torch.linalg.cholesky(system)).T.contiguous()


def held_out(x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Positions of clips x [n, P] to fit and of those to try the fit on, a fifth of every class.

    Of a class of two to four clips one is held out, of a single clip none; of more than `MOST_CLIPS` clips
    only so many are used. Which ones depends on what the clips are, not on their order.
    """
    lot = (x.sum(dim=1) * 997).frac()
    chosen = lot.argsort()[:MOST_CLIPS]
    chosen = chosen[labels[chosen].argsort(stable=True)]
    count = torch.bincount(labels[chosen], minlength=int(labels.max()) + 1)
    place = torch.arange(len(chosen), device=x.device) - (count.cumsum(0) - count)[labels[chosen]]
    own = count[labels[chosen]]
    held = (place % PARTS == own.clamp(max=PARTS) - 1) & (own > 1)
    return chosen[~held], chosen[held]


class Trial:
    """Ridge regressions on n clips, tried on others: solved in n dimensions, however many M are."""

    def __init__(self, fitted: Tensor, held: Tensor) -> None:
        """Of random features [n, M] of those fitted and [h, M] of those held out."""
        self.across = held @ fitted.T
        self.gram = fitted @ fitted.T

    @cached_property
    def _spectrum(self) -> tuple[Tensor, Tensor]:
        values, vectors = torch.linalg.eigh(self.gram)
        return values.clamp(min=0), vectors

    def errors(self, y: Tensor, held: Tensor, weights: Tensor) -> Tensor:
        """Squared errors [len(RIDGES)] on targets `held` [h, C], weighted [h], after a fit of y [n, C]."""
        values, vectors = self._spectrum
        seen, across = vectors.T @ y, self.across @ vectors
        apart = [held - across @ (seen / (values + ridge)[:, None]) for ridge in RIDGES]
        return torch.stack([(one.square().sum(dim=1) * weights).sum() for one in apart])

    def fit(self, y: Tensor, ridge: Tensor) -> tuple[Tensor, Tensor]:
        """What a fit of y [n, C] leaves of it [n, C], and what it says of the clips held out [h, C]."""
        values, vectors = self._spectrum
        coefficients = vectors @ ((vectors.T @ y) / (values + ridge)[:, None])
        return ridge * coefficients, self.across @ coefficients


def best_ridge(errors: Tensor) -> Tensor:
    """The ridge of least squared error, where clips were held out."""
    best = errors.new_tensor(RIDGES)[errors.argmin()]
    return torch.where(errors.any(), best, RIDGE_OF_FEW)
