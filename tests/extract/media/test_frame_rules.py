"""Which frames stand for a clip."""

import math

import pytest

from avcil.extract.media.contract import DecodeRequest
from avcil.extract.media.frame_rules import count_ticks, frame_indices, shown_at, spread, spread_released


def resample(times_s: list[float], end_s: float, fps: float) -> list[int]:
    """The native frame of every tick."""
    return shown_at(times_s, range(count_ticks(times_s[0], end_s, fps)), fps)


def test_released_indices_are_the_published_ones() -> None:
    ones = [1, 6, 12, 17, 22, 28, 33, 38, 44, 49, 54, 60, 65, 70, 76, 80]
    assert [i + 1 for i in spread_released(80, 16)] == ones


@pytest.mark.parametrize("n_native", [1, 2, 5, 15, 16, 17, 80, 299, 1000])
def test_spread_rounds_half_up_and_keeps_both_ends(n_native: int) -> None:
    expected = [math.floor(k * (n_native - 1) / 15 + 0.5) for k in range(16)]
    assert spread(n_native, 16) == expected
    assert (expected[0], expected[-1]) == (0, n_native - 1)


def test_few_frames_repeat() -> None:
    assert spread(3, 5) == [0, 1, 1, 2, 2]
    assert spread_released(2, 16)[0] == 0
    assert set(spread_released(2, 16)) == {0, 1}


def test_resampling_30_to_10_per_second_takes_every_third() -> None:
    times = [i / 30 for i in range(30)]
    assert resample(times, 1.0, 10.0) == [1, 4, 7, 10, 13, 16, 19, 22, 25, 28]


def test_resampling_repeats_a_frame_that_stays() -> None:
    assert resample([0.0, 0.1, 0.5], 0.7, 10.0) == [0, 1, 1, 1, 1, 2, 2]


def test_rule_composes_resampling_and_spreading() -> None:
    times = [i / 16 for i in range(160)]  # 10 s at 16 frames/s: 80 ticks of 8 frames/s
    chosen = frame_indices(times, 10.0, 16, 8.0)
    ticks = resample(times, 10.0, 8.0)
    assert len(ticks) == 80
    assert chosen == [ticks[i] for i in spread_released(80, 16)]


def test_a_rate_that_is_no_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="frame_fps is 0"):
        DecodeRequest(16, 0.0)
