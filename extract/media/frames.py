"""The wanted frames of an open file, decoded with PyAV.

There are two ways to the same frames. By GOP, only what the wanted frames depend on is decoded. Files whose
packets do not tell which frame is which, or give others than the packets announced, are decoded whole.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame

from avcil.extract.media.contract import DecodeRequest, failure
from avcil.extract.media.frame_rules import frame_indices
from avcil.extract.media.gops import PacketEntry, display_order, frames_expected, is_before, ranges_to_decode
from avcil.extract.media.opening import Media, allowed_losses, reason
from avcil.extract.media.packets import time_s
from avcil.extract.media.pixels import Picture, upright_rgb

FALLBACK_FPS = 25.0


def read_by_gop(media: Media, request: DecodeRequest) -> Picture | None:
    """Decode only what the wanted frames depend on; None where the packets do not tell what that is."""
    entries = media.packets.entries
    order = display_order(entries) if media.packets.can_skip else None
    if not order:
        return None
    times_s = [time_s(entries[at].pts or 0, media.video, media.origin_s) for at in order]
    chosen = _wanted_frames(times_s, media, request)
    frames = _decode_ranges(media, {order[i] for i in chosen})
    if not chosen or frames is None:
        return None
    images = upright_rgb([frames[order[i]] for i in chosen], media.video.sample_aspect_ratio)
    end_s = _end_s(times_s[-1], entries[order[-1]], media)
    return Picture(images, np.array([times_s[i] for i in chosen]), end_s)


def _decode_ranges(media: Media, wanted: set[int]) -> dict[int, VideoFrame] | None:
    """Give the frames of the wanted packets by position, or None if anything is not as announced."""
    entries = media.packets.entries
    kept: dict[int, VideoFrame] = {}
    packets = enumerate(media.packets.picture())
    for part in ranges_to_decode(entries, wanted):
        missing = frames_expected(entries, part, wanted)
        at_pts = {entries[at].pts: at for at in part}
        try:
            for frame in _decode_range(media, packets, part, wanted):
                if frame.pts in missing and not frame.is_corrupt:
                    missing.remove(frame.pts)
                    if at_pts[frame.pts] in wanted:
                        kept[at_pts[frame.pts]] = frame
                elif not (frame.pts in at_pts and is_before(entries[at_pts[frame.pts]], entries[part.start])):
                    return None
        except FFmpegError:
            return None
        if missing:
            return None
    return kept if len(kept) == len(wanted) else None


def _decode_range(
    media: Media, packets: Iterator[tuple[int, Packet[Stream]]], part: range, wanted: set[int]
) -> Iterator[VideoFrame]:
    """Decode a range of packets from a fresh state, without the pictures that nobody refers to or wants."""
    entries, context = media.packets.entries, media.video.codec_context
    context.flush_buffers()
    for at, packet in packets:
        if at < part.start:
            continue
        if entries[at].is_reference or at in wanted:
            yield from context.decode(packet)
        else:
            context.skip_frame = "NONREF"
            yield from context.decode(packet)
            context.skip_frame = "DEFAULT"
        if at + 1 == part.stop:
            break
    yield from context.decode(None)


def read_through(media: Media, request: DecodeRequest) -> Picture:
    """Decode every frame: the wanted ones, predicted from the packets and checked against what came out."""
    predicted = _packet_times(media)
    wanted = _wanted_frames(predicted, media, request)
    decoded = _decode_all(media, set(wanted))
    _require_frames(decoded, len(predicted))
    actual = _frame_times(decoded.pts, media)
    right = _wanted_frames(actual, media, request)
    if not right:
        raise failure("empty-window", f"no frame between {request.start_s} s and {request.end_s} s")
    if right != wanted:  # the container miscounts or misdates its frames: now the true ones are known
        decoded = _decode_all(media, set(right))
    images = upright_rgb([decoded.kept[i] for i in right], media.video.sample_aspect_ratio)
    end_s = _end_s(actual[-1], media.packets.entries[-1], media)
    return Picture(images, np.array([actual[i] for i in right]), end_s)


@dataclass
class _DecodedTrack:
    """What one pass gave: every frame's pts, the wanted frames by ordinal, and how often decoding failed."""

    pts: list[int | None]
    kept: dict[int, VideoFrame]
    n_damaged: int = 0
    last_error: str = ""


def _decode_all(media: Media, wanted: set[int]) -> _DecodedTrack:
    context = media.video.codec_context
    context.flush_buffers()
    context.skip_frame = "DEFAULT"
    decoded = _DecodedTrack([], {})
    for packet in itertools.chain(media.packets.picture(), [None]):
        try:
            frames = context.decode(packet)
        except FFmpegError as error:
            decoded.n_damaged, decoded.last_error = decoded.n_damaged + 1, reason(error)
            continue
        for frame in frames:
            if len(decoded.pts) in wanted:
                decoded.kept[len(decoded.pts)] = frame
            decoded.pts.append(frame.pts)
            decoded.n_damaged += frame.is_corrupt
    return decoded


def _packet_times(media: Media) -> list[float]:
    entries = media.packets.entries
    order = display_order(entries) or [at for at, entry in enumerate(entries) if entry.is_shown]
    return _frame_times([entries[at].pts for at in order], media)


def _frame_times(pts: Sequence[int | None], media: Media) -> list[float]:
    """Give times in s from the file's start, counted from the mean rate where dates do not ascend.

    AVI dates the decoding of a frame; they are shown from 0 on.
    """
    dated = [value for value in pts if value is not None]
    ascending = all(a < b for a, b in itertools.pairwise(dated))
    if media.video.time_base is not None and len(dated) == len(pts) and ascending:
        origin_s = time_s(dated[0], media.video, 0.0) if media.is_avi and dated else media.origin_s
        return [time_s(value, media.video, origin_s) for value in dated]
    return [i / _fps(media) for i in range(len(pts))]


def _fps(media: Media) -> float:
    return float(media.video.average_rate or 0) or FALLBACK_FPS


def _end_s(last_s: float, last: PacketEntry, media: Media) -> float:
    return last_s + max(1 / _fps(media), float(last.duration * (media.video.time_base or 0)))


def _wanted_frames(times_s: Sequence[float], media: Media, request: DecodeRequest) -> list[int]:
    """Give the ordinals of the wanted frames, `n_frames` of them, or none where the window is empty."""
    inside = [i for i, time_s in enumerate(times_s) if request.covers(time_s)]
    if not inside:
        return []
    ends = [*times_s[1:], times_s[-1] + 1 / _fps(media)]
    chosen = frame_indices(
        [times_s[i] for i in inside], ends[inside[-1]], request.n_frames, request.frame_fps
    )
    return [inside[i] for i in chosen]


def _require_frames(decoded: _DecodedTrack, n_promised: int) -> None:
    n_frames = len(decoded.pts)
    n_lost = max(decoded.n_damaged, n_promised - n_frames)
    if n_lost > allowed_losses(n_promised) or (decoded.n_damaged and not n_frames):
        cause = f" ({decoded.last_error})" if decoded.last_error else ""
        raise failure("corrupt", f"{n_lost} of {n_promised} frames are damaged or missing{cause}")
    if not n_frames:
        raise failure("no-frames", "the picture track holds no frame")
