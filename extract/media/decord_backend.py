"""The wanted frames of an open file, decoded with decord (package `decord2`)."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path

import decord
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from avcil.extract.media.contract import DecodeRequest, failure
from avcil.extract.media.frame_rules import frame_indices
from avcil.extract.media.opening import Media
from avcil.extract.media.pixels import Orientation, Picture, square_pixels


def read_with_decord(path: Path, media: Media, request: DecodeRequest) -> Picture | None:
    """Read the wanted frames by their index; None where decord cannot, or not without mistakes."""
    decord.logging.set_level(decord.logging.QUIET)
    try:
        return _read_picture(path, media, request)
    except (RuntimeError, decord.DECORDError):
        return None


def _read_picture(path: Path, media: Media, request: DecodeRequest) -> Picture | None:
    if not (media.packets.is_avi or media.has_parts) or not media.is_plain or media.packets.has_jumped:
        return None  # decord loses the first frames of transport streams, cannot count those of others, and
        # crashes on some subtitles
    reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
    n_frames = len(reader)
    if n_frames != int(media.packets.entries.is_shown.sum()) or not n_frames:
        return None
    begins_s, ends_s = reader.get_frame_timestamp(range(n_frames)).astype(np.float64).T - media.origin_s
    if not (np.diff(begins_s) > 0).all():
        begins_s = np.arange(n_frames) / reader.get_avg_fps()
        ends_s = begins_s + 1 / reader.get_avg_fps()
    inside = [i for i, begin_s in enumerate(begins_s) if request.covers(begin_s)]
    if not inside:
        raise failure("empty-window", f"no frame between {request.start_s} s and {request.end_s} s")
    times_s = begins_s[inside].tolist()
    chosen = frame_indices(times_s, ends_s[inside[-1]], request.n_frames, request.frame_fps)
    wanted = [inside[i] for i in chosen]
    frames = reader.get_batch(wanted).asnumpy() if _can_seek(media) else _read_through(reader, wanted)
    if frames.shape[-1] != 3:  # decord takes the padding of narrow pictures for channels
        return None
    return Picture(_upright(frames, media), begins_s[wanted], float(ends_s[-1]))


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


def _upright(frames: NDArray[np.uint8], media: Media) -> NDArray[np.uint8]:
    """Add to uint8 [N, H, W, 3] what decord, which only turns pictures, leaves out: mirrors and aspect."""
    orientation = _orientation(media)
    if orientation.is_reflection:
        frames = frames[:, :, ::-1] if orientation.is_transposed else frames[:, ::-1]
    return square_pixels(np.ascontiguousarray(frames), media.video.sample_aspect_ratio, orientation)


def _orientation(media: Media) -> Orientation:
    context = media.video.codec_context
    for packet in itertools.chain(media.packets.picture(), [None]):
        with contextlib.suppress(FFmpegError):
            for frame in context.decode(packet):
                return Orientation.of(frame)
    return Orientation()
