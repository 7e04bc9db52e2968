"""Recipes, pixels and log-mel spectrograms."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from avcil.errors import DecodeError
from avcil.extract.recipe import RECIPES, Recipe, log_mel, normalise, recommended, released, resize_crop


def tone(hz: float, rate_hz: int, seconds: float = 2.0) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(round(rate_hz * seconds)) / rate_hz)[None].astype(np.float32)


def peak_bin(hz: float) -> int:
    """The mel bin whose centre is nearest, of 128 from 20 Hz to 8 kHz (Kaldi's mel scale)."""

    def mel(f: float) -> float:
        return 1127 * float(np.log1p(f / 700))

    centres = np.linspace(mel(20), mel(8000), 130)[1:-1]
    return int(np.abs(centres - mel(hz)).argmin())


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_survive_json(name: str) -> None:
    recipe = RECIPES[name]
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_a_recipe_with_other_keys_is_refused() -> None:
    values = {**recommended().to_dict(), "fps": 3}
    del values["crop"]
    with pytest.raises(ValueError, match=r"unknown keys \['fps'\], missing \['crop'\]"):
        Recipe.from_dict(values)


@pytest.mark.parametrize("shape", [(90, 160), (160, 90), (64, 64), (65, 97), (1, 1), (2, 4000), (300, 200)])
def test_frames_become_squares(shape: tuple[int, int]) -> None:
    frames = np.full((2, *shape, 3), 77, np.uint8)
    out = resize_crop(frames, 64)
    assert out.shape == (2, 64, 64, 3) and out.dtype == np.uint8
    assert (out == 77).all()


def test_the_crop_is_the_centre() -> None:
    frames = np.zeros((1, 64, 128, 3), np.uint8)
    frames[:, :, 32:96] = 200
    assert (resize_crop(frames, 64) == 200).all()
    assert (resize_crop(frames.transpose(0, 2, 1, 3), 64) == 200).all()


def test_resizing_averages_what_it_shrinks() -> None:
    rows = np.arange(64, dtype=np.uint8).repeat(4)
    frames = np.broadcast_to(rows[None, :, None, None], (1, 256, 256, 3)).copy()
    found = resize_crop(frames, 64)[0, 2:-2, 0, 0].astype(int)
    assert np.abs(found - np.arange(2, 62)).max() <= 1


def test_pixels_are_normalised_with_imagenet_numbers() -> None:
    frames = torch.tensor([[[[[0, 128, 255]]]]], dtype=torch.uint8)
    expected = [(0 - 0.485) / 0.229, (128 / 255 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    assert normalise(frames, recommended()).flatten().tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100, 48_000, 44_099])
def test_a_tone_lights_its_mel_bin_at_any_rate(rate_hz: int) -> None:
    mel = log_mel(tone(1000, rate_hz), rate_hz, recommended())
    assert mel.shape == (1024, 128) and mel.dtype == np.float32
    assert abs(int(mel[20:150].mean(0).argmax()) - peak_bin(1000)) <= 1


def test_padding_is_zero_after_normalisation() -> None:
    mel = log_mel(tone(1000, 16_000), 16_000, recommended())
    n_frames = 1 + (32_000 - 400) // 160
    assert (mel[n_frames:] == 0).all() and (mel[:n_frames] != 0).all()
    plain = dataclasses.replace(recommended(), mel_mean=None, mel_std=None)
    raw = log_mel(tone(1000, 16_000), 16_000, plain)[:n_frames]
    assert np.allclose(mel[:n_frames], (raw + 4.2677393) / (2 * 4.5689974), atol=1e-5)


def test_long_sound_is_cut() -> None:
    recipe = dataclasses.replace(recommended(), mel_frames=50)
    whole = log_mel(tone(500, 16_000), 16_000, recommended())
    cut = log_mel(tone(500, 16_000), 16_000, recipe)
    assert cut.shape == (50, 128) and np.array_equal(cut, whole[:50])


def test_channels_by_mean_or_the_first() -> None:
    left, right = tone(500, 16_000), tone(3000, 16_000)
    both = np.concatenate([left, right])
    mean = log_mel((left + right) / 2, 16_000, recommended())
    assert np.allclose(log_mel(both, 16_000, recommended()), mean, atol=1e-5)
    assert np.array_equal(log_mel(both, 16_000, released()), log_mel(left, 16_000, released()))


def test_a_constant_offset_is_removed() -> None:
    a, b = (log_mel(tone(700, 16_000) + offset, 16_000, recommended()) for offset in (0.0, 0.3))
    assert np.allclose(a, b, atol=0.02)


def test_silence_is_finite() -> None:
    assert np.isfinite(log_mel(np.zeros((1, 16_000), np.float32), 16_000, recommended())).all()


def test_less_sound_than_a_window_is_no_sound() -> None:
    with pytest.raises(DecodeError, match="no-audio: only 10 ms of sound"):
        log_mel(tone(500, 16_000, 0.01), 16_000, recommended())


def test_the_released_recipe_is_the_authors() -> None:
    recipe = released()
    assert (recipe.sample_rate_hz, recipe.channel_rule, recipe.mel_mean, recipe.frame_fps) == (
        11_430,
        "first",
        None,
        8,
    )
    assert released(10.0) == RECIPES["released-ave"]
