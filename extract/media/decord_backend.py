"""The wanted frames of an open file, decoded with decord (package `decord2`)."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path

import decord
import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from avcil.extract.media.contract import DecodeRequest, failure
from avcil.extract.media.frames import end_of_picture, predict_times, wanted_frames
from avcil.extract.media.opening import Media
from avcil.extract.media.pixels import Orientation, Picture, square_pixels

MAX_RATE_HZ = 1000  # of frames


def read_with_decord(path: Path, media: Media, request: DecodeRequest) -> Picture | None:
    """Read the wanted frames by their index; None where decord cannot, or not without mistakes."""
    decord.logging.set_level(decord.logging.QUIET)
    try:
        return _read_picture(path, media, request)
    except (RuntimeError, decord.DECORDError):
        return None


def _read_picture(path: Path, media: Media, request: DecodeRequest) -> Picture | None:
    """Let decord decode by number what the file's own clock tells to be wanted."""
    times_s, first = predict_times(media), _first_frame(media)
    if not _is_known_to_decord(media) or times_s is None or first is None:
        return None
    if media.packets.is_avi and len(times_s) > 2 and np.ptp(np.diff(times_s)) > 1 / MAX_RATE_HZ:
        return None  # it drops frames, and only what is decoded tells which
    reader = decord.VideoReader(str(path.absolute()), ctx=decord.cpu(0), num_threads=1)
    if len(reader) != len(times_s):
        return None
    wanted = wanted_frames(times_s, media, request)
    if not wanted:
        raise failure("empty-window", f"no frame between {request.start_s} s and {request.end_s} s")
    frames = reader.get_batch(wanted).asnumpy() if _can_seek(media) else _read_through(reader, wanted)
    if frames.shape[-1] != 3:  # decord takes the padding of narrow pictures for channels
        return None
    orientation = Orientation.of(first)
    turned = (first.width, first.height) if orientation.is_transposed else (first.height, first.width)
    if frames.shape[1:3] != turned:  # it believes the container about the size
        return None
    if orientation.is_reflection:  # it turns pictures, but does not mirror them
        frames = frames[:, :, ::-1] if orientation.is_transposed else frames[:, ::-1]
    frames = square_pixels(np.ascontiguousarray(frames), media.video.sample_aspect_ratio, orientation)
    return Picture(frames, times_s[wanted], end_of_picture(times_s, media))


def _is_known_to_decord(media: Media) -> bool:
    """Say whether decord can be relied on.

    It loses the first frames of transport streams, cannot count those of others, converts colours of more
    than 8 bits in another way, and some subtitles end its process.
    """
    has_frames = media.packets.is_avi or media.has_parts
    return (
        has_frames
        and media.is_plain
        and not media.packets.has_jumped
        and media.video.format is not None
        and all(component.bits == 8 for component in media.video.format.components)
    )


def _can_seek(media: Media) -> bool:
    """Say whether decord finds the right frames by seeking; otherwise it silently gives others."""
    codec = media.video.codec_context.codec.canonical_name
    return codec in ("h264", "vp8", "vp9", "av1") and (
        media.packets.can_skip and not media.packets.has_false_keys
    )


def _read_through(reader: decord.VideoReader, wanted: list[int]) -> NDArray[np.uint8]:
    """Read from the start, without seeking."""
    kept = {}
    for i in range(wanted[-1] + 1):
        frame = reader.next()
        if i in wanted:
            kept[i] = frame.asnumpy()
    return np.stack([kept[i] for i in wanted])


def _first_frame(media: Media) -> VideoFrame | None:
    context = media.video.codec_context
    for packet in itertools.chain(media.packets.picture(), [None]):
        with contextlib.suppress(FFmpegError):
            for frame in context.decode(packet):
                return frame
    return None
