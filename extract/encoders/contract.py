"""Owns what an encoder is to the road: what it is given, what it gives back, how it is known. Runs nothing.

Letters: B batch, N frames, T time, S space, D width, F mel frames, M mel bins.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn


@dataclass(frozen=True)
class FramesInput:
    """Pixels float32 [B, N, image_size, image_size, 3], (value / 255 - mean) / std, `n_frames` = N.

    `mean` and `std` per channel (red, green, blue); None: those of the recipe, ImageNet's.
    """

    n_frames: int = 16
    image_size: int = 224
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        _require_positive(self, ("n_frames", "image_size"))
        if self.n_frames < 2:
            raise ValueError(f"FramesInput: n_frames is {self.n_frames}; it must be at least 2")
        if self.std is not None and min(self.std) <= 0:
            raise ValueError(f"FramesInput: std is {self.std}; it must be above 0")


@dataclass(frozen=True)
class MelInput:
    """Log-mel spectrogram float32 [B, F, M], `mel_frames` = F of 10 ms, `mel_bins` = M.

    `mean_std`: log-mel x becomes (x - mean) / (2 * std); None: as the recipe says, like `sample_rate_hz`.
    """

    mel_frames: int = 1024
    mel_bins: int = 128
    sample_rate_hz: int | None = None
    mean_std: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        _require_positive(self, ("mel_frames", "mel_bins", "sample_rate_hz"))
        if self.mean_std is not None and self.mean_std[1] <= 0:
            raise ValueError(f"MelInput: the deviation in mean_std is {self.mean_std[1]}; it must be above 0")


@dataclass(frozen=True)
class WaveformInput:
    """Mono waveform float32 [B, n_samples], full scale 1, cut or padded with 0 at its end."""

    n_samples: int
    sample_rate_hz: int = 16_000

    def __post_init__(self) -> None:
        _require_positive(self, ("n_samples", "sample_rate_hz"))


AudioInput = MelInput | WaveformInput


@dataclass(frozen=True)
class OwnEncoder:
    """A frozen network of a user's, and what has to be known of it.

    Attributes:
        module: takes one tensor as `input` says and gives one tensor [B, *token_shape].
        name: goes into the cache and into the fingerprint. Change it when the code changes what it computes:
            only weights, not code, are looked at.
        input: what the module is given; decides whether it is a visual or an audio encoder.
        token_shape: (T, S, D) of a visual encoder, (D,) of an audio encoder.
        weights: says in words where the weights come from.
        fingerprint: 64 hexadecimal digits that change with the weights; None: computed from all of them.
    """

    module: nn.Module = field(repr=False)
    name: str
    input: FramesInput | MelInput | WaveformInput
    token_shape: tuple[int, ...]
    weights: str = ""
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.module, nn.Module):
            raise ValueError(f"module is a {type(self.module).__name__}, not a torch.nn.Module")
        if not isinstance(self.input, FramesInput | MelInput | WaveformInput):
            raise ValueError(
                f"input is a {type(self.input).__name__}; it must be a FramesInput, MelInput or WaveformInput"
            )
        if not self.name:
            raise ValueError("name is empty")
        axes = 3 if isinstance(self.input, FramesInput) else 1
        if len(self.token_shape) != axes or any(type(n) is not int or n < 1 for n in self.token_shape):
            expected = "(T, S, D)" if axes == 3 else "(D,)"
            raise ValueError(
                f"token_shape is {self.token_shape!r}; it must be {expected}, whole numbers above 0"
            )


def _require_positive(what: object, names: tuple[str, ...]) -> None:
    for name in names:
        value = getattr(what, name)
        if value is not None and value < 1:
            raise ValueError(f"{type(what).__name__}: {name} is {value}; it must be at least 1")
