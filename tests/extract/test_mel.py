"""Filter bank and resampling in plain torch against torchaudio's, and a cache that is made with both."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.clip_files import write_clip
from torch import Tensor

from avcil.cache import TokenCache
from avcil.extract import recipe as recipes
from avcil.extract.engine import ExtractOptions, extract
from avcil.extract.mel import (
    filter_bank,
    filter_bank_twin,
    load_torchaudio,
    resample,
    resample_twin,
)
from avcil.extract.recipe import log_mel, recommended, released
from avcil.extract.sources.manifest import Clip

RATES_HZ = [16_000, 11_430]  # of the two recipes
KALDI = (128, 25.0, 10.0)
DEMO = ExtractOptions("demo", "demo", workers=0, device="cpu")
needs_torchaudio = pytest.mark.skipif(load_torchaudio() is None, reason="torchaudio does not import here")


@pytest.fixture
def no_torchaudio(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "torchaudio", None)
    load_torchaudio.cache_clear()
    yield
    load_torchaudio.cache_clear()


def sounds(rate_hz: int) -> dict[str, Tensor]:
    """A second and a bit of each kind, [1, samples]."""
    time_s = torch.arange(rate_hz + 777) / rate_hz
    noise = torch.randn(len(time_s), generator=torch.Generator().manual_seed(0))
    made = {
        "noise": 0.3 * noise,
        "quiet": 1e-4 * noise,
        "tone": torch.sin(2 * torch.pi * 440 * time_s),
        "sweep": torch.sin(2 * torch.pi * (50 + 1000 * time_s) * time_s),
        "square": torch.sign(torch.sin(2 * torch.pi * 200 * time_s)),
        "silence": torch.zeros(len(time_s)),
        "click": (time_s == 0.0).float(),
    }
    return {name: wave[None] for name, wave in made.items()}


@needs_torchaudio
@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_the_filter_bank_is_torchaudios(rate_hz: int) -> None:
    for name, wave in sounds(rate_hz).items():
        expected = filter_bank(wave, rate_hz, *KALDI)
        (found,) = filter_bank_twin(wave, rate_hz, *KALDI)
        assert found.shape == expected.shape == ((wave.shape[1] - rate_hz // 40) // (rate_hz // 100) + 1, 128)
        assert torch.allclose(found, expected, rtol=0, atol=1e-4), name


@needs_torchaudio
@pytest.mark.parametrize("target_hz", RATES_HZ)
@pytest.mark.parametrize(
    "rate_hz", [44_100, 48_000, 22_050, 8_000, 96_000, 11_025, 44_099, 47_999, 16_000, 11_430]
)
def test_resampling_is_torchaudios(rate_hz: int, target_hz: int, request: pytest.FixtureRequest) -> None:
    waves = torch.cat(list(sounds(rate_hz).values()))
    expected = resample(waves, rate_hz, target_hz)
    request.getfixturevalue("no_torchaudio")
    found = resample(waves, rate_hz, target_hz)
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, rtol=0, atol=1e-4)


@needs_torchaudio
@pytest.mark.parametrize("recipe", [recommended(), released()], ids=lambda recipe: recipe.name)
@pytest.mark.parametrize("rate_hz", [44_100, 48_000, 22_050, 8_000, 44_099])
def test_spectrograms_are_those_of_torchaudio(
    recipe: recipes.Recipe, rate_hz: int, request: pytest.FixtureRequest
) -> None:
    sound = torch.cat([sounds(rate_hz)["noise"], sounds(rate_hz)["square"]]).numpy()  # two channels
    expected = log_mel(sound, rate_hz, recipe)
    request.getfixturevalue("no_torchaudio")
    assert np.allclose(log_mel(sound, rate_hz, recipe), expected, rtol=0, atol=1e-4)


def test_the_twin_takes_batches() -> None:
    waves = torch.cat(list(sounds(48_000).values()))
    short = resample_twin(waves, 3, 1)
    mel = filter_bank_twin(short, 16_000, *KALDI)
    for i, wave in enumerate(waves):
        assert torch.allclose(resample_twin(wave, 3, 1), short[i], atol=1e-6)
        assert torch.allclose(filter_bank_twin(short[i : i + 1], 16_000, *KALDI)[0], mel[i], atol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_twin_works_on_a_gpu() -> None:
    wave = sounds(44_100)["noise"]
    short = resample_twin(wave, 441, 160)
    found = resample_twin(wave.cuda(), 441, 160)
    assert torch.allclose(found.cpu(), short, atol=1e-5)
    mel = filter_bank_twin(short.cuda(), 16_000, *KALDI)
    assert torch.allclose(mel.cpu(), filter_bank_twin(short, 16_000, *KALDI), atol=1e-3)


@pytest.mark.usefixtures("no_torchaudio")
def test_a_tone_keeps_its_pitch_and_what_is_above_the_new_nyquist_rate_goes() -> None:
    time_s = torch.arange(48_000) / 48_000
    low, high = (torch.sin(2 * torch.pi * hz * time_s)[None] for hz in (1000, 12_000))
    expected = torch.sin(2 * torch.pi * 1000 * torch.arange(16_000) / 16_000)
    assert torch.allclose(resample(low, 48_000, 16_000)[0, 100:-100], expected[100:-100], atol=2e-3)
    assert resample(high, 48_000, 16_000)[0, 100:-100].abs().max() < 10 ** (-45 / 20)  # dB


@pytest.mark.usefixtures("no_torchaudio")
def test_a_rate_without_common_divisor_is_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr("avcil.extract.mel.resample_twin", lambda waves, *rates: asked.append(rates) or waves)
    resample(torch.zeros(1, 100), 191_999, 16_000)
    assert asked == [(12, 1)]  # 5 in a million too fast


def test_long_sound_is_cut_before_its_spectrogram_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = []

    def spied(wave: Tensor, *settings: float) -> Tensor:
        lengths.append(wave.shape[1])
        return filter_bank(wave, *settings)  # type: ignore[arg-type]

    monkeypatch.setattr(recipes, "filter_bank", spied)
    minute = sounds(16_000)["noise"].repeat(1, 56).numpy()
    for recipe in (recommended(), replace(released(), sample_rate_hz=16_000)):
        assert log_mel(minute, 16_000, recipe).all()  # no frame is padding
    assert max(lengths) == 1024 * 160 + 400


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    folder = tmp_path_factory.mktemp("clips")
    return [Clip(f"{i}", write_clip(folder / f"{i}.mp4", 18 + i), "x", "train") for i in range(3)]


def test_a_cache_begun_with_torchaudio_is_continued_without_it(
    clips: list[Clip], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    extract(clips[:2], tmp_path / "cache", DEMO)
    extract(clips, tmp_path / "with", DEMO)
    request.getfixturevalue("no_torchaudio")
    summary = extract(clips, tmp_path / "cache", DEMO)
    assert (summary.done, summary.already, summary.failures) == (1, 2, [])
    extract(clips, tmp_path / "without", DEMO)
    caches = [TokenCache(tmp_path / name) for name in ("cache", "with", "without")]
    assert caches[0].info == caches[1].info == caches[2].info
    mixed, made_with, made_without = (cache.read([clip.id for clip in clips]).audio for cache in caches)
    assert np.allclose(made_with, made_without, atol=1e-4) and np.allclose(mixed, made_with, atol=1e-4)


def test_decode_workers_do_without_a_broken_torchaudio(
    clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = tmp_path / "tried"
    (tmp_path / "torchaudio.py").write_text(
        f"open({str(tried)!r}, 'w').close()\nraise RuntimeError('wrong CUDA')"
    )
    monkeypatch.syspath_prepend(tmp_path)  # a worker gets it too
    summary = extract(clips, tmp_path / "cache", replace(DEMO, workers=1))
    assert tried.exists() and (summary.done, summary.failures) == (3, [])
