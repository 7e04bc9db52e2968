"""Open media files: tracks, packets, and when a track counts as corrupt.

A track is `corrupt` where more than `MAX_LOST` of it (and more than two packets) fails to decode, is flagged
as damaged by the decoder, or is missing from the end that the track's own index or count promises. How long
the whole file claims to be proves nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import av.logging
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream

from avcil.extract.media.contract import DecodeRequest, failure
from avcil.extract.media.packets import Packets, SoundPackets, begin_of, has_parts, read_part
from avcil.extract.media.tracks import choose_tracks

MAX_LOST = 0.05
_MATROSKA_LENGTH = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")


@dataclass(frozen=True)
class Media:
    """An open file: its picture track, its sound track (None: it has none, and may), and their packets.

    `origin_s`: where its time begins; `has_parts`: a part of it can be read without the rest; `is_plain`: it
    has one picture track, sound, and no other tracks.
    """

    path: Path
    video: VideoStream
    audio: AudioStream | None
    packets: Packets
    origin_s: float
    has_parts: bool
    is_plain: bool


@contextmanager
def open_media(path: Path, request: DecodeRequest) -> Iterator[Media]:
    """Open a file, choose its tracks and read over their packets; raises `DecodeError`."""
    empty: frozenset[int] = frozenset()
    while True:
        with _open(path) as container:
            video, audio = choose_tracks(container, request, empty)
            media = _media(path, container, video, audio, request)
            try:
                media.packets.read()
            except FFmpegError as error:
                raise failure("corrupt", f"the file cannot be read ({reason(error)})") from error
            found = empty | _empty(media)
            if choose_tracks(container, request, found) == (video, audio):
                yield media
                return
        empty = found


@contextmanager
def open_part(path: Path, request: DecodeRequest) -> Iterator[Media | None]:
    """Open a file with the packets that the request's window needs; None where it has to be read whole."""
    with _open(path) as container:
        video, audio = choose_tracks(container, request)
        media = _media(path, container, video, audio, request)
        try:
            can_part = media.has_parts and read_part(media.packets, request)
        except FFmpegError:  # reading from the start, it may be nothing
            can_part = False
        yield media if can_part else None


def require_whole(
    media: Media, request: DecodeRequest, picture_end_s: float, sound_end_s: float | None
) -> None:
    """Raise `corrupt` where a track ends (s, from the file's start) before its index or count says.

    Of a window's file only the part up to the window's end has to be there; `sound_end_s=None`: no sound.
    """
    picture_needed_s = float("inf") if request.end_s is None else request.end_s
    tracks: list[tuple[str, float, VideoStream | AudioStream, float]] = []
    tracks.append(("picture", picture_end_s, media.video, picture_needed_s))
    if sound_end_s is not None and media.audio is not None and media.packets.sound.goes_on_s is None:
        tracks.append(("sound", sound_end_s, media.audio, request.sound_end_s))
    for name, end_s, stream, needed_s in tracks:
        declared_s = _declared_end_s(media, stream)
        if end_s < (1 - MAX_LOST) * min(declared_s, needed_s) - 0.1:
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
    """Open a file, and none that it refers to; a name with a colon is a name, not a protocol."""
    av.logging.set_level(None)
    try:
        options = {"protocol_whitelist": "file"}
        return av.open(f"file:{path}", metadata_errors="ignore", options=options)
    except (FFmpegError, ValueError) as error:
        raise failure("unreadable", f"not a media file that FFmpeg can open ({reason(error)})") from error


def _media(
    path: Path,
    container: InputContainer,
    video: VideoStream,
    audio: AudioStream | None,
    request: DecodeRequest,
) -> Media:
    origin_s = begin_of(container, video)
    kinds = [stream.type for stream in container.streams]
    return Media(
        path,
        video,
        audio,
        Packets(container, video, audio, SoundPackets(request, origin_s), lambda: _open(path)),
        origin_s,
        has_parts=has_parts(container),
        is_plain=kinds.count("video") == 1 and set(kinds) <= {"video", "audio"},
    )


def _empty(media: Media) -> set[int]:
    """Give the indices of the chosen tracks that hold no packet."""
    empty = set() if media.packets.entries else {media.video.index}
    if media.audio is not None and not media.packets.sound.n_taken:
        empty.add(media.audio.index)
    return empty


def _declared_end_s(media: Media, stream: VideoStream | AudioStream) -> float:
    """Give where a track should end at least, or 0 where it does not say so.

    MP4 has an index of all packets, and FFmpeg's muxer of Matroska writes every track's length. AVI counts
    frames in its header, which is believed where the file also has fewer bytes than it says.
    """
    names = media.packets.container.format.name.split(",")
    if "mp4" in names and len(stream.index_entries) and stream.time_base is not None:
        return float(stream.index_entries[-1].timestamp * stream.time_base) - media.origin_s
    if "matroska" in names and (length := _MATROSKA_LENGTH.match(stream.metadata.get("DURATION", ""))):
        hours, minutes, seconds = length.groups()
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds) - media.origin_s
    if (
        media.packets.is_avi
        and isinstance(stream, VideoStream)
        and stream.average_rate
        and _is_cut(media.path)
    ):
        return float(stream.frames / stream.average_rate)
    return 0.0


def _is_cut(path: Path) -> bool:
    """Say whether a RIFF file ends before its first chunk does."""
    with path.open("rb") as file:
        return path.stat().st_size < int.from_bytes(file.read(8)[4:], "little") + 8
