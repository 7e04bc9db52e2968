"""The sound of an open file, decoded with PyAV: native channels and rate, as float."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from av.audio.frame import AudioFrame
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Stream
from numpy.typing import NDArray

from avcil.extract.media.contract import DecodeRequest, failure
from avcil.extract.media.opening import Media, allowed_losses, reason
from avcil.extract.media.packets import RUN_UP_S, time_s

SILENCE_HZ = 16_000
MIN_SILENCE_S = 0.1  # more than any analysis window


@dataclass(frozen=True)
class Sound:
    """Samples float32 [channels, samples], their rate, and where the whole track ends."""

    samples: NDArray[np.float32]
    rate_hz: int
    end_s: float


def read_sound(media: Media, request: DecodeRequest) -> Sound | None:
    """Decode the sound, cut to the request's window, in its native channels and rate.

    None: there is none, and the request allows that.
    """
    packets = _needed(media, request)
    parts: list[NDArray[np.float32]] = []
    rate_hz, n_samples, n_failed, first_s, last_error = 0, 0, 0, 0.0, ""
    for packet in [*packets, None]:
        try:
            frames = media.audio.codec_context.decode(packet) if media.audio is not None else []
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
    if n_failed > allowed_losses(len(packets)) or (n_failed and not n_samples):
        raise failure("corrupt", f"{n_failed} of {len(packets)} sound packets fail ({last_error})")
    audio = np.concatenate(parts, axis=1) if parts else np.zeros((1, 0), np.float32)
    if not audio.shape[1]:
        if request.may_lack_audio:
            return None
        if n_samples or packets != media.packets.sound:
            raise failure("empty-window", f"no sound between {request.start_s} s and {request.end_s} s")
        raise failure("no-audio", "the sound track holds no sample")
    if not np.isfinite(audio).all():
        raise failure("corrupt", "the sound holds values that are not numbers")
    return Sound(audio, rate_hz, first_s + n_samples / rate_hz)


def silence(request: DecodeRequest, picture_end_s: float) -> Sound:
    """Make the sound of a clip that has none: zeros, one channel, as long as the picture (its end in s)."""
    end_s = picture_end_s if request.end_s is None else min(request.end_s, picture_end_s)
    length_s = max(MIN_SILENCE_S, end_s - max(0.0, request.start_s or 0.0))
    return Sound(np.zeros((1, round(length_s * SILENCE_HZ)), np.float32), SILENCE_HZ, end_s)


def _needed(media: Media, request: DecodeRequest) -> list[Packet[Stream]]:
    """Leave out the packets far enough before the window and those behind it."""
    packets = media.packets.sound
    if media.audio is None or not request.is_window or any(packet.pts is None for packet in packets):
        return packets
    begins_s = [time_s(packet.pts or 0, media.audio, media.origin_s) for packet in packets]
    earliest_s = float("-inf") if request.start_s is None else request.start_s - RUN_UP_S
    first = max(0, sum(begin_s <= earliest_s for begin_s in begins_s) - 1)
    last = sum(request.end_s is None or begin_s < request.end_s for begin_s in begins_s)
    return packets[first:last]


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
