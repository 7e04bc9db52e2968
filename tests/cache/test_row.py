"""int8 tokens: nothing is clipped, the error is half a scale, and they come back from a cache."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avcil.cache import CacheClip, CacheInfo, CacheWriter, TokenCache, TokenSpec
from avcil.cache.row import quantise, widen
from avcil.errors import CacheError

Make = Callable[[int], tuple[np.ndarray, np.ndarray]]


@pytest.fixture
def int8(info: CacheInfo) -> CacheInfo:
    return replace(info, visual=TokenSpec((2, 3, 5), "int8"))


@pytest.mark.parametrize("size", [1e-7, 1e-5, 1e-2, 1.0, 300.0, 6e6])
def test_off_by_half_a_scale_at_most(size: float) -> None:
    tokens = np.random.default_rng(0).standard_normal((500, 16)).astype(np.float32)
    tokens *= size / np.abs(tokens).max()
    numbers, scale = quantise(tokens)
    assert numbers.dtype == np.int8 and scale.dtype == np.float16 and np.isfinite(scale).all()
    assert np.abs(numbers.astype(int)).max() <= 127
    exact = tokens.astype(np.float64)
    assert (scale.astype(np.float64) * 127.0001 >= np.abs(exact).max(-1)).all()
    error = np.abs(numbers * scale.astype(np.float64)[:, None] - exact)
    assert (error <= 0.5001 * scale.astype(np.float64)[:, None]).all()


def test_scales_are_rounded_up_and_never_by_more_than_a_step() -> None:
    tokens = np.geomspace(1e-3, 8e6, 20_000, dtype=np.float32)[:, None]
    numbers, scale = quantise(tokens)
    exact = tokens[:, 0] / 127
    assert (scale >= exact * (1 - 1e-7)).all()
    assert (np.nextafter(scale, np.float16(0)) < exact).all()
    assert (numbers > 0).all()


def test_zeros_stay_zeros() -> None:
    numbers, scale = quantise(np.zeros((2, 4), np.float16))
    assert not numbers.any() and not scale.any() and not widen(numbers, scale).any()


def test_a_cache_gives_numbers_and_scales_back(
    tmp_path: Path,
    int8: CacheInfo,
    clips: list[CacheClip],
    tokens: Make,
) -> None:
    visual, audio = tokens(6)
    with CacheWriter.open(tmp_path / "c", int8, clips) as writer:
        writer.write([clip.id for clip in clips], visual, audio)
    read = TokenCache(tmp_path / "c").read(["clip5", "clip2"])
    numbers, scale = quantise(visual[[5, 2]])
    assert read.visual_scale is not None and read.visual_scale.dtype == np.float16
    np.testing.assert_array_equal(read.visual, numbers)
    np.testing.assert_array_equal(read.visual_scale, scale)
    np.testing.assert_allclose(read.widened(), visual[[5, 2]], atol=1000 / 250)
    np.testing.assert_array_equal(read.audio, audio[[5, 2]])
    assert int8.visual.row_bytes == 2 * 3 * 5 + 2 * 3 * 2


@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, "not finite"), (np.inf, "not finite"), (1e7, "overflow int8")]
)
def test_what_has_no_scale_is_refused(
    tmp_path: Path,
    int8: CacheInfo,
    clips: list[CacheClip],
    tokens: Make,
    value: float,
    message: str,
) -> None:
    visual, audio = tokens(1)
    visual[0, 1, 2, 4] = value
    with CacheWriter.open(tmp_path / "c", int8, clips) as writer, pytest.raises(CacheError, match=message):
        writer.write(["clip0"], visual, audio)


def test_sound_is_not_stored_in_int8(info: CacheInfo) -> None:
    with pytest.raises(CacheError, match="audio token dtype 'int8'"):
        replace(info, audio=TokenSpec((5,), "int8"))
