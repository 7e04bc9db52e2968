"""Log-mel filter bank and resampling: torchaudio's where it imports, a twin in plain torch where it does not.

torchaudio 2.11, its last release, does not import beside every later torch. The twin agrees with it to 1e-4,
so that a cache begun with one is continued with the other.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from fractions import Fraction
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_RATE_PARTS = 2000  # a ratio of larger numbers makes a resampling kernel of gigabytes
ZERO_CROSSINGS, ROLLOFF = 6, 0.99  # torchaudio's: half-width of the resampling filter; cut-off / Nyquist rate
PREEMPHASIS, LOWEST_HZ = 0.97, 20.0  # Kaldi's defaults


@cache
def load_torchaudio() -> Any | None:
    """Import torchaudio, or give None where that fails; asked once, so that a process never changes over."""
    try:
        import torchaudio.compliance.kaldi
        import torchaudio.functional
    except Exception:  # built for another torch or another CUDA, it raises whatever it likes
        return None
    return torchaudio


def filter_bank(wave: Tensor, rate_hz: int, n_bins: int, length_ms: float, shift_ms: float) -> Tensor:
    """Turn a waveform float32 [1, samples] into Kaldi's log-mel filter bank float32 [frames, n_bins].

    Hanning windows of `length_ms` every `shift_ms`, as many as fit; no dither, no energy.
    """
    torchaudio = load_torchaudio()
    if torchaudio is None:
        return filter_bank_twin(wave, rate_hz, n_bins, length_ms, shift_ms)[0]
    return torchaudio.compliance.kaldi.fbank(
        wave,
        sample_frequency=rate_hz,
        num_mel_bins=n_bins,
        frame_length=length_ms,
        frame_shift=shift_ms,
        window_type="hanning",
        htk_compat=True,
        use_energy=False,
        dither=0.0,
    )


def resample(waves: Tensor, rate_hz: int, target_hz: int) -> Tensor:
    """Resample float32 [..., samples] to [..., ceil(samples * target_hz / rate_hz)].

    A ratio of numbers above `MAX_RATE_PARTS` is rounded, by less than 1 / `MAX_RATE_PARTS` of the rate.
    """
    ratio = Fraction(rate_hz, target_hz)
    if max(ratio.numerator, ratio.denominator) > MAX_RATE_PARTS:
        ratio = ratio.limit_denominator(MAX_RATE_PARTS)
    torchaudio = load_torchaudio()
    if torchaudio is None:
        return resample_twin(waves, ratio.numerator, ratio.denominator)
    return torchaudio.functional.resample(waves, ratio.numerator, ratio.denominator)


def filter_bank_twin(waves: Tensor, rate_hz: int, n_bins: int, length_ms: float, shift_ms: float) -> Tensor:
    """Turn waveforms float32 [B, samples] on any device into the filter bank [B, frames, n_bins].

    For each window (https://kaldi-asr.org/doc/feat.html): its mean is removed, then from every sample 0.97 of
    the one before; Hanning, zeros up to a power of 2, power spectrum, triangles of equal width on the mel
    scale, logarithm with float32's epsilon as the floor.
    """
    length, shift = int(rate_hz * length_ms / 1000), int(rate_hz * shift_ms / 1000)
    frames = waves.unfold(-1, length, shift)  # [B, frames, length], a view
    frames = frames - frames.mean(-1, keepdim=True)
    before = F.pad(frames, (1, 0), mode="replicate")[..., :-1]
    window = torch.hann_window(length, periodic=False, device=waves.device)
    n_fft = 2 ** math.ceil(math.log2(length))
    power = torch.fft.rfft((frames - PREEMPHASIS * before) * window, n=n_fft).abs().square()
    mel = power[..., :-1] @ _mel_triangles(rate_hz, n_fft, n_bins).to(waves.device)
    return mel.clamp(min=torch.finfo(torch.float32).eps).log()


def _mel_triangles(rate_hz: int, n_fft: int, n_bins: int) -> Tensor:
    """Weights float32 [n_fft / 2, n_bins]; computed in float32, as in Kaldi: some of them are nearly 0."""
    mel = 1127 * (1 + torch.arange(n_fft // 2) * (rate_hz / n_fft) / 700).log()[:, None]
    low, high = (1127 * math.log(1 + hz / 700) for hz in (LOWEST_HZ, rate_hz / 2))
    edges = low + torch.arange(n_bins + 2) * ((high - low) / (n_bins + 1))
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    return torch.minimum((mel - left) / (centre - left), (right - mel) / (right - centre)).clamp(min=0)


def resample_twin(waves: Tensor, old: int, new: int) -> Tensor:
    """Resample float32 [..., samples] on any device from `old` to `new`, which have no common divisor.

    A sinc that passes what is below 0.99 of the lower Nyquist rate, cut at its 6th zero crossing by a Hann
    window (J. O. Smith, https://ccrma.stanford.edu/~jos/resample/). Output samples j and j + `new` lie alike
    between the input samples: `new` filters, moved by `old` samples at a time, give them all.
    """
    if old == new:
        return waves
    cutoff = ROLLOFF * min(old, new)
    reach = math.ceil(ZERO_CROSSINGS * old / cutoff)  # input samples on each side
    inputs, outputs = torch.arange(-reach, old + reach) / old, torch.arange(new)[:, None] / new  # their times
    t = ((inputs - outputs) * cutoff).clamp(-ZERO_CROSSINGS, ZERO_CROSSINGS)  # [new, taps], in zero crossings
    window = (t * math.pi / ZERO_CROSSINGS / 2).cos().square()
    # Not torch.sinc: it rounds otherwise, and a pure tone's spectrogram is mostly rounding.
    sinc = torch.where(t == 0, 1.0, (t * math.pi).sin() / (t * math.pi))
    filters = (sinc * (window * (cutoff / old)))[:, None].to(waves.device)
    padded = F.pad(waves.reshape(-1, 1, waves.shape[-1]), (reach, reach + old))
    with torch.backends.cudnn.flags(enabled=False) if waves.is_cuda else nullcontext():  # or TF32 rounds
        blocks = F.conv1d(padded, filters, stride=old)  # [B, new, blocks]
    length = int(torch.tensor(waves.shape[-1] * new / old).ceil())  # rounded up in float32, as in torchaudio
    return blocks.transpose(1, 2).reshape(*waves.shape[:-1], -1)[..., :length]
