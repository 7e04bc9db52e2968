"""Clips whose pictures tell their number and whose sound tells its second, with packets at odd times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.packet import Packet
from av.stream import Stream
from support.clip_files import number_of, numbered

from avcil.extract.media.contract import DecodedClip

RATE_HZ = 48_000
LOWEST_HZ, STEP_HZ = 400, 150  # the tone of second s is LOWEST_HZ + s * STEP_HZ


@dataclass(frozen=True)
class TimedClip:
    """How to write a clip.

    `picture_s`, `sound_s`: from when to when there is a picture and a sound; the number of a picture and the
    pitch of the sound are those of their time. `level`: of the sound, of full scale; `is_opposite`: every
    second channel is the negative of the first. `hole_s`: from when to when packets of sound are left out;
    `origin_s`: added to all times; `gop`: pictures to a key frame.
    """

    picture_s: tuple[float, float] = (0.0, 4.0)
    sound_s: tuple[float, float] = (0.0, 4.0)
    hole_s: tuple[float, float] | None = None
    origin_s: float = 0.0
    fps: int = 25
    gop: int = 12
    codec: str = "libx264"
    sound: str = "aac"
    layout: str = "stereo"
    level: float = 0.4
    is_opposite: bool = False
    form: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    sound_options: dict[str, str] = field(default_factory=dict)


def write_timed(path: Path, clip: TimedClip = TimedClip()) -> Path:
    """Write a clip in the container of the path's ending or of its `form`."""
    with av.open(str(path), "w", format=clip.form) as file:
        video = file.add_stream(clip.codec, rate=clip.fps, options={"preset": "ultrafast"} | clip.options)
        video.width, video.height, video.pix_fmt, video.gop_size = 256, 64, "yuv420p", clip.gop
        video.codec_context.time_base = Fraction(1, clip.fps)
        sound = file.add_stream(clip.sound, rate=RATE_HZ, layout=clip.layout, options=clip.sound_options)
        first, last = (round(time_s * clip.fps) for time_s in clip.picture_s)
        shown = []
        for i in range(first, last):
            frame = av.VideoFrame.from_ndarray(numbered(i), format="rgb24")
            frame.pts, frame.time_base = i + round(clip.origin_s * clip.fps), Fraction(1, clip.fps)
            shown.append(frame)
        packets = [packet for frame in [*shown, None] for packet in video.encode(frame)]
        heard = sound_packets(sound, clip)
        mux(file, [*packets, *heard])
    return path


def sound_packets(sound: AudioStream, clip: TimedClip) -> list[Packet[Stream]]:
    """Encode the sound of a clip."""
    begin = round(clip.sound_s[0] * RATE_HZ)
    samples = clip.level * staircase(*clip.sound_s, sound.layout.nb_channels)
    samples[1::2] *= -1 if clip.is_opposite else 1
    size = sound.codec_context.frame_size or 1024
    resampler = av.AudioResampler(sound.format, sound.layout, RATE_HZ, frame_size=size)
    packets = []
    for at in range(0, samples.shape[1], size):
        frame = av.AudioFrame.from_ndarray(_packed(samples[:, at : at + size]), "flt", sound.layout)
        frame.rate, frame.time_base = RATE_HZ, Fraction(1, RATE_HZ)
        frame.pts = begin + at + round(clip.origin_s * RATE_HZ)
        packets += [packet for part in resampler.resample(frame) for packet in sound.encode(part)]
    packets += sound.encode(None)
    if clip.hole_s is None:
        return packets
    left, right = (time_s + clip.origin_s for time_s in clip.hole_s)
    return [packet for packet in packets if not left <= (packet.pts or 0) * packet.time_base < right]


def staircase(begin_s: float, end_s: float, channels: int) -> np.ndarray:
    """float32 [channels, samples]: in every second another tone at full scale."""
    t_s = np.arange(round(begin_s * RATE_HZ), round(end_s * RATE_HZ)) / RATE_HZ
    second = np.floor(t_s)
    wave = np.sin(2 * np.pi * (LOWEST_HZ + STEP_HZ * second) * (t_s - second))
    return np.tile(wave.astype(np.float32), (channels, 1))


def mux(file: av.container.OutputContainer, packets: Sequence[Packet[Stream]]) -> None:
    """Write packets in the order of their times."""
    for packet in sorted(packets, key=lambda packet: float((packet.dts or 0) * packet.time_base)):
        file.mux(packet)


def joined(path: Path, *clips: TimedClip) -> Path:
    """Write clips one behind the other into one file, each with its own times."""
    parts = []
    for i, clip in enumerate(clips):
        part = path.with_name(f"{path.stem}.{i}{path.suffix}")
        parts.append(write_timed(part, replace(clip)).read_bytes())
    path.write_bytes(b"".join(parts))
    return path


def numbers_by_time(decoded: DecodedClip, fps: int = 25) -> set[int]:
    """By how much the number of a picture differs from that of its time: {0} where all are in place."""
    return {
        number_of(frame) - round(time_s * fps)
        for frame, time_s in zip(decoded.frames, decoded.frame_times_s.tolist(), strict=True)
    }


def seconds_heard(decoded: DecodedClip) -> str:
    """The second that each whole half second of sound tells, `-` for silence, `?` for anything else."""
    rate_hz, text = decoded.sample_rate_hz, ""
    wave = decoded.audio[np.abs(decoded.audio).mean(1).argmax()]
    for at in range(0, len(wave) - rate_hz // 2 + rate_hz // 20, rate_hz // 2):
        part = wave[at + rate_hz // 8 : at + 3 * rate_hz // 8]  # the middle
        if np.abs(part).max() < 0.02:
            text += "-"
            continue
        hz = np.abs(np.fft.rfft(part * np.hanning(len(part)), rate_hz)).argmax()
        second = (hz - LOWEST_HZ) / STEP_HZ
        text += f"{round(second):x}" if abs(second - round(second)) < 0.15 else "?"
    return text


def moved(path: Path, copy: Path, shift: Callable[[float], float], form: str | None = None) -> Path:
    """Copy a file with other times: `shift` gives what is added (s) at a time (s)."""
    with av.open(str(path)) as source, av.open(str(copy), "w", format=form) as file:
        tracks = {stream.index: file.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.size:
                ticks = round(shift(float((packet.dts or 0) * packet.time_base)) / packet.time_base)
                packet.pts, packet.dts = (packet.pts or 0) + ticks, (packet.dts or 0) + ticks
                packet.stream = tracks[packet.stream_index]
                file.mux(packet)
    return copy


def _packed(samples: np.ndarray) -> np.ndarray:
    """float32 [channels, samples] as PyAV takes them for a packed format, [1, samples * channels]."""
    return np.ascontiguousarray(samples.T.reshape(1, -1))
