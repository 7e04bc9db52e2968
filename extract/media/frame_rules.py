"""Owns which native frames stand for a clip; knows times and counts, no video and no pixels."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class FrameRule:
    """How `n` frames are chosen among the native ones.

    `fps=None`: spread uniformly over the native frames, first and last included (recipe `recommended`).
    `fps` in frames/s: the clip is first re-sampled to that rate, then spread uniformly (recipe `released`).
    """

    fps: float | None = None

    def __post_init__(self) -> None:
        if self.fps is not None and not (math.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"FrameRule: fps is {self.fps}; it must be a positive number or None")

    def indices(self, times_s: Sequence[float], end_s: float, n: int) -> list[int]:
        """Give `n` indices into `times_s`, ascending; they repeat where there are fewer frames than `n`.

        `times_s`: presentation times of the native frames, ascending, at least one; `end_s`: when the last
        of them ends.
        """
        if self.fps is None:
            return spread(len(times_s), n)
        resampled = resample(times_s, end_s, self.fps)
        return [resampled[i] for i in spread_released(len(resampled), n)]


UNIFORM = FrameRule()


def spread(n_native: int, n: int) -> list[int]:
    """Spread `n` indices uniformly over 0 .. n_native - 1, both ends included, halves rounded up.

    index[k] = floor(k * (n_native - 1) / (n - 1) + 1/2); for n = 1 the middle frame.
    """
    if n == 1:
        return [(n_native - 1) // 2]
    return [(2 * k * (n_native - 1) + n - 1) // (2 * (n - 1)) for k in range(n)]


def spread_released(n_native: int, n: int) -> list[int]:
    """Spread `n` indices over 0 .. n_native - 1 as the authors' scripts do (`n` at least 2).

    Counted from 1: the first, 1 + floor(k * n_native / (n - 1) + 1/2) for k = 1 .. n - 2, the last. 80
    frames and n = 16 give 1 6 12 17 22 28 33 38 44 49 54 60 65 70 76 80.
    """
    inner = [(2 * k * n_native + n - 1) // (2 * (n - 1)) for k in range(1, n - 1)]
    return [0, *(min(i, n_native - 1) for i in inner), n_native - 1]


def resample(times_s: Sequence[float], end_s: float, fps: float) -> list[int]:
    """Give, for each tick of a constant rate, the native frame shown there (repeated or left out).

    As FFmpeg's `fps` filter with its default rounding: a native frame counts from its nearest tick on, the
    clip's end is rounded likewise, and at least one tick exists.
    """
    start = times_s[0]
    ticks = [math.floor((time - start) * fps + 0.5) for time in times_s]
    n_ticks = max(1, math.floor((end_s - start) * fps + 0.5))
    return [bisect.bisect_right(ticks, tick) - 1 for tick in range(n_ticks)]
