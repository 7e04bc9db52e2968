"""Frame rules: which native frames stand for a clip, computed from times and counts alone."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence


def frame_indices(times_s: Sequence[float], end_s: float, n: int, fps: float | None) -> list[int]:
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
    resampled = resample(times_s, end_s, fps)
    return [resampled[i] for i in spread_released(len(resampled), n)]


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
