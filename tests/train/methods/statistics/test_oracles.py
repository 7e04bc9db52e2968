"""Every statistics head, step by step, against a slow NumPy version of all clips at once."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from support import statistics_oracle as oracle
from torch import Tensor

from avcil.train.methods import find_method
from avcil.train.methods.statistics.head import StatisticsHead

SEED, SIZE = 3, 24
STEPS = (3, 5, 6)  # classes seen after each
CLIPS = (7, 9, 5, 2, 1, 12)  # of every class
WIDTHS = (5, 8)
Streams = list[oracle.Array]
GENERATOR = np.random.default_rng(5)
LABELS = np.repeat(np.arange(len(CLIPS)), CLIPS)
CLASS_MEANS = [1.5 * GENERATOR.standard_normal((len(CLIPS), width)) for width in WIDTHS]
APART = [means[LABELS] + GENERATOR.standard_normal((len(LABELS), len(means[0]))) for means in CLASS_MEANS]
TEST = [GENERATOR.standard_normal((11, width)) * 2 for width in WIDTHS]


def streams(fusion: str) -> tuple[Streams, Streams]:
    """Those to learn and those to score."""
    return (APART, TEST) if fusion == "late" else ([np.hstack(APART)], [np.hstack(TEST)])


def standardised(fusion: str) -> tuple[Streams, Streams]:
    """The same with mean 0 and deviation 1 over the first step's clips."""
    found: tuple[Streams, Streams] = ([], [])
    first = STEPS[0] > LABELS
    for x, t in zip(*streams(fusion), strict=True):
        deviation = x[first].std(axis=0)
        deviation = np.maximum(deviation, 0.1 * np.sort(deviation)[(len(deviation) - 1) // 2])
        found[0].append((x - x[first].mean(axis=0)) / deviation)
        found[1].append((t - x[first].mean(axis=0)) / deviation)
    return found


def learned(name: str, **settings: Any) -> StatisticsHead:
    """The head after all steps, the clips of each in a random order."""
    method, complete = find_method(name).configured(settings)
    head = method.head(settings=complete)
    assert isinstance(head, StatisticsHead)
    xs, _ = streams(complete.fusion)
    for before, seen in itertools.pairwise((0, *STEPS)):
        rows = GENERATOR.permutation(np.flatnonzero((before <= LABELS) & (seen > LABELS)))
        head = head.learned([tensor(x[rows]) for x in xs], torch.from_numpy(LABELS[rows]), seen, SEED)
    return head


def scores(head: StatisticsHead) -> oracle.Array:
    return head.scores_of([tensor(t) for t in streams(head.settings.fusion)[1]]).numpy()


def tensor(x: oracle.Array) -> Tensor:
    return torch.from_numpy(x)


def check(found: oracle.Array, expected: oracle.Array) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8 * np.abs(expected).max())


@pytest.mark.parametrize("fusion", ["joint", "late"])
def test_nearest_class_mean(fusion: str) -> None:
    xs, ts = standardised(fusion)
    check(scores(learned("ncm", fusion=fusion)), sum(map(oracle.ncm, xs, [LABELS] * 2, ts)))


@pytest.mark.parametrize("fusion", ["joint", "late"])
@pytest.mark.parametrize("settings", [{"shrinkage": "oas"}, {"shrinkage": "fixed", "rho": 0.3}])
def test_streaming_lda(fusion: str, settings: dict[str, Any]) -> None:
    xs, ts = standardised(fusion)
    expected = sum(oracle.slda(x, LABELS, t, settings.get("rho")) for x, t in zip(xs, ts, strict=True))
    check(scores(learned("slda", fusion=fusion, **settings)), expected)


@pytest.mark.parametrize("fusion", ["joint", "late"])
@pytest.mark.parametrize("shrink_means", [False, True])
def test_lda_of_least_error(fusion: str, shrink_means: bool) -> None:
    (xs, ts), squash = standardised(fusion), 0.5
    head = learned("slda", fusion=fusion, shrinkage="least-error", shrink_means=shrink_means, squash=squash)
    xs, ts = ([np.tanh(squash * x) for x in some] for some in (xs, ts))
    check(scores(head), oracle.least_error(xs, LABELS, ts, shrink_means=shrink_means))


@pytest.mark.parametrize("fusion", ["joint", "late"])
def test_kernel_lda(fusion: str) -> None:
    xs, ts = standardised(fusion)
    first, expected = STEPS[0] > LABELS, np.zeros(1)
    for k, (x, t) in enumerate(zip(xs, ts, strict=True)):
        width = 2 * oracle.median_distance(x[first])
        f, g = (oracle.fourier(z, width, SIZE, SEED + k) for z in (x, t))
        expected = expected + oracle.slda(f, LABELS, g)
    check(scores(learned("klda", fusion=fusion, dimensions=SIZE, width=2.0)), expected)


@pytest.mark.parametrize("fusion", ["joint", "late"])
@pytest.mark.parametrize("covariance", ["class", "shared"])
@pytest.mark.parametrize("alpha", [(1.0, 1.0), (100.0, 3.0)])
@pytest.mark.parametrize("unit", [True, False])
def test_fecam(fusion: str, covariance: str, alpha: tuple[float, float], unit: bool) -> None:
    (xs, ts), shared = standardised(fusion), covariance == "shared"
    expected = sum(
        oracle.fecam(x, LABELS, t, shared=shared, alpha=alpha, power=0.7, unit=unit)
        for x, t in zip(xs, ts, strict=True)
    )
    head = learned(
        "fecam",
        fusion=fusion,
        covariance=covariance,
        power=0.7,
        alpha1=alpha[0],
        alpha2=alpha[1],
        unit=unit,
    )
    check(scores(head), expected)


def ridge_of(x: oracle.Array, seed: int, *, balanced: bool = False, steps: int = len(STEPS)) -> float:
    """By the errors of so many steps together."""
    errors = np.zeros(len(oracle.RIDGES))
    f = oracle.random_features(x, oracle.relu, SIZE, seed)
    for before, seen in itertools.pairwise((0, *STEPS[:steps])):
        rows = (before <= LABELS) & (seen > LABELS)
        errors += oracle.ridge_errors(x[rows], f[rows], LABELS[rows], balanced=balanced)
    return oracle.RIDGES[int(errors.argmin())]


@pytest.mark.parametrize("fusion", ["joint", "late"])
@pytest.mark.parametrize("name", ["ranpac", "acil", "air"])
@pytest.mark.parametrize("ridge", [0.0, 0.7])
def test_ridge_heads(fusion: str, name: str, ridge: float) -> None:
    (xs, ts), balanced = standardised(fusion), name == "air"
    weights, expected = oracle.balance(LABELS) if balanced else None, np.zeros(1)
    for k, (x, t) in enumerate(zip(xs, ts, strict=True)):
        f, g = (oracle.random_features(z, oracle.relu, SIZE, SEED + k) for z in (x, t))
        own = ridge or ridge_of(x, SEED + k, balanced=balanced)
        expected = expected + g @ oracle.fit(f, oracle.one_hot(LABELS), own, weights)
    check(scores(learned(name, fusion=fusion, dimensions=SIZE, ridge=ridge)), expected)


@pytest.mark.parametrize("ridge", [0.0, 0.7])
def test_ds_al(ridge: float) -> None:
    xs, ts = standardised("joint")
    ridges = [ridge or ridge_of(xs[0], SEED, steps=k + 1) for k in range(len(STEPS))]
    expected = oracle.compensated(xs, LABELS, ts, STEPS, ridges, [0.6], SIZE, SEED)
    check(scores(learned("dsal", dimensions=SIZE, ridge=ridge)), expected)


@pytest.mark.parametrize("ridge", [0.0, 0.7])
@pytest.mark.parametrize("compensation", [None, 0.4])
def test_mmal(ridge: float, compensation: float | None) -> None:
    xs, ts = standardised("late")
    ridges = [ridge or ridge_of(np.hstack(xs), SEED, steps=k + 1) for k in range(len(STEPS))]
    shares = [compensation or 0.0] * 2
    if compensation is None:
        products, gains = np.zeros((2, 2)), np.zeros(2)
        for k, (before, seen) in enumerate(itertools.pairwise((0, *STEPS))):
            rows = (before <= LABELS) & (seen > LABELS)
            found = oracle.compensation_products([x[rows] for x in xs], LABELS[rows], ridges[k], SIZE, SEED)
            products, gains = products + found[0], gains + found[1]
        tenths = [np.array(c) / 10 for c in itertools.product(range(11), repeat=2)]
        shares = min(tenths, key=lambda c: float(c @ products @ c - 2 * gains @ c)).tolist()
    expected = oracle.compensated(xs, LABELS, ts, STEPS, ridges, shares, SIZE, SEED)
    check(scores(learned("mmal", dimensions=SIZE, ridge=ridge, compensation=compensation)), expected)
