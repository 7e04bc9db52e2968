"""Owns the sound of an open file: native channels and rate, as float; knows no picture and no recipe."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from av.audio.frame import AudioFrame
from av.error import FFmpegError
from numpy.typing import NDArray

from avcil.extract.decode import DecodeRequest, failure
from avcil.extract.media import Media, allowed_losses, reason


@dataclass(frozen=True)
class Sound:
    """Samples float32 [channels, samples], their rate, and where the whole track ends."""

    samples: NDArray[np.float32]
    rate_hz: int
    end_s: float


def read_sound(media: Media, request: DecodeRequest) -> Sound:
    """Decode the sound track, cut to the request's window, in its native channels and rate."""
    parts: list[NDArray[np.float32]] = []
    rate_hz, n_samples, n_failed, first_s, last_error = 0, 0, 0, 0.0, ""
    for packet in [*media.audio_packets, None]:
        try:
            frames = media.audio.codec_context.decode(packet)
        except FFmpegError as error:
            n_failed, last_error = n_failed + 1, reason(error)
            continue
        for frame in frames:
            samples = _samples(frame)
            if parts and (frame.sample_rate, len(samples)) != (rate_hz, len(parts[0])):
                raise failure("corrupt", "the sound changes its rate or channels midway")
            rate_hz = frame.sample_rate
            begin_s = frame.time - media.origin_s if frame.time is not None else n_samples / rate_hz
            first_s = first_s if parts else begin_s
            n_samples += samples.shape[1]
            parts.append(_cut(samples, begin_s, rate_hz, request))
    if n_failed > allowed_losses(len(media.audio_packets)) or (n_failed and not n_samples):
        raise failure(
            "corrupt", f"{n_failed} of {len(media.audio_packets)} sound packets fail ({last_error})"
        )
    if not n_samples:
        raise failure("no-audio", "the sound track holds no sample")
    audio = np.concatenate(parts, axis=1)
    if not audio.shape[1]:
        raise failure("empty-window", f"no sound between {request.start_s} s and {request.end_s} s")
    if not np.isfinite(audio).all():
        raise failure("corrupt", "the sound holds values that are not numbers")
    return Sound(audio, rate_hz, first_s + n_samples / rate_hz)


def _samples(frame: AudioFrame) -> NDArray[np.float32]:
    """Convert a frame's samples to float32 [channels, samples] with full scale 1, without FFmpeg's mixer."""
    raw = np.asarray(frame.to_ndarray())
    if not frame.format.is_planar:
        raw = raw.reshape(-1, frame.layout.nb_channels).T
    scale, zero = {"u": (128.0, 128), "i": (2.0 ** (8 * raw.itemsize - 1), 0)}.get(raw.dtype.kind, (1.0, 0))
    samples: NDArray[np.float32] = (raw.astype(np.float32) - np.float32(zero)) / np.float32(scale)
    return samples


def _cut(
    samples: NDArray[np.float32], begin_s: float, rate_hz: int, request: DecodeRequest
) -> NDArray[np.float32]:
    first = 0 if request.start_s is None else round((request.start_s - begin_s) * rate_hz)
    last = samples.shape[1] if request.end_s is None else round((request.end_s - begin_s) * rate_hz)
    return samples[:, max(0, first) : max(0, last)]
