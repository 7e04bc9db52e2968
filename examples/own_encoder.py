"""Encoders of one's own: a small image network frame by frame, and one for sound, of another width.

    avcil extract videos/ --out cache --visual-encoder examples.own_encoder:visual \\
        --audio-encoder examples.own_encoder:audio

Replace the networks by yours (CLIP, EfficientNet, V-JEPA, ...); `docs/own-encoder.md` says what is asked of
them. These have random weights, always the same, unless `--visual-weights` names a file of tensors.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from avcil.cache import WeightsOrigin
from avcil.extract.encoders.encoder import Encoder
from avcil.extract.encoders.inputs import FramesInput, MelInput

N_FRAMES, GRID, VISUAL_WIDTH, AUDIO_WIDTH = 16, 2, 32, 24


class FrameNet(nn.Module):
    """Every frame by itself: pixels [B, N, H, W, 3] -> tokens [B, T = N, S = 4, D]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 16, 4, stride=4),
            nn.GELU(),
            nn.Conv2d(16, VISUAL_WIDTH, 3, stride=2, padding=1),
            nn.GELU(),
            nn.AdaptiveAvgPool2d(GRID),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode a batch of clips; for one vector a frame, as CLIP gives it, S is 1."""
        frames = pixels.flatten(0, 1).permute(0, 3, 1, 2)  # [B * N, 3, H, W]
        tokens = self.layers(frames).flatten(2).transpose(1, 2)  # [B * N, S, D]
        return tokens.unflatten(0, (len(pixels), -1))  # [B, N, S, D]


class SoundNet(nn.Module):
    """Log-mel [B, F, M] -> one vector a clip, [B, D]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, AUDIO_WIDTH, 8, stride=4), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )

    def forward(self, mel: Tensor) -> Tensor:
        """Encode a batch of spectrograms."""
        vectors: Tensor = self.layers(mel[:, None])
        return vectors


def visual(weights: str | None) -> Encoder:
    """Make the visual encoder; `weights` is what follows `--visual-weights`, or None."""
    return Encoder(
        module=_with_weights(FrameNet, weights),
        name="example-frames",
        input=FramesInput(n_frames=N_FRAMES, image_size=64, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        token_shape=(N_FRAMES, GRID**2, VISUAL_WIDTH),
        weights=_origin(weights),
    )


def audio(weights: str | None) -> Encoder:
    """Make the audio encoder; `weights` is what follows `--audio-weights`, or None."""
    return Encoder(
        module=_with_weights(SoundNet, weights),
        name="example-mel",
        input=MelInput(mel_frames=384, mel_bins=64, sample_rate_hz=16_000),
        token_shape=(AUDIO_WIDTH,),
        weights=_origin(weights),
    )


def _origin(weights: str | None) -> WeightsOrigin:
    if weights is None:
        return WeightsOrigin("random", "seed 0")
    return WeightsOrigin("file", "state dict", file=Path(weights).name)


def _with_weights(make: type[nn.Module], weights: str | None) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = make()
    if weights is not None:
        module.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return module
