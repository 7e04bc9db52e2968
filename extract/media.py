"""Owns opening a media file with PyAV: its tracks, its packets, and when a track counts as corrupt.

A track is `corrupt` where more than `MAX_LOST` of it (and more than two packets) fails to decode, is flagged
as damaged by the decoder, or ends before the length that its container declares.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import av.logging
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from avcil.extract.decode import failure

MAX_LOST = 0.05


@dataclass(frozen=True)
class Media:
    """An open file: its picture and sound track and their packets in file order.

    `origin_s`: where its time begins; `length_s`: the whole length that it declares, 0 if none.
    """

    video: VideoStream
    audio: AudioStream
    video_packets: list[Packet[Stream]]
    audio_packets: list[Packet[Stream]]
    origin_s: float
    length_s: float
    is_avi: bool


@contextmanager
def open_media(path: Path) -> Iterator[Media]:
    """Open a file, choose its tracks and collect their packets; raises `DecodeError`."""
    av.logging.set_level(None)
    try:
        container = av.open(str(path), metadata_errors="ignore")
    except (FFmpegError, ValueError) as error:
        raise failure("unreadable", f"not a media file that FFmpeg can open ({reason(error)})") from error
    with container:
        video, audio = _tracks(container)
        yield _demux(container, video, audio)


def require_whole(media: Media, picture_end_s: float, sound_end_s: float) -> None:
    """Raise `corrupt` where a track ends (s, from the file's start) before its container says."""
    picture_declared_s = _declared_end_s(media, media.video)
    sound_declared_s = _declared_end_s(media, media.audio)
    tracks = [("picture", picture_end_s, picture_declared_s), ("sound", sound_end_s, sound_declared_s)]
    if not (picture_declared_s or sound_declared_s):  # Matroska declares one length for the whole file
        tracks = [("file", max(picture_end_s, sound_end_s), media.length_s)]
    for name, end_s, declared_s in tracks:
        if end_s < (1 - MAX_LOST) * declared_s - 0.1:
            raise failure(
                "corrupt", f"the {name} ends after {end_s:.2f} s of {declared_s:.2f} s: is it cut off?"
            )


def _declared_end_s(media: Media, stream: VideoStream | AudioStream) -> float:
    """Give where a track should end, or 0 where nothing says so."""
    if media.is_avi and isinstance(stream, VideoStream) and stream.average_rate:
        # FFmpeg shortens the length of a cut AVI to what is there; the header's count of frames stays.
        return float(stream.frames / stream.average_rate)
    if not stream.duration or stream.time_base is None:
        return 0.0
    return float((stream.duration + (stream.start_time or 0)) * stream.time_base) - media.origin_s


def allowed_losses(n: int) -> int:
    """Give how many of `n` packets or frames may be lost."""
    return max(2, int(MAX_LOST * n))


def reason(error: Exception) -> str:
    """Give FFmpeg's words for an error, without its numbers and file names."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()


def _tracks(container: InputContainer) -> tuple[VideoStream, AudioStream]:
    moving = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not moving:
        cover = " (only a cover image)" if container.streams.video else ""
        raise failure("no-video", f"no picture track{cover}")
    if not container.streams.audio:
        raise failure("no-audio", "no sound track")
    video, audio = moving[0], container.streams.audio[0]
    for name, stream in (("picture", video), ("sound", audio)):
        if stream.codec_context is None:  # PyAV makes none where FFmpeg has no decoder
            raise failure("unsupported", f"no decoder for the codec of the {name} track")
        stream.codec_context.thread_count = 1  # one thread a clip: the cores decode different clips
        stream.codec_context.thread_type = "NONE"
    return video, audio


def _demux(container: InputContainer, video: VideoStream, audio: AudioStream) -> Media:
    video_packets: list[Packet[Stream]] = []
    audio_packets: list[Packet[Stream]] = []
    try:
        for packet in container.demux(video, audio):
            if packet.size:
                (video_packets if packet.stream_index == video.index else audio_packets).append(packet)
    except FFmpegError as error:
        if not video_packets:
            raise failure("corrupt", f"the file cannot be read ({reason(error)})") from error
    origin_s = (container.start_time or 0) / av.time_base
    length_s = (container.duration or 0) / av.time_base
    is_avi = container.format.name == "avi"
    return Media(video, audio, video_packets, audio_packets, origin_s, length_s, is_avi)
