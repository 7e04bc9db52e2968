"""Recipes: every constant between a decoded clip and the encoders' input, and what applies them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from avcil.errors import EncoderError
from avcil.extract.encoders.inputs import FramesInput, MelInput, WaveformInput
from avcil.extract.media.contract import DecodeRequest, failure
from avcil.extract.mel import filter_bank, resample
from avcil.tables import from_table

SOUND_MARGIN_S = 0.05  # ten times as much as the filter reaches at any rate
MAX_ASPECT = 8.0  # beyond it the far ends are cut before resizing: the centre crop never shows them


@dataclass(frozen=True)
class Recipe:
    """The constants, as data that is stored with the cache.

    `mel_mean`, `mel_std`: log-mel x becomes (x - mean) / (2 * std), or stays as it is where both are None;
    padding to `mel_frames` is with 0 after that. `frame_fps`: see `DecodeRequest`. `crop`: shortest side to
    `image_size` (bilinear, antialiased), then the centre. `wave_samples`: where given, the audio encoder
    takes the waveform, cut or padded to so many samples, and the constants of the spectrogram do not matter.
    """

    name: Literal["recommended", "released"]
    frame_fps: float | None
    channel_rule: Literal["mean", "first"]
    sample_rate_hz: int
    mel_mean: float | None
    mel_std: float | None
    n_frames: int = 16
    image_size: int = 224
    crop: Literal["shortest-side-centre"] = "shortest-side-centre"
    pixel_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # ImageNet
    pixel_std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    mel_bins: int = 128
    mel_frames: int = 1024
    frame_length_ms: float = 25.0
    frame_shift_ms: float = 10.0
    wave_samples: int | None = None

    def request(self, start_s: float | None = None, end_s: float | None = None) -> DecodeRequest:
        """Say what to decode of a clip for this recipe (window in s)."""
        return DecodeRequest(self.n_frames, self.frame_fps, start_s, end_s, sound_s=self.sound_s)

    @property
    def sound_s(self) -> float:
        """How much sound the audio encoder takes, and a little more for the resampling filter."""
        wanted = self._mel_samples if self.wave_samples is None else self.wave_samples
        return wanted / self.sample_rate_hz + SOUND_MARGIN_S

    @property
    def _mel_samples(self) -> int:
        length_ms = self.mel_frames * self.frame_shift_ms + self.frame_length_ms
        return math.ceil(self.sample_rate_hz * length_ms / 1000)

    def to_dict(self) -> dict[str, Any]:
        """Give the recipe as plain JSON values; `wave_samples` only where it is given."""
        values = asdict(self)
        if self.wave_samples is None:
            del values["wave_samples"]
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    def fitted(self, visual: FramesInput, audio: MelInput | WaveformInput) -> Recipe:
        """Give the recipe with the sizes that two encoders ask for, and with whatever else they ask for."""
        frames = replace(
            self,
            n_frames=visual.n_frames,
            image_size=visual.image_size,
            pixel_mean=visual.mean or self.pixel_mean,
            pixel_std=visual.std or self.pixel_std,
        )
        if isinstance(audio, WaveformInput):
            return replace(frames, sample_rate_hz=audio.sample_rate_hz, wave_samples=audio.n_samples)
        mean, std = audio.mean_std or (self.mel_mean, self.mel_std)
        return replace(
            frames,
            sample_rate_hz=audio.sample_rate_hz or self.sample_rate_hz,
            mel_mean=mean,
            mel_std=std,
            mel_frames=audio.mel_frames,
            mel_bins=audio.mel_bins,
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Rebuild a recipe from `to_dict`.

        Raises:
            ValueError: names unknown or missing keys.
            EncoderError: names a value of the wrong type.
        """
        known = {field.name for field in fields(cls)}
        unknown, missing = set(values) - known, known - set(values) - {"wave_samples"}
        if unknown or missing:
            raise ValueError(f"recipe: unknown keys {sorted(unknown)}, missing {sorted(missing)}")
        return from_table(cls, values, EncoderError)


def recommended() -> Recipe:
    """Give the default recipe: 16 kHz, mean of the channels, AudioMAE's normalisation, uniform frames."""
    return Recipe("recommended", None, "mean", 16_000, mel_mean=-4.2677393, mel_std=4.5689974)


