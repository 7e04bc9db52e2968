"""Encoders of users: what they have to say of themselves, and what is said to them when it does not hold."""

import dataclasses
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import avcil
from avcil.cache import WeightsOrigin
from avcil.errors import EncoderError
from avcil.extract.encoders.encoder import Encoder
from avcil.extract.encoders.inputs import FramesInput, MelInput, WaveformInput
from avcil.extract.encoders.registry import build_encoder
from avcil.extract.prepare import PreparedClip
from avcil.extract.recipe import Recipe, audio_input, recommended
from avcil.extract.tokens import TokenEncoder

ROOT = Path(avcil.__file__).resolve().parent


class Mean(nn.Module):
    """[B, N, H, W, 3] -> [B, N, 1, 3], or [B, n] -> [B, 2]."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.register_buffer("count", torch.tensor(3))

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 5:
            return self.scale * x.mean((2, 3))[:, :, None]
        return torch.stack([x.mean(1), x.abs().amax(1)], 1)


FRAMES = Encoder(Mean(), "frames", FramesInput(4, 8, (0.5,) * 3, (0.25,) * 3), (4, 1, 3))
WAVE = Encoder(Mean(), "wave", WaveformInput(1000, 8000), (2,))


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> Callable[[object], str]:
    """Make `mine:factory` a function that gives this, or is this."""

    def name(given: object) -> str:
        module = type(sys)("mine")
        module.factory = given if callable(given) else lambda weights: given  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "mine", module)
        return "mine:factory"

    return name


def token_encoder(visual: Encoder, named: Callable[[object], str], audio: str = "demo") -> TokenEncoder:
    built = build_encoder("visual", named(visual))
    return TokenEncoder.make(built, build_encoder("audio", audio), recommended(), "cpu", "fp32")


def test_a_module_gets_pixels_as_it_asked_for_them(named: Callable[[object], str]) -> None:
    encoder = token_encoder(FRAMES, named)
    recipe = encoder.recipe
    assert (recipe.n_frames, recipe.image_size) == (4, 8)
    assert (recipe.pixel_mean, recipe.pixel_std) == ((0.5,) * 3, (0.25,) * 3)
    clip = PreparedClip(np.full((4, 8, 8, 3), 255, np.uint8), np.zeros((384, 128), np.float32))
    tokens = encoder.encode([clip, clip])
    assert tokens.visual.shape == (2, 4, 1, 3) and np.allclose(tokens.visual, 2)
    assert encoder.info.visual.shape == (4, 1, 3) and encoder.info.visual_encoder.name == "frames"
    assert not encoder.visual.module.training
    assert not any(parameter.requires_grad for parameter in encoder.visual.module.parameters())


def test_a_module_gets_the_waveform(named: Callable[[object], str]) -> None:
    audio = build_encoder("audio", named(WAVE))
    encoder = TokenEncoder.make(build_encoder("visual", "demo"), audio, recommended(), "cpu", "fp32")
    recipe = encoder.recipe
    assert (recipe.wave_samples, recipe.sample_rate_hz) == (1000, 8000)
    assert Recipe.from_dict(encoder.info.recipe) == recipe
    short = audio_input(np.full((2, 800), 0.5, np.float32), 8000, recipe)
    assert short.shape == (1000,) and short.sum() == pytest.approx(400)
    long = audio_input(np.full((1, 4000), 0.5, np.float32), 16_000, recipe)
    assert long.shape == (1000,) and long[100:900] == pytest.approx(0.5, abs=0.01)
    clips = [PreparedClip(np.zeros((16, 64, 64, 3), np.uint8), wave) for wave in (short, long)]
    assert encoder.encode(clips).audio == pytest.approx(np.array([[0.4, 0.5], [long.mean(), long.max()]]))


def test_a_module_gets_the_spectrogram_it_asked_for() -> None:
    recipe = recommended().fitted(FramesInput(), MelInput(50, 40, 8000, mean_std=(0.0, 0.5)))
    mel = audio_input(np.random.default_rng(0).normal(size=(1, 16_000)).astype(np.float32), 16_000, recipe)
    assert mel.shape == (50, 40) and (recipe.mel_mean, recipe.mel_std) == (0, 0.5)
    assert recommended().fitted(FramesInput(), MelInput()) == recommended()


def test_a_recipe_without_waveform_is_written_as_ever() -> None:
    assert "wave_samples" not in recommended().to_dict()


def test_the_fingerprint_follows_weights_name_and_input(named: Callable[[object], str]) -> None:
    louder = Mean()
    louder.scale.data.fill_(2)
    counted = Mean()
    counted.count.fill_(4)
    variants = [
        FRAMES,
        dataclasses.replace(FRAMES, module=louder),
        dataclasses.replace(FRAMES, module=counted),
        dataclasses.replace(FRAMES, name="other"),
        dataclasses.replace(FRAMES, input=FramesInput(4, 9, (0.5,) * 3, (0.25,) * 3)),
        dataclasses.replace(FRAMES, fingerprint="ab" * 32),
    ]
    prints = [build_encoder("visual", named(one)).info.fingerprint for one in variants]
    assert len(set(prints)) == len(variants) and prints[-1] == "ab" * 32
    assert (
        build_encoder("visual", named(dataclasses.replace(FRAMES, module=Mean()))).info.fingerprint
        == prints[0]
    )


def test_a_factory_is_given_the_weights(named: Callable[[object], str]) -> None:
    def factory(weights: str | None) -> Encoder:
        return dataclasses.replace(WAVE, weights=WeightsOrigin("own", f"from {weights}"))

    assert build_encoder("audio", named(factory), "x.pt").info.weights.words == "from x.pt"
    assert build_encoder("audio", named(factory)).modality == "audio"


def test_what_is_wrong_with_a_factory_is_said(named: Callable[[object], str]) -> None:
    def failing(weights: str | None) -> Encoder:
        raise FileNotFoundError("no weights")

    for given, words in [
        (failing, r"the factory failed \(FileNotFoundError: no weights\)"),
        (3, "the factory gave a int, not an Encoder"),
        (WAVE, "'wave' takes WaveformInput; a visual encoder takes FramesInput"),
        (lambda weights: dataclasses.replace(FRAMES, fingerprint="xyz"), "fingerprint 'xyz' is not 64"),
        (lambda weights: dataclasses.replace(FRAMES, token_shape=(3,)), r"token_shape is \(3,\); it must be"),
    ]:
        with pytest.raises(EncoderError, match=f"^--visual-encoder mine:factory: .*{words}"):
            build_encoder("visual", named(given))
    for name, words in [
        ("nowhere_at_all:f", "cannot import 'nowhere_at_all'"),
        ("json:f", "'json' has no 'f'"),
    ]:
        with pytest.raises(EncoderError, match=words):
            build_encoder("audio", name)


def test_tokens_of_another_shape_are_refused(named: Callable[[object], str]) -> None:
    encoder = token_encoder(dataclasses.replace(FRAMES, token_shape=(4, 1, 5)), named)
    clip = PreparedClip(np.zeros((4, 8, 8, 3), np.uint8), np.zeros((384, 128), np.float32))
    with pytest.raises(EncoderError, match=r"'frames' gives tokens \[1, 4, 1, 3\] instead of \[1, 4, 1, 5\]"):
        encoder.encode([clip])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: FramesInput(n_frames=1), "n_frames is 1; it must be at least 2"),
        (lambda: FramesInput(std=(1, 0, 1)), "std is"),
        (lambda: MelInput(mel_bins=0), "mel_bins is 0"),
        (lambda: MelInput(mean_std=(0, 0)), "deviation"),
        (lambda: WaveformInput(0), "n_samples is 0"),
        (lambda: dataclasses.replace(WAVE, name=""), "name is empty"),
        (lambda: dataclasses.replace(WAVE, module=3), "module is a int"),
        (lambda: dataclasses.replace(WAVE, input=3), "input is a int"),
        (lambda: dataclasses.replace(WAVE, token_shape=(0,)), "token_shape is"),
        (lambda: dataclasses.replace(WAVE, weights="words"), "weights is a str"),
    ],
)
def test_contracts_are_checked(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_the_example_of_the_documentation_works(named: Callable[[object], str]) -> None:
    text = (ROOT / "docs" / "own-encoder.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    space: dict[str, object] = {}
    exec(compile(code, "docs/own-encoder.md", "exec"), space)
    encoder = build_encoder("visual", named(space["factory"]))
    assert encoder.module(torch.zeros(2, 16, 32, 32, 3)).shape == (2, *encoder.token_shape)
