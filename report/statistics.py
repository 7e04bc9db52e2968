"""Statistics over repeated runs: mean, deviation, and Student's interval of paired differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Sample:
    """Numbers of n runs: their mean and standard deviation (n - 1), None for a single run."""

    n: int
    mean: float
    deviation: float | None


@dataclass(frozen=True)
class PairedDifference:
    """Differences of n pairs: their mean and half the width of its 95 % interval, None for a single pair."""

    n: int
    mean: float
    half_width: float | None


def sample(values: Sequence[float]) -> Sample:
    """Mean and standard deviation of at least one number."""
    n, mean = len(values), math.fsum(values) / len(values)
    if n == 1:
        return Sample(n, mean, None)
    return Sample(n, mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1)))


def paired_difference(pairs: Sequence[tuple[float, float]]) -> PairedDifference:
    """Mean of first minus second over at least one pair, with Student's interval for paired differences."""
    of = sample([one - other for one, other in pairs])
    if of.deviation is None:
        return PairedDifference(of.n, of.mean, None)
    return PairedDifference(of.n, of.mean, t_quantile(of.n - 1) * of.deviation / math.sqrt(of.n))


def t_quantile(degrees: int) -> float:
    """The t that Student's distribution with `degrees` of freedom stays within, either way, 95 % of the time.

    Found by bisection on the angle atan(t / sqrt(degrees)), in which the distribution is a finite sum
    (Abramowitz and Stegun, 26.7.3 and 26.7.4).
    """
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, degrees) < CONFIDENCE else (low, middle)
    return math.sqrt(degrees) * math.tan(low)


def _within(angle: float, degrees: int) -> float:
    """P(|t| <= sqrt(degrees) tan(angle))."""
    cos_squared = math.cos(angle) ** 2
    odd = degrees % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for k in range(degrees // 2):
        total += term
        term *= cos_squared * (2 * k + 1 + odd) / (2 * k + 2 + odd)
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total
