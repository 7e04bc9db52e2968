"""Decoding one file: a request in, frames and sound or a `DecodeError` out.

The backends differ in the picture only. The sound is PyAV's with both: decord's `AudioReader` tells neither
the rate nor the time of a sample. decord is imported when it is first used.
"""

from __future__ import annotations

from pathlib import Path

from avcil.errors import DecodeError
from avcil.extract.media.contract import Backend, DecodedClip, DecodeRequest, failure
from avcil.extract.media.frames import read_by_gop, read_through
from avcil.extract.media.opening import Media, open_media, open_part, require_whole
from avcil.extract.media.pixels import Picture
from avcil.extract.media.sound import read_sound, silence


def decode(path: Path, request: DecodeRequest, backend: Backend = "auto") -> DecodedClip:
    """Decode the wanted frames and the sound of one file on one thread; `auto` is PyAV.

    Raises `DecodeError` with one of `FAILURE_KINDS`, and nothing else that a file could cause.
    """
    try:
        _require_file(path)
        if backend == "decord":
            return _decode_with_decord(path, request)
        clip = _decode_part(path, request) if request.is_window else None
        return clip or _decode_whole(path, request)
    except DecodeError:
        raise
    except MemoryError as error:
        raise failure("out-of-memory", "the frames or the sound do not fit into memory") from error
    except Exception as error:  # whatever a media library throws at an odd file becomes that clip's failure
        raise failure("internal", f"{type(error).__name__}: {error}") from error


def _require_file(path: Path) -> None:
    try:
        size_bytes = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError) as error:
        raise failure("missing", "no such file") from error
    except (OSError, ValueError) as error:
        raise failure("unreadable", str(error)) from error
    if not path.is_file():
        raise failure("unreadable", "not a regular file")
    if size_bytes == 0:
        raise failure("unreadable", "the file is empty (0 bytes)")


def _decode_whole(path: Path, request: DecodeRequest) -> DecodedClip:
    with open_media(path, request) as media:
        return _finish(media, request, read_by_gop(media, request) or read_through(media, request))


def _decode_with_decord(path: Path, request: DecodeRequest) -> DecodedClip:
    """Decode the picture with decord and, where decord fails, with PyAV, to the same frames."""
    from avcil.extract.media.decord_backend import read_with_decord

    with open_media(path, request) as media:
        picture = read_with_decord(path, media, request)
        picture = picture or read_by_gop(media, request) or read_through(media, request)
        return _finish(media, request, picture)


def _decode_part(path: Path, request: DecodeRequest) -> DecodedClip | None:
    """Read and decode no more than a window needs; None where only the whole file can tell."""
    with open_part(path, request) as media:
        picture = read_by_gop(media, request) if media is not None else None
        if media is None or picture is None:
            return None
        try:
            clip = _finish(media, request, picture)
        except DecodeError:
            return None
        return None if clip.missing_audio and media.audio is not None else clip


def _finish(media: Media, request: DecodeRequest, picture: Picture) -> DecodedClip:
    """Add the sound, or silence where that is allowed, and check that the file is whole."""
    sound = read_sound(media, request)
    require_whole(media, request, picture.end_s, None if sound is None else sound.end_s)
    is_missing = sound is None
    sound = sound or silence(request, picture.end_s)
    return DecodedClip(picture.frames, picture.times_s, sound.samples, sound.rate_hz, is_missing)
