"""The sound of an open file, decoded with PyAV: native channels and rate, as float, each part at its time."""

from __future__ import annotations

import ctypes
import math
import sys
from dataclasses import dataclass, field

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.error import FFmpegError
from numpy.typing import NDArray

from avcil.extract.media.contract import DecodeRequest, failure
from avcil.extract.media.opening import Media, allowed_losses, reason

SILENCE_HZ = 16_000
MIN_SILENCE_S = 0.1  # more than any analysis window
JITTER_S = 0.015  # by which time stamps may miss the count of samples: less than a frame of any codec
MAX_BYTES = 8 * 2**30  # of sound without a limit of its length
SAFE_PLANES = 8  # PyAV 18 reads over the end of a list of as many, and crashes


@dataclass(frozen=True)
class Sound:
    """Samples float32 [channels, samples], their rate, and where they end (s, from the file's start)."""

    samples: NDArray[np.float32]
    rate_hz: int
    end_s: float


@dataclass
class _Track:
    """Samples from `begin_s` to at most `limit_s` (s), put together from the parts of a track.

    A part begins where the one before ended, if its time stamp agrees to `JITTER_S`, otherwise at its time:
    a hole is filled with silence, and what lies behind the end of the part before is dropped.
    """

    begin_s: float
    limit_s: float
    rate_hz: int = 0
    channels: int = 1
    _parts: list[NDArray[np.float32]] = field(default_factory=list)
    _n: int = 0  # samples so far
    _next: int | None = None  # where the next part should begin

    @property
    def end_s(self) -> float:
        """Where the last part ends (s)."""
        return self.begin_s + (self._next or 0) / self.rate_hz

    def add(self, samples: NDArray[np.float32], time_s: float | None) -> None:
        """Add a part [channels, samples] that sounds from `time_s` on, None for right after the last."""
        at = 0 if self._next is None else self._next
        if time_s is not None:
            stamped = round((time_s - self.begin_s) * self.rate_hz)
            if self._next is None or abs(stamped - at) > JITTER_S * self.rate_hz:
                at = stamped
        self._next = at + samples.shape[1]
        if at != self._n:
            self._fill(at)
            samples = samples[:, max(0, self._n - at) :]
        self._append(samples)

    def fill_until(self, time_s: float) -> None:
        """Fill what lacks up to a moment with silence."""
        self.rate_hz = self.rate_hz or SILENCE_HZ
        self._fill(round((min(time_s, self.limit_s) - self.begin_s) * self.rate_hz))

    def samples(self) -> NDArray[np.float32]:
        """Give all of it [channels, samples]."""
        return np.concatenate(self._parts, axis=1) if self._parts else np.zeros((1, 0), np.float32)

    def _fill(self, until: int) -> None:
        until = min(until, self._limit)
        if 4 * self.channels * until > MAX_BYTES:
            raise failure("out-of-memory", f"{until / self.rate_hz:.0f} s of sound do not fit into memory")
        if until > self._n:
            self._append(np.zeros((self.channels, until - self._n), np.float32))

    def _append(self, samples: NDArray[np.float32]) -> None:
        left = self._limit - self._n
        if samples.shape[1] > left:
            samples = samples[:, : max(0, left)]
        if samples.shape[1]:
            self._parts.append(samples)
            self._n += samples.shape[1]

    @property
    def _limit(self) -> int:
        """How many samples are wanted."""
        if math.isinf(self.limit_s):
            return sys.maxsize
        return round(self.limit_s * self.rate_hz) - round(self.begin_s * self.rate_hz)


