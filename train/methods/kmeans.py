"""K-means on a handful of features, where a library would be a new dependency."""

from __future__ import annotations

import torch
from torch import Tensor

RESTARTS = 10
ITERATIONS = 300


def kmeans(points: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    """Centres [clusters, D] of `points` [n, D]: Lloyd's algorithm from k-means++ starts, the best of ten.

    With as many points as clusters the centres are the points, and with fewer the points are repeated.
    Computed in float64 and given back in the points' precision.

    Args:
        points: features of one class, n >= 1.
        clusters: number of centres.
        generator: on the CPU, whatever device the points are on.
    """
    if len(points) <= clusters:
        return points[torch.arange(clusters, device=points.device) % len(points)]
    exact = points.double()
    fits = [_lloyd(exact, _plus_plus(exact, clusters, generator)) for _ in range(RESTARTS)]
    spread = torch.stack([_squared_distances(exact, centres).amin(dim=1).sum() for centres in fits])
    return fits[int(spread.argmin())].to(points.dtype)


def _plus_plus(points: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    """Starting centres, drawn by their squared distance to those before (Arthur and Vassilvitskii, 2007)."""
    rows = [int(torch.randint(len(points), (1,), generator=generator))]
    nearest = _squared_distances(points, points[rows]).squeeze(1)
    for _ in range(clusters - 1):
        weights = nearest.cpu() if nearest.max() > 0 else torch.ones(len(points))  # all alike: any will do
        rows.append(int(torch.multinomial(weights, 1, generator=generator)))
        nearest = torch.minimum(nearest, _squared_distances(points, points[rows[-1:]]).squeeze(1))
    return points[rows]


def _lloyd(points: Tensor, centres: Tensor) -> Tensor:
    assigned = None
    for _ in range(ITERATIONS):
        before, assigned = assigned, _squared_distances(points, centres).argmin(dim=1)
        if before is not None and torch.equal(before, assigned):
            break
        members = torch.zeros(len(centres), len(points), dtype=points.dtype, device=points.device)
        members[assigned, torch.arange(len(points), device=points.device)] = 1.0
        sizes = members.sum(dim=1, keepdim=True)
        # A cluster that lost all its points stays where it is.
        centres = torch.where(sizes > 0, members @ points / sizes.clamp(min=1.0), centres)
    return centres


def _squared_distances(points: Tensor, centres: Tensor) -> Tensor:
    return torch.cdist(points, centres, compute_mode="donot_use_mm_for_euclid_dist").square()
