"""Moments merged block by block against the direct formula, far from the origin and ill-conditioned too."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import Tensor

from avcil.train.methods.statistics.moments import Moments

CLASSES, CLIPS, WIDTH = 3, 60, 12
EPSILON = torch.finfo(torch.float64).eps


def clips(offset: float, condition: float) -> tuple[Tensor, Tensor]:
    """Features whose covariance within classes has this condition number, and their classes."""
    generator = torch.Generator().manual_seed(1)
    deviations = torch.logspace(0, -0.5 * torch.log10(torch.tensor(condition)).item(), WIDTH).double()
    mixed = torch.linalg.qr(torch.randn(WIDTH, WIDTH, dtype=torch.float64, generator=generator))[0]
    noise = torch.randn(CLASSES * CLIPS, WIDTH, dtype=torch.float64, generator=generator)
    labels = torch.arange(CLASSES).repeat(CLIPS)
    means = torch.randn(CLASSES, WIDTH, dtype=torch.float64, generator=generator)
    return noise * deviations @ mixed.T + means[labels] + offset, labels


def exactly(x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Class means and scatter in whole fractions, rounded once."""
    means, scatter = [], [[Fraction(0)] * WIDTH for _ in range(WIDTH)]
    for column in range(CLASSES):
        rows = [list(map(Fraction, row)) for row in x[labels == column].tolist()]
        mean = [sum(values, Fraction(0)) / len(rows) for values in zip(*rows, strict=True)]
        apart = [[value - middle for value, middle in zip(row, mean, strict=True)] for row in rows]
        for i in range(WIDTH):
            for j in range(WIDTH):
                scatter[i][j] += sum((row[i] * row[j] for row in apart), Fraction(0))
        means.append(mean)
    return (
        torch.tensor([[float(value) for value in row] for row in means], dtype=torch.float64),
        torch.tensor([[float(value) for value in row] for row in scatter], dtype=torch.float64),
    )


def merged(x: Tensor, labels: Tensor, block: int) -> Moments:
    moments = Moments.empty(x.shape[1], x.device)
    for some, own in zip(x.split(block), labels.split(block), strict=True):
        moments = moments.added(some, own, CLASSES)
    return moments


@pytest.mark.parametrize("offset", [0, 10, 1000])
@pytest.mark.parametrize("condition", [1, 1e6])
def test_merged_block_by_block_they_are_the_direct_formula(offset: float, condition: float) -> None:
    """Means to a few roundings of a feature's size.

    The scatter's error is bounded by what a rounding of the features themselves can do, |x| eps for a clip,
    and a few roundings of its own.
    """
    x, labels = clips(offset, condition)
    means, scatter = exactly(x, labels)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(2))
    for moments in (merged(x, labels, 7), merged(x[order], labels[order], 25), merged(x, labels, len(x))):
        assert (moments.count == CLIPS).all()
        assert (moments.mean - means).abs().max() <= 8 * EPSILON * x.abs().max()
        norm = torch.linalg.matrix_norm(scatter, 2)
        feature_rounding = 2 * EPSILON * torch.linalg.matrix_norm(x) * norm.sqrt()
        error = torch.linalg.matrix_norm(moments.scatter - scatter, 2)
        assert error <= feature_rounding + 16 * EPSILON * norm


def test_a_class_that_comes_back_and_an_empty_one() -> None:
    x, labels = clips(10, 1)
    apart = Moments.empty(WIDTH, x.device)
    for column in (2, 0, 2, 1):
        rows = (labels == column).nonzero().squeeze(1)
        half = rows[::2] if column == 2 and not len(apart.count) else rows[1::2] if column == 2 else rows
        apart = apart.added(x[half], labels[half], CLASSES)
    whole = merged(x, labels, len(x))
    for name, tensor in whole.named("").items():
        torch.testing.assert_close(apart.named("")[name], tensor, rtol=1e-13, atol=1e-12)
    assert apart.degrees == CLASSES * (CLIPS - 1)


def test_without_scatter_only_means_are_kept() -> None:
    x, labels = clips(0, 1)
    moments = Moments.empty(WIDTH, x.device, scatter=False).added(x, labels, CLASSES)
    assert moments.scatter.shape == (0, 0)
    torch.testing.assert_close(moments.mean, merged(x, labels, 9).mean, rtol=1e-13, atol=1e-13)