def released(frame_fps: float = 8.0) -> Recipe:
    """Give what the authors' scripts do, to compare with their published features; 10 fps for AVE, else 8."""
    return Recipe("released", frame_fps, "first", 11_430, mel_mean=None, mel_std=None)


RECIPES = {"recommended": recommended(), "released": released(), "released-ave": released(10.0)}


def resize_crop(frames: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize the shortest side to `size` and crop the centre: uint8 [N, H, W, 3] -> uint8 [N, size, size, 3].

    Bilinear with antialiasing on uint8, within one grey level of Pillow's, which the published VideoMAE
    preprocessing uses; the long side is rounded down and the crop starts at half the excess, as there.
    """
    pixels = torch.from_numpy(_trim_aspect(frames)).permute(0, 3, 1, 2)  # [N, 3, H, W]
    height, width = pixels.shape[2:]
    short = min(height, width)
    target = (int(size * height / short), int(size * width / short))
    if target != (height, width):
        pixels = F.interpolate(pixels, size=target, mode="bilinear", antialias=True)
    top, left = (target[0] - size) // 2, (target[1] - size) // 2
    return pixels[:, :, top : top + size, left : left + size].permute(0, 2, 3, 1).contiguous().numpy()


def normalise(frames: Tensor, recipe: Recipe) -> Tensor:
    """Scale uint8 [B, N, H, W, 3] to float32 of the recipe's mean and deviation, on the tensor's device."""
    mean = torch.tensor(recipe.pixel_mean, device=frames.device) * 255
    std = torch.tensor(recipe.pixel_std, device=frames.device) * 255
    return (frames.float() - mean) / std


def audio_input(audio: NDArray[np.float32], rate_hz: int, recipe: Recipe) -> NDArray[np.float32]:
    """Turn float32 [channels, samples] into what the audio encoder takes: `log_mel`, or the waveform.

    The waveform is float32 [wave_samples], one channel, cut or padded with 0 at its end.
    """
    if recipe.wave_samples is None:
        return log_mel(audio, rate_hz, recipe)
    wave = _one_channel(audio, rate_hz, recipe)[0, : recipe.wave_samples]
    padded: NDArray[np.float32] = F.pad(wave, (0, recipe.wave_samples - len(wave))).numpy()
    return padded


def log_mel(audio: NDArray[np.float32], rate_hz: int, recipe: Recipe) -> NDArray[np.float32]:
    """Turn float32 [channels, samples] into the log-mel spectrogram float32 [mel_frames, mel_bins].

    Kaldi's filter bank of the waveform less its mean, cut or padded with 0 to `mel_frames`. Raises
    `DecodeError` `no-audio` for less sound than one analysis window.
    """
    wave = _one_channel(audio, rate_hz, recipe)
    length_ms, shift_ms = recipe.frame_length_ms, recipe.frame_shift_ms
    wave = wave[:, : recipe._mel_samples] - wave.mean()  # no spectrogram of what is cut
    mel = filter_bank(wave, recipe.sample_rate_hz, recipe.mel_bins, length_ms, shift_ms)[: recipe.mel_frames]
    if recipe.mel_mean is not None and recipe.mel_std is not None:
        mel = (mel - recipe.mel_mean) / (2 * recipe.mel_std)
    padded: NDArray[np.float32] = F.pad(mel, (0, 0, 0, recipe.mel_frames - len(mel))).numpy()
    return padded


def _one_channel(audio: NDArray[np.float32], rate_hz: int, recipe: Recipe) -> Tensor:
    """One channel at the recipe's rate, [1, samples]; `no-audio` for less than one analysis window."""
    wave = torch.from_numpy(audio)
    wave = wave.mean(0, keepdim=True) if recipe.channel_rule == "mean" else wave[:1]
    wave = resample(wave, rate_hz, recipe.sample_rate_hz)
    n_window = int(recipe.sample_rate_hz * recipe.frame_length_ms / 1000)
    if wave.shape[1] < n_window:
        raise failure("no-audio", f"only {1000 * audio.shape[1] / rate_hz:.0f} ms of sound")
    return wave


def _trim_aspect(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = frames.shape[1:3]
    limit = math.ceil(MAX_ASPECT * min(height, width))
    top, left = max(0, height - limit) // 2, max(0, width - limit) // 2
    return np.ascontiguousarray(frames[:, top : top + limit, left : left + limit])
