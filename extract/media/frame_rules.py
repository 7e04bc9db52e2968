"""Frame rules: which native frames stand for a clip, computed from times and counts alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def frame_indices(
    times_s: Sequence[float] | NDArray[np.float64], end_s: float, n: int, fps: float | None
) -> list[int]:
    """Choose `n` frames: indices into `times_s`, ascending, repeated where there are fewer frames than `n`.

    Args:
        times_s: presentation times of the native frames, ascending, at least one.
        end_s: when the last of them ends.
        n: at least 2 where `fps` is given.
        fps: None: spread uniformly, first and last included (recipe `recommended`). In frames/s: first
            re-sampled to that rate, then spread as the authors' scripts do (recipe `released`).
    """
    if fps is None:
        return spread(len(times_s), n)
    ticks = spread_released(count_ticks(times_s[0], end_s, fps), n)
    return shown_at(times_s, ticks, fps)


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


def count_ticks(start_s: float, end_s: float, fps: float) -> int:
    """Count the ticks of a constant rate between two moments, at least one.

    As FFmpeg's `fps` filter with its default rounding: the clip's end is rounded to the nearest tick.
    """
    return max(1, math.floor((end_s - start_s) * fps + 0.5))


def shown_at(times_s: ArrayLike, ticks: Sequence[int], fps: float) -> list[int]:
    """Give the native frames (indices into the ascending `times_s`) shown at ticks counted from the first.

    As FFmpeg's `fps` filter: a native frame counts from its nearest tick on, and others are repeated or left
    out.
    """
    times = np.asarray(times_s, np.float64)
    begins = np.floor((times - times[0]) * fps + 0.5)
    return [int(index) - 1 for index in np.searchsorted(begins, ticks, side="right")]
