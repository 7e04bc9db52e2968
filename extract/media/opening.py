"""Open media files: tracks, packets, and when a track counts as corrupt.

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
from av.stream import Disposition
from av.video.stream import VideoStream

from avcil.extract.media.contract import DecodeRequest, failure
from avcil.extract.media.packets import Packets, begin_of, has_parts, read_packets, read_part

MAX_LOST = 0.05


@dataclass(frozen=True)
class Media:
    """An open file: its picture track, its sound track (None: it has none, and may), and their packets.

    `origin_s`: where its time begins; `length_s`: the whole length that it declares, 0 if none;
    `has_parts`: a part of it can be read without the rest.
    """

    video: VideoStream
    audio: AudioStream | None
    packets: Packets
    origin_s: float
    length_s: float
    is_avi: bool
    has_parts: bool


@contextmanager
def open_media(path: Path, request: DecodeRequest) -> Iterator[Media]:
    """Open a file, choose its tracks and collect all their packets; raises `DecodeError`."""
    with _open(path) as container:
        video, audio = _tracks(container, request)
        try:
            packets = read_packets(container, path, video, audio)
        except FFmpegError as error:
            raise failure("corrupt", f"the file cannot be read ({reason(error)})") from error
        yield _media(container, video, audio, packets)


@contextmanager
def open_part(path: Path, request: DecodeRequest) -> Iterator[Media | None]:
    """Open a file with the packets that the request's window needs; None where it has to be read whole."""
    with _open(path) as container:
        video, audio = _tracks(container, request)
        try:
            packets = read_part(container, path, video, audio, request) if has_parts(container) else None
        except FFmpegError:  # reading from the start, it may be nothing
            packets = None
        yield None if packets is None else _media(container, video, audio, packets)


def require_whole(
    media: Media, request: DecodeRequest, picture_end_s: float, sound_end_s: float | None
) -> None:
    """Raise `corrupt` where a track ends (s, from the file's start) before its container says.

    Of a window's file only the part up to the window's end has to be there; `sound_end_s=None`: no sound.
    """
    picture_declared_s = _declared_end_s(media, media.video)
    sound_declared_s = _declared_end_s(media, media.audio) if media.audio is not None else 0.0
    tracks = [("picture", picture_end_s, picture_declared_s)]
    if sound_end_s is not None:
        tracks.append(("sound", sound_end_s, sound_declared_s))
    if not (picture_declared_s or sound_declared_s):  # Matroska declares one length for the whole file
        tracks = [("file", max(picture_end_s, sound_end_s or 0.0), media.length_s)]
    for name, end_s, declared_s in tracks:
        needed_s = declared_s if request.end_s is None else min(declared_s, request.end_s)
        if end_s < (1 - MAX_LOST) * needed_s - 0.1:
            raise failure(
                "corrupt", f"the {name} ends after {end_s:.2f} s of {declared_s:.2f} s: is it cut off?"
            )


def allowed_losses(n: int) -> int:
    """Give how many of `n` packets or frames may be lost."""
    return max(2, int(MAX_LOST * n))


def reason(error: Exception) -> str:
    """Give FFmpeg's words for an error, without its numbers and file names."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()


def _open(path: Path) -> InputContainer:
    av.logging.set_level(None)
    try:
        return av.open(str(path), metadata_errors="ignore")
    except (FFmpegError, ValueError) as error:
        raise failure("unreadable", f"not a media file that FFmpeg can open ({reason(error)})") from error


def _tracks(container: InputContainer, request: DecodeRequest) -> tuple[VideoStream, AudioStream | None]:
    moving = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not moving:
        cover = " (only a cover image)" if container.streams.video else ""
        raise failure("no-video", f"no picture track{cover}")
    if not container.streams.audio and not request.may_lack_audio:
        raise failure("no-audio", "no sound track")
    video, audio = moving[0], next(iter(container.streams.audio), None)
    _use_one_thread(video, "picture")
    if audio is not None:
        _use_one_thread(audio, "sound")
    return video, audio


def _use_one_thread(stream: VideoStream | AudioStream, name: str) -> None:
    if stream.codec_context is None:  # PyAV makes none where FFmpeg has no decoder
        raise failure("unsupported", f"no decoder for the codec of the {name} track")
    stream.codec_context.thread_count = 1  # one thread a clip: the cores decode different clips
    stream.codec_context.thread_type = "NONE"


def _media(
    container: InputContainer, video: VideoStream, audio: AudioStream | None, packets: Packets
) -> Media:
    length_s = (container.duration or 0) / av.time_base
    is_avi = container.format.name == "avi"
    return Media(video, audio, packets, begin_of(container), length_s, is_avi, has_parts(container))


def _declared_end_s(media: Media, stream: VideoStream | AudioStream) -> float:
    """Give where a track should end, or 0 where nothing says so."""
    if media.is_avi and isinstance(stream, VideoStream) and stream.average_rate:
        # FFmpeg shortens the length of a cut AVI to what is there; the header's count of frames stays.
        return float(stream.frames / stream.average_rate)
    if not stream.duration or stream.time_base is None:
        return 0.0
    return float((stream.duration + (stream.start_time or 0)) * stream.time_base) - media.origin_s
