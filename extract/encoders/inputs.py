"""What an encoder is given: frames, a log-mel spectrogram or a waveform, of which size.

Letters: B batch, N frames, F mel frames, M mel bins.
"""

from __future__ import annotations

from dataclasses import dataclass


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


def _require_positive(what: object, names: tuple[str, ...]) -> None:
    for name in names:
        value = getattr(what, name)
        if value is not None and value < 1:
            raise ValueError(f"{type(what).__name__}: {name} is {value}; it must be at least 1")
