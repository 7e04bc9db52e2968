"""The tracks of a file: which picture and which sound stand for it, as players choose."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypeVar

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from avcil.extract.media.contract import DecodeRequest, failure

COVERS = Disposition.attached_pic | Disposition.timed_thumbnails
ASIDE = (
    Disposition.comment | Disposition.hearing_impaired | Disposition.visual_impaired | Disposition.dependent
)

Track = TypeVar("Track", VideoStream, AudioStream)


def choose_tracks(
    container: InputContainer, request: DecodeRequest, empty: Collection[int] = ()
) -> tuple[VideoStream, AudioStream | None]:
    """Choose the picture and the sound (None: there is none, and the request allows that).

    The first by these rules, in this order: it can be decoded; it is not known to be empty; it is flagged as
    default; it is no commentary. Cover images are no pictures. `empty`: indices of tracks without packets.
    """
    moving = [stream for stream in container.streams.video if not stream.disposition & COVERS]
    if not moving:
        cover = " (only a cover image)" if container.streams.video else ""
        raise failure("no-video", f"no picture track{cover}")
    if not container.streams.audio and not request.may_lack_audio:
        raise failure("no-audio", "no sound track")
    video, audio = _best(moving, empty), None
    _use_one_thread(video, "picture")
    if container.streams.audio:
        audio = _best(container.streams.audio, empty)
        _use_one_thread(audio, "sound")
    return video, audio


def _best(tracks: Sequence[Track], empty: Collection[int]) -> Track:
    return min(
        tracks,
        key=lambda track: (
            track.codec_context is None,  # PyAV makes none where FFmpeg has no decoder
            track.index in empty or (track.start_time is None and not track.frames),
            not track.disposition & Disposition.default,
            bool(track.disposition & ASIDE),
        ),
    )


def _use_one_thread(stream: VideoStream | AudioStream, name: str) -> None:
    if stream.codec_context is None:
        raise failure("unsupported", f"no decoder for the codec of the {name} track")
    stream.codec_context.thread_count = 1  # one thread a clip: the cores decode different clips
    stream.codec_context.thread_type = "NONE"
