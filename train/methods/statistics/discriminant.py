"""Linear discriminants from class moments: shrinkage of covariance and means, and the error they lead to.

Letters: C classes, P features; S covariance within classes, Q the inverse of what it is shrunk to.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from avcil.train.methods.statistics.moments import Moments

SHRINKAGES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.97)
VARIANCE_FLOOR = 1e-4  # of the median variance
MOST_SHARE = 0.999  # of the degrees of freedom that a precision may use up


def oas(covariance: Tensor, degrees: int) -> float:
    """Oracle approximating shrinkage of a covariance [P, P] towards a multiple of the identity, 0 to 1.

    Chen, Wiesel, Eldar and Hero (2010), equation 23.
    """
    width = len(covariance)
    trace, square = float(covariance.trace()), float(covariance.square().sum())
    spread = (degrees + 1 - 2 / width) * (square - trace**2 / width)
    return 1.0 if spread <= 0 else min(1.0, ((1 - 2 / width) * square + trace**2) / spread)


def shrunk_discriminant(moments: Moments, shrinkage: float | None) -> tuple[Tensor, Tensor]:
    """Weight [C, P] and bias [C] of x Q m_c - m_c Q m_c / 2, the log-posterior under equal priors.

    Hayes and Kanan (2020), equations 2 to 4; `shrinkage` None: by `oas`.
    """
    covariance, width = moments.covariance, moments.mean.shape[1]
    scale = float(covariance.trace()) / width
    identity = torch.eye(width, dtype=covariance.dtype, device=covariance.device)
    if scale > 0:
        rho = oas(covariance, moments.degrees) if shrinkage is None else shrinkage
        target = (1 - rho) * covariance + max(rho, 1e-10) * scale * identity
    else:
        target = identity
    weight = torch.cholesky_solve(moments.mean.T, torch.linalg.cholesky(target)).T
    return weight, -(weight * moments.mean).sum(dim=1) / 2


@dataclass(frozen=True)
class _Candidate:
    """A stream at one shrinkage, in the basis where S is diagonal.

    Attributes:
        precision: [P] the diagonal of Q.
        pull: [C, C] what the class means are multiplied by from the left to be shrunk.
        gap: [C, C] the expected lead of class i over j on clips of i.
        variance: [C, C] of that lead.
    """

    precision: Tensor
    pull: Tensor
    gap: Tensor
    variance: Tensor


class Spectrum:
    """One stream's covariance within classes by its eigenvectors, from which every shrinkage is quick."""

    def __init__(self, moments: Moments) -> None:
        self.count, self.degrees = moments.count, moments.degrees
        self.width = moments.mean.shape[1]
        covariance = moments.covariance
        variance = covariance.diagonal()
        self.has_spread = self.degrees >= 1 and float(variance.sum()) > 1e-12
        scale = torch.ones_like(variance)
        if self.has_spread and self.degrees >= 2:
            scale = variance.clamp(min=VARIANCE_FLOOR * float(variance.median()) + 1e-12).rsqrt()
        self.scale, self.centre = scale, moments.mean.mean(dim=0)
        if self.has_spread:
            values, self.vectors = torch.linalg.eigh(covariance * scale[:, None] * scale)
            self.values = torch.where(values > 1e-10 * values[-1], values, 0.0)
        else:
            self.vectors = torch.eye(self.width, dtype=scale.dtype, device=scale.device)
            self.values = torch.zeros_like(scale)
        self.means = ((moments.mean - self.centre) * scale) @ self.vectors

    def at(self, shrinkage: float, *, shrink_means: bool) -> _Candidate:
        """The stream with S shrunk by `shrinkage` towards the identity, and what can be expected of it.

        With N = Q S, a clip's lead N_ij is corrected for what the training clips have bent the means and Q
        towards themselves: their own noise enters x Q m_i by tr N / n_i, and degrees of freedom that Q has
        used up (gamma) make it too sure of itself. Means are shrunk along the principal axes of their spread
        between classes, each by what noise alone would give there (positive-part James and Stein, 1961).
        """
        classes = len(self.count)
        identity = torch.eye(classes, dtype=self.means.dtype, device=self.means.device)
        if not self.has_spread:
            precision = torch.ones_like(self.values)
            products = self.means @ self.means.T
            return self._expected(precision, identity, products, torch.zeros_like(products), self.width, 0.0)
        precision = 1 / ((1 - shrinkage) * self.values + shrinkage * self.values.sum() / self.width)
        share = self.values * precision  # the eigenvalues of N
        used = min((1 - shrinkage) * float(share.sum()) / self.degrees, MOST_SHARE)
        noise = float(share.sum()) / (1 - used)
        products = (self.means * precision) @ self.means.T
        pull = identity
        if shrink_means and classes > 2:
            effective = float(share.sum()) ** 2 / float(share.square().sum())
            pull = self._mean_shrinkage(products, noise * max(1.0, (classes - 1) / effective))
        spread = (self.means * (share * precision)) @ self.means.T
        return self._expected(precision, pull, products, spread, noise, used)

    def _mean_shrinkage(self, products: Tensor, noise: float) -> Tensor:
        prior = self.count / self.count.sum()
        identity = torch.eye(len(prior), dtype=prior.dtype, device=prior.device)
        centring, root = identity - prior, self.count.sqrt()
        between = root[:, None] * (centring @ products @ centring.T) * root
        values, vectors = torch.linalg.eigh((between + between.T) / 2)
        kept = torch.where(values > 0, (1 - noise / values.clamp(min=1e-300)).clamp(min=0), 0.0)
        return prior.expand_as(identity) + ((vectors * kept) @ vectors.T * (root / root[:, None])) @ centring

    def _expected(
        self,
        precision: Tensor,
        pull: Tensor,
        products: Tensor,
        spread: Tensor,
        noise: float,
        used: float,
    ) -> _Candidate:
        pulled = pull @ products
        length = (pulled @ pull.T).diagonal()
        own = pull.diagonal()[:, None] - pull.T
        gap = (
            pulled.diagonal()[:, None]
            - pulled.T
            - own / self.count[:, None] * noise
            - (length[:, None] - length) / 2
        )
        across = pull @ spread @ pull.T
        size = across.diagonal()
        variance = (size[:, None] + size - 2 * across).clamp(min=0) / (1 - used) ** 2
        return _Candidate(precision, pull, gap, variance)

    def linear(self, candidate: _Candidate) -> tuple[Tensor, Tensor]:
        """Weight [C, P] and bias [C] on the features themselves."""
        means = candidate.pull @ self.means
        inside = means * candidate.precision
        weight = (inside @ self.vectors.T) * self.scale
        return weight, -(inside * means).sum(dim=1) / 2 - weight @ self.centre


