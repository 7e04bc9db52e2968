"""Slow, obvious NumPy versions of the statistics heads, from all clips at once.

x [n, P] standardised features, y [n] columns 0 to C - 1, t [m, P] clips to score; scores are [m, C].
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[np.float64]
Labels = NDArray[np.int64]
SHRINKAGES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.97)
RIDGES = [10.0**k for k in range(-8, 9)]


# statistics
def class_means(x: Array, y: Labels) -> Array:
    return np.array([x[y == c].mean(axis=0) for c in range(y.max() + 1)])


def within(x: Array, y: Labels) -> tuple[Array, int]:
    """The pooled covariance [P, P] and its degrees of freedom."""
    means, scatter = class_means(x, y), np.zeros((x.shape[1], x.shape[1]))
    for row, c in zip(x, y, strict=True):
        scatter += np.outer(row - means[c], row - means[c])
    degrees = len(x) - len(means)
    return scatter / max(1, degrees), degrees


def oas(s: Array, degrees: int) -> float:
    p, trace, square = len(s), float(np.trace(s)), float((s * s).sum())
    below = (degrees + 1 - 2 / p) * (square - trace**2 / p)
    return 1.0 if below <= 0 else min(1.0, ((1 - 2 / p) * square + trace**2) / below)


def one_hot(y: Labels) -> Array:
    return np.eye(y.max() + 1)[y]


# Gaussian heads
def ncm(x: Array, y: Labels, t: Array) -> Array:
    """Half the squared distances, turned round, without what all classes share."""
    means = class_means(x, y)
    return np.array([[row @ row / 2 - ((row - m) ** 2).sum() / 2 for m in means] for row in t])


def slda(x: Array, y: Labels, t: Array, rho: float | None = None) -> Array:
    means, (s, degrees) = class_means(x, y), within(x, y)
    mean_variance = np.trace(s) / len(s)
    if mean_variance == 0:
        precision = np.eye(len(s))
    else:
        rho = oas(s, degrees) if rho is None else rho
        precision = np.linalg.inv((1 - rho) * s + rho * mean_variance * np.eye(len(s)))
    return np.array([[row @ precision @ m - m @ precision @ m / 2 for m in means] for row in t])


def fourier(x: Array, width: float, size: int, seed: int) -> Array:
    draw = torch.Generator().manual_seed(seed)
    directions = torch.randn(x.shape[1], size, dtype=torch.float64, generator=draw).numpy()
    phases = 2 * math.pi * torch.rand(size, dtype=torch.float64, generator=draw).numpy()
    return math.sqrt(2 / size) * np.cos(x / width @ directions + phases)


def median_distance(x: Array) -> float:
    """Of two halves of an even number of distances the lower one."""
    distances = sorted(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(x, 2))
    return distances[(len(distances) - 1) // 2]


# the discriminant of least expected error
class _Shrunk:
    """One stream at one shrinkage, everything written out in P x P matrices."""

    def __init__(self, x: Array, y: Labels, rho: float, shrink_means: bool) -> None:
        means, (s, degrees) = class_means(x, y), within(x, y)
        self.count, classes, p = np.bincount(y).astype(float), len(means), x.shape[1]
        variance = np.maximum(np.diag(s), 1e-4 * np.sort(np.diag(s))[(p - 1) // 2] + 1e-12)
        self.scale = 1 / np.sqrt(variance) if degrees >= 2 and np.trace(s) > 1e-12 else np.ones(p)
        self.centre = means.mean(axis=0)
        self.means, self.s = (means - self.centre) * self.scale, s * np.outer(self.scale, self.scale)
        self.pull, self.used, self.noise = np.eye(classes), 0.0, float(p)
        self.precision = np.eye(p)
        if degrees < 1 or np.trace(s) <= 1e-12:
            return
        target = (1 - rho) * self.s + rho * np.trace(self.s) / p * np.eye(p)
        self.precision = np.linalg.inv(target)
        n = self.precision @ self.s
        self.used = min((1 - rho) * np.trace(n) / degrees, 0.999)
        self.noise = np.trace(n) / (1 - self.used)
        if shrink_means and classes > 2:
            effective = np.trace(n) ** 2 / np.trace(n @ n)
            prior, root = self.count / self.count.sum(), np.diag(np.sqrt(self.count))
            centring = np.eye(classes) - np.outer(np.ones(classes), prior)
            between = root @ centring @ self.means @ self.precision @ self.means.T @ centring.T @ root
            values, vectors = np.linalg.eigh((between + between.T) / 2)
            noise = self.noise * max(1.0, (classes - 1) / effective)
            kept = [max(0.0, 1 - noise / value) if value > 0 else 0.0 for value in values]
            spread = np.linalg.inv(root) @ vectors @ np.diag(kept) @ vectors.T @ root @ centring
            self.pull = np.outer(np.ones(classes), prior) + spread

    def lead(self, i: int, j: int) -> tuple[float, float]:
        """How far class i is expected to lead over j on clips of i, and the variance of that."""
        pulled, q = self.pull @ self.means, self.precision
        apart = pulled[i] - pulled[j]
        bent = (self.pull[i, i] - self.pull[j, i]) / self.count[i] * self.noise
        gap = apart @ q @ self.means[i] - bent - (pulled[i] @ q @ pulled[i] - pulled[j] @ q @ pulled[j]) / 2
        return gap, apart @ q @ self.s @ q @ apart / (1 - self.used) ** 2

    def scores(self, t: Array) -> Array:
        pulled, q = self.pull @ self.means, self.precision
        rows = (t - self.centre) * self.scale
        return np.array([[row @ q @ m - m @ q @ m / 2 for m in pulled] for row in rows])


def least_error(xs: Sequence[Array], y: Labels, ts: Sequence[Array], *, shrink_means: bool) -> Array:
    """The shrinkage of every stream is that of the least expected error."""
    grid = SHRINKAGES if len(y) - (y.max() + 1) >= 2 else SHRINKAGES[-1:]
    at = [{rho: _Shrunk(x, y, rho, shrink_means) for rho in grid} for x in xs]

    def expected_error(rhos: tuple[float, ...]) -> float:
        total, classes = 0.0, y.max() + 1
        for i, j in itertools.permutations(range(classes), 2):
            leads = [one[rho].lead(i, j) for one, rho in zip(at, rhos, strict=True)]
            gap, variance = sum(lead[0] for lead in leads), sum(lead[1] for lead in leads)
            total += math.erfc(gap / math.sqrt(max(variance, 1e-12)) / math.sqrt(2)) / 2
        return total / classes

    best = min(itertools.product(grid, repeat=len(xs)), key=expected_error)
    return sum((one[rho].scores(t) for one, rho, t in zip(at, best, ts, strict=True)), np.zeros(1))


# FeCAM
def fecam(
    x: Array, y: Labels, t: Array, *, shared: bool, alpha: tuple[float, float], power: float, unit: bool
) -> Array:
    def scaled(v: Array) -> Array:
        return v / max(float(np.linalg.norm(v)), 1e-12) if unit else v

    x, t = (np.sign(z) * np.abs(z) ** power for z in (x, t))
    p, means = x.shape[1], class_means(x, y)
    scores = np.zeros((len(t), len(means)))
    for c, mean in enumerate(means):
        s = within(x, y)[0] if shared else within(x[y == c], np.zeros(int((y == c).sum()), np.int64))[0]
        variance = np.trace(s) / p
        if variance > 1e-12:
            across = sum(s[i, j] for i, j in itertools.permutations(range(p), 2)) / (p * (p - 1))
            s = s + (alpha[0] + 1e-8) * variance * np.eye(p) + alpha[1] * across * (1 - np.eye(p))
        else:
            s = np.eye(p)
        precision = np.linalg.inv(s / np.sqrt(np.outer(np.diag(s), np.diag(s))))
        for i, row in enumerate(t):
            apart = scaled(row) - scaled(mean)
            scores[i, c] = -apart @ precision @ apart
    return scores


# ridge heads
def random_features(x: Array, activation: Callable[[Array], Array], size: int, seed: int) -> Array:
    draw = torch.Generator().manual_seed(seed)
    directions = torch.randn(x.shape[1], size, dtype=torch.float64, generator=draw).numpy()
    return math.sqrt(2 / size) * activation(x @ directions / math.sqrt(x.shape[1]))


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def fit(f: Array, targets: Array, ridge: float, weights: Array | None = None) -> Array:
    """Weights [M, C] of ridge regression."""
    gram, sums = np.zeros((f.shape[1], f.shape[1])), np.zeros((f.shape[1], targets.shape[1]))
    for row, target, w in zip(f, targets, np.ones(len(f)) if weights is None else weights, strict=True):
        gram, sums = gram + w * np.outer(row, row), sums + w * np.outer(row, target)
    return np.linalg.solve(gram + ridge * np.eye(len(gram)), sums)


def balance(y: Labels) -> Array:
    """Of every clip, so that classes weigh the same and the mean is 1."""
    count = np.bincount(y)
    return len(y) / (count > 0).sum() / count[y]


def held_out(x: Array, y: Labels) -> NDArray[np.bool_]:
    """Which clips: within a class in the order of a number that each clip has, one in five."""
    held = np.zeros(len(y), bool)
    for c in set(y.tolist()):
        rows = sorted(np.flatnonzero(y == c), key=lambda row: math.fmod(x[row].sum() * 997, 1))
        for place, row in enumerate(rows):
            held[row] = len(rows) > 1 and place % 5 == min(len(rows), 5) - 1
    return held


def ridge_errors(x: Array, f: Array, y: Labels, *, balanced: bool = False) -> Array:
    """Squared errors [17] on held-out clips of one step."""
    held, targets = held_out(x, y), one_hot(y)
    weights = balance(y[~held]) if balanced else np.ones(int((~held).sum()))
    by_class = {int(c): w for c, w in zip(y[~held], weights, strict=True)}
    errors = []
    for ridge in RIDGES:
        left = targets[held] - f[held] @ fit(f[~held], targets[~held], ridge, weights)
        errors.append(sum(by_class[int(c)] * (row**2).sum() for c, row in zip(y[held], left, strict=True)))
    return np.array(errors)


def compensation_products(
    xs: Sequence[Array], y: Labels, ridge: float, size: int, seed: int
) -> tuple[Array, Array]:
    """Of one step: the products of the streams' held-out predictions, and those with what is left."""
    x, targets = np.hstack(xs), one_hot(y)
    held = held_out(x, y)
    main = random_features(x, relu, size, seed)
    weight = fit(main[~held], targets[~held], ridge)
    left = targets - main @ weight
    found = []
    for k, own in enumerate(xs):
        f = random_features(own, np.tanh, size, seed + k)
        found.append((f[held] @ fit(f[~held], left[~held], ridge)).ravel())
    return np.array([[a @ b for b in found] for a in found]), np.array(
        [a @ left[held].ravel() for a in found]
    )


def compensated(
    xs: Sequence[Array],
    y: Labels,
    ts: Sequence[Array],
    steps: Sequence[int],
    ridges: Sequence[float],
    shares: Sequence[float],
    size: int,
    seed: int,
) -> Array:
    """Scores after the last step; `steps` are the classes seen after each, `ridges` those they used."""
    x, t, classes = np.hstack(xs), np.hstack(ts), steps[-1]
    main = random_features(x, relu, size, seed)
    left, before = np.zeros((len(y), classes)), 0
    for seen, ridge in zip(steps, ridges, strict=True):
        known, new = y < seen, (y < seen) & (y >= before)
        weight = fit(main[known], one_hot(y[known]), ridge)
        left[new, :seen] = one_hot(y[known])[new[known]] - main[new] @ weight
        left[new, :before] = 0
        before = seen
    scores = random_features(t, relu, size, seed) @ fit(main, one_hot(y), ridges[-1])
    for k, (own, test, share) in enumerate(zip(xs, ts, shares, strict=True)):
        f, g = (random_features(z, np.tanh, size, seed + k) for z in (own, test))
        scores = scores + share * g @ fit(f, left, ridges[-1])
    return scores