def read_sound(media: Media, request: DecodeRequest) -> Sound | None:
    """Decode the sound, cut to the request's window, in the channels and at the rate that it begins with.

    None: there is none, and the request allows that.
    """
    packets, track, converter = (
        media.packets.sound,
        _Track(request.begin_s, request.sound_end_s),
        _Converter(),
    )
    n_failed, n_early, last_error = 0, 0, ""  # early: before the first that can be decoded
    for packet in [*packets.held, None] if media.audio is not None else []:
        try:
            frames = media.audio.codec_context.decode(packet) if media.audio is not None else []
        except FFmpegError as error:
            n_failed, last_error = n_failed + 1, reason(error)
            n_early += not track.rate_hz
            continue
        for frame in frames:
            samples = converter.convert(frame)
            track.rate_hz, track.channels = converter.rate_hz, converter.channels
            track.add(samples, None if frame.time is None else frame.time - media.origin_s)
    n_lost = n_failed - n_early if track.rate_hz and media.packets.may_begin_midway else n_failed
    if n_lost > allowed_losses(len(packets.held)) or (n_failed and not track.rate_hz):
        raise failure("corrupt", f"{n_lost} of {len(packets.held)} sound packets fail ({last_error})")
    if packets.goes_on_s is not None:
        track.fill_until(packets.goes_on_s)
    audio = track.samples()
    if not audio.shape[1]:
        if request.may_lack_audio:
            return None
        if request.is_window and packets.n_taken:
            raise failure("empty-window", f"no sound between {request.start_s} s and {request.end_s} s")
        raise failure("no-audio", "the sound track holds no sample")
    if not np.isfinite(audio).all():
        raise failure("corrupt", "the sound holds values that are not numbers")
    return Sound(audio, track.rate_hz, track.end_s)


def silence(request: DecodeRequest, picture_end_s: float) -> Sound:
    """Make the sound of a clip that has none: zeros, one channel, as long as the picture (its end in s)."""
    end_s = min(request.sound_end_s, picture_end_s)
    length_s = max(MIN_SILENCE_S, end_s - request.begin_s)
    return Sound(np.zeros((1, round(length_s * SILENCE_HZ)), np.float32), SILENCE_HZ, end_s)


class _Converter:
    """Converts frames to float32 [channels, samples] with full scale 1, all as the first one's.

    Frames of another rate or layout are resampled and mixed down, or up, by FFmpeg.
    """

    def __init__(self) -> None:
        self.rate_hz, self.channels, self._layout = 0, 0, ""
        self._resamplers: dict[tuple[str, ...], AudioResampler] = {}

    def convert(self, frame: AudioFrame) -> NDArray[np.float32]:
        """Convert a frame."""
        channels, layout = frame.layout.nb_channels, frame.layout.name
        if "(" in layout or "ambisonic" in layout:  # maybe a custom one, which PyAV 18 frees with the frame
            ctypes.pythonapi.Py_IncRef(
                ctypes.py_object(frame.layout)
            )  # and once more on its own, and crashes
        if frame.sample_rate <= 0 or channels <= 0:
            raise failure("corrupt", "the sound has no rate or no channels")
        if not self.rate_hz:
            self.rate_hz, self.channels, self._layout = frame.sample_rate, channels, layout
        if (frame.sample_rate, channels) == (self.rate_hz, self.channels):
            if not frame.format.is_planar or channels < SAFE_PLANES:
                return _samples(frame)
            return self._through(frame, frame.format.packed.name, layout, self.rate_hz)
        return self._through(frame, "flt", self._layout, self.rate_hz)

    def _through(self, frame: AudioFrame, form: str, layout: str, rate_hz: int) -> NDArray[np.float32]:
        key = (frame.format.name, frame.layout.name, str(frame.sample_rate), layout)
        if key not in self._resamplers:
            self._resamplers[key] = AudioResampler(form, layout, rate_hz)
        try:
            parts = [_samples(part) for part in self._resamplers[key].resample(frame)]
        except (FFmpegError, ValueError) as error:
            detail = f"sound in {frame.layout.name!r} cannot be mixed to {layout!r} ({reason(error)})"
            raise failure("unsupported", detail) from error
        return np.concatenate(parts, axis=1) if parts else np.zeros((self.channels, 0), np.float32)


def _samples(frame: AudioFrame) -> NDArray[np.float32]:
    """Convert a frame's samples to float32 [channels, samples] with full scale 1, without FFmpeg's mixer."""
    raw = np.asarray(frame.to_ndarray())
    if not frame.format.is_planar:
        raw = raw.reshape(-1, frame.layout.nb_channels).T
    if raw.dtype.kind == "f":
        return raw.astype(np.float32, copy=False)
    scale, zero = (128.0, 128) if raw.dtype.kind == "u" else (2.0 ** (8 * raw.itemsize - 1), 0)
    samples: NDArray[np.float32] = (raw.astype(np.float32) - np.float32(zero)) / np.float32(scale)
    return samples