@dataclass(frozen=True)
class LeastError:
    """Discriminants of several streams whose scores are added, shrunk so that the expected error is least.

    The expected error of a choice is the mean over classes i of the sum over j of the probability that a
    Gaussian clip of i scores higher for j: leads and their variances add over streams. It needs no clips that
    were held out.
    """

    streams: Sequence[Moments]
    shrink_means: bool

    @cached_property
    def chosen(self) -> tuple[list[tuple[Tensor, Tensor]], float]:
        """Weight and bias of every stream, and the expected error."""
        spectra = [Spectrum(moments) for moments in self.streams]
        grid = SHRINKAGES if spectra[0].degrees >= 2 else SHRINKAGES[-1:]
        candidates = [[one.at(rho, shrink_means=self.shrink_means) for rho in grid] for one in spectra]
        best = min(itertools.product(*candidates), key=_expected_error)
        linear = [one.linear(candidate) for one, candidate in zip(spectra, best, strict=True)]
        return linear, _expected_error(best)


def _expected_error(candidates: Sequence[_Candidate]) -> float:
    gap = torch.stack([one.gap for one in candidates]).sum(dim=0)
    variance = torch.stack([one.variance for one in candidates]).sum(dim=0).clamp(min=1e-12)
    wrong = torch.special.ndtr(-gap / variance.sqrt())
    return float((wrong.sum() - wrong.diagonal().sum()) / len(gap))
