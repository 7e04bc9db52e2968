"""Small caches and their tokens for the tests of this folder."""

from collections.abc import Callable

import numpy as np
import pytest

from avcil.cache import CacheClip, CacheInfo, EncoderInfo, TokenSpec, WeightsOrigin


@pytest.fixture
def info() -> CacheInfo:
    return CacheInfo(
        visual=TokenSpec((2, 3, 5), "float16"),
        audio=TokenSpec((5,), "float32"),
        recipe={"name": "test", "audio": {"rate_hz": 16000}},
        visual_encoder=EncoderInfo("eye", "a" * 64, WeightsOrigin("random", "seed 0")),
        audio_encoder=EncoderInfo("ear", "b" * 64, WeightsOrigin("file", "AudioMAE file", file="ear.pth")),
    )


@pytest.fixture
def clips() -> list[CacheClip]:
    return [CacheClip(f"clip{i}", "ab"[i % 2], ("train", "val", "test")[i % 3]) for i in range(6)]


@pytest.fixture
def tokens() -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    """tokens(n): visual [n, 2, 3, 5] float32 that float16 holds exactly, and audio [n, 5]."""

    def make(n: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(n)
        visual = rng.integers(-1000, 1000, (n, 2, 3, 5)).astype(np.float32)
        return visual, rng.standard_normal((n, 5)).astype(np.float32)

    return make
