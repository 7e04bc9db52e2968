"""Clips that say little are encoded and flagged: silence, opposite phase, still pictures."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.clip_files import numbered
from support.timed_clips import TimedClip, write_timed

from avcil.cache import TokenCache
from avcil.cache.operations.summary import summarise
from avcil.extract.engine import extract
from avcil.extract.options import ExtractOptions
from avcil.extract.prepare import (
    MISSING_AUDIO,
    OPPOSITE_PHASE,
    SILENT_AUDIO,
    STILL_PICTURE,
    Preparation,
    PreparedClip,
    cancels_out,
    is_silent,
    is_still,
)
from avcil.extract.recipe import recommended, released
from avcil.extract.sources.manifest import Clip

NOISE = np.random.default_rng(0).normal(0, 0.1, (6, 48_000)).astype(np.float32)
TALK = np.sin(np.linspace(0, 2000, 48_000)).astype(np.float32)[None]


@pytest.mark.parametrize(
    ("audio", "silent"),
    [
        (np.zeros((2, 100), np.float32), True),
        (np.full((1, 100), 0.02, np.float32), True),  # a card's constant offset
        (0.003 * NOISE[:2] / np.abs(NOISE).max() * 0.3, True),
        (0.01 * TALK, False),
        (np.concatenate([0 * TALK, 0.01 * TALK]), False),  # one channel speaks
    ],
)
def test_silence_is_all_but_silent(audio: np.ndarray, silent: bool) -> None:
    assert is_silent(audio) == silent


@pytest.mark.parametrize(
    ("audio", "cancels"),
    [
        (np.concatenate([TALK, -TALK]), True),
        (np.concatenate([TALK, -TALK]) + 0.05 * NOISE[:2], True),
        (np.concatenate([TALK, -0.5 * TALK]), False),
        (np.concatenate([TALK, 0 * TALK]), False),
        (TALK, False),
        (NOISE, False),
        (NOISE[:2], False),
    ],
)
def test_opposite_phase_leaves_nothing_of_the_mean(audio: np.ndarray, cancels: bool) -> None:
    assert cancels_out(audio) == cancels


def test_still_pictures_all_look_like_the_first() -> None:
    still = np.tile(numbered(5), (4, 1, 1, 1))
    grain = np.random.default_rng(0).integers(0, 5, still.shape).astype(np.uint8)
    moving = still.copy()
    moving[2, 10:20, 10:30] = 200  # a small thing in one frame
    assert is_still(still) and is_still(still // 2 + grain) and not is_still(moving)


def prepared(path: Path, allow: frozenset[str] = frozenset(), first: bool = False) -> tuple[str, ...]:
    recipe = released() if first else recommended()
    value = Preparation(recipe, allow_missing=allow)(Clip("x", path, "x", "train"))  # type: ignore[arg-type]
    assert isinstance(value, PreparedClip), value
    return value.flags


def test_clips_are_flagged_by_what_they_hold(tmp_path: Path) -> None:
    plain = TimedClip((0.0, 2.0), (0.0, 2.0), sound="pcm_s16le")
    assert prepared(write_timed(tmp_path / "plain.mkv", plain)) == ()
    silent = write_timed(tmp_path / "silent.mkv", replace(plain, level=2e-4))
    assert prepared(silent) == (SILENT_AUDIO,)
    phase = write_timed(tmp_path / "phase.mkv", replace(plain, is_opposite=True))
    assert prepared(phase) == (OPPOSITE_PHASE,)
    assert prepared(phase, first=True) == ()  # that recipe takes the first channel
    still = write_timed(tmp_path / "still.mkv", replace(plain, picture_s=(0.0, 0.04), level=0.0))
    assert prepared(still) == (SILENT_AUDIO, STILL_PICTURE)
    hole = write_timed(tmp_path / "late.mkv", replace(plain, sound_s=(15.0, 16.0)))
    assert prepared(hole) == (SILENT_AUDIO,)  # for as long as the encoder listens


def test_a_cache_counts_its_flags(tmp_path: Path) -> None:
    plain = TimedClip((0.0, 2.0), (0.0, 2.0), sound="pcm_s16le")
    forms = {
        "plain": plain,
        "silent": replace(plain, level=0.0),
        "still": replace(plain, picture_s=(0.0, 0.04), level=0.0),
        "phase": replace(plain, is_opposite=True),
    }
    clips = [
        Clip(name, write_timed(tmp_path / f"{name}.mkv", form), "x", "train") for name, form in forms.items()
    ]
    summary = extract(clips, tmp_path / "cache", ExtractOptions("demo", "demo", workers=0, device="cpu"))
    assert (summary.done, summary.failures) == (4, [])
    cache = TokenCache(tmp_path / "cache")
    assert cache.flags == {
        "silent": SILENT_AUDIO,
        "still": f"{SILENT_AUDIO} {STILL_PICTURE}",
        "phase": OPPOSITE_PHASE,
    }
    assert summarise(cache).flags == {SILENT_AUDIO: 2, STILL_PICTURE: 1, OPPOSITE_PHASE: 1}
    assert MISSING_AUDIO not in summarise(cache).flags
