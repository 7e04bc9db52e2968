"""The wanted frames of an open file, decoded with PyAV.

There are two ways to the same frames. By GOP, only what the wanted frames depend on is decoded. Files whose
packets do not tell which frame is which, or give others than the packets announced, are decoded whole.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from avcil.extract.media.contract import DecodeRequest, failure
from avcil.extract.media.frame_rules import frame_indices
from avcil.extract.media.gops import (
    NO_PTS,
    PacketEntry,
    display_order,
    frames_expected,
    is_before,
    ranges_to_decode,
)
from avcil.extract.media.opening import Media, allowed_losses, reason
from avcil.extract.media.pixels import Picture, upright_rgb

FALLBACK_FPS = 25.0
MAX_ROUNDING_S = 1e-6
MAX_DELAY = 16  # frames that a decoder may hold back to put them in order


def read_by_gop(media: Media, request: DecodeRequest) -> Picture | None:
    """Decode only what the wanted frames depend on; None where the packets do not tell what that is."""
    entries = media.packets.entries
    order = display_order(entries) if media.packets.can_skip else None
    if order is None or not len(order):
        return None
    times_s = _frame_times(entries.pts[order], entries.has_pts[order], media)
    chosen = wanted_frames(times_s, media, request)
    frames = _decode_ranges(media, {int(order[i]) for i in chosen})
    if not chosen or frames is None:
        return None
    images = upright_rgb([frames[int(order[i])] for i in chosen], media.video.sample_aspect_ratio)
    return Picture(images, times_s[chosen], end_of_picture(times_s, media))


def _decode_ranges(media: Media, wanted: set[int]) -> dict[int, VideoFrame] | None:
    """Give the frames of the wanted packets by position, or None if anything is not as announced."""
    entries = media.packets.entries
    kept: dict[int, VideoFrame] = {}
    for part in ranges_to_decode(entries, wanted):
        missing = frames_expected(entries, part, wanted)
        rows = {at: entries[at] for at in part}
        at_pts = {entry.pts: at for at, entry in rows.items() if not entry.completes}
        try:
            for frame in _decode_range(media, rows, wanted):
                if frame.pts in missing and not frame.is_corrupt:
                    missing.remove(frame.pts)
                    if at_pts[frame.pts] in wanted:
                        kept[at_pts[frame.pts]] = frame
                elif not (frame.pts in at_pts and is_before(rows[at_pts[frame.pts]], rows[part.start])):
                    return None
        except FFmpegError:
            return None
        if missing:
            return None
    return kept if len(kept) == len(wanted) else None


def _decode_range(media: Media, rows: dict[int, PacketEntry], wanted: set[int]) -> Iterator[VideoFrame]:
    """Decode successive packets from a fresh state, without the pictures that nobody refers to or wants."""
    context, first = media.video.codec_context, min(rows)
    for (at, entry), packet in zip(rows.items(), media.packets.picture(first), strict=False):
        if at == first:  # not before: to read on may mean to seek
            context.flush_buffers()
        if entry.is_reference or at in wanted or (entry.completes and at - 1 in wanted):
            yield from context.decode(packet)
        else:
            context.skip_frame = "NONREF"
            yield from context.decode(packet)
            context.skip_frame = "DEFAULT"
    yield from context.decode(None)


def read_through(media: Media, request: DecodeRequest) -> Picture:
    """Decode every frame: the wanted ones, predicted from the packets and checked against what came out."""
    predicted = predict_times(media)
    is_dated = predicted is not None
    if predicted is None:
        entries = media.packets.entries
        predicted = _frame_times(entries.pts[entries.is_shown], entries.has_pts[entries.is_shown], media)
    wanted = wanted_frames(predicted, media, request)
    decoded = _decode_all(media, set(wanted))
    _require_frames(decoded, predicted, is_dated, media)
    actual = decoded.times_s(media, predicted)
    right = wanted_frames(actual, media, request)
    if not right:
        raise failure("empty-window", f"no frame between {request.start_s} s and {request.end_s} s")
    if right != wanted:  # the container miscounts or misdates its frames: now the true ones are known
        decoded = _decode_all(media, set(right))
    images = upright_rgb([decoded.kept[i] for i in right], media.video.sample_aspect_ratio)
    return Picture(images, actual[right], end_of_picture(actual, media))


def predict_times(media: Media) -> NDArray[np.float64] | None:
    """Give the times (s) of all frames in the order they are shown in, None where the packets do not tell."""
    entries = media.packets.entries
    order = display_order(entries)
    return None if order is None else _frame_times(entries.pts[order], entries.has_pts[order], media)


@dataclass
class _DecodedTrack:
    """What one pass gave: every frame's pts, the wanted frames by ordinal, and how often decoding failed.

    `n_interlaced`: the frames that may stand for two packets, a field each.
    """

    pts: array[int]
    kept: dict[int, VideoFrame]
    n_damaged: int = 0
    n_interlaced: int = 0
    last_error: str = ""

    def times_s(self, media: Media, predicted: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give every frame's time; in AVI the predicted one, where its own is only that of decoding."""
        pts = np.array(self.pts, np.int64)
        if media.packets.is_avi and len(pts) == len(predicted) and not _ascend(pts, pts != NO_PTS):
            return predicted
        return _frame_times(pts, pts != NO_PTS, media)


def _decode_all(media: Media, wanted: set[int]) -> _DecodedTrack:
    context, entries, first = media.video.codec_context, media.packets.entries, media.packets.first
    begin = entries[first].pts if first else None
    decoded = _DecodedTrack(array("q"), {})
    packets = media.packets.picture(first)
    for n, packet in enumerate(itertools.chain(packets, [None])):
        if n == 0:
            context.flush_buffers()
            context.skip_frame = "DEFAULT"
        try:
            frames = context.decode(packet)
        except FFmpegError as error:
            decoded.n_damaged, decoded.last_error = decoded.n_damaged + 1, reason(error)
            continue
        for frame in frames:
            if begin is not None and frame.pts is not None and frame.pts < begin:
                continue  # it refers to what was before the file's beginning
            if len(decoded.pts) in wanted:
                decoded.kept[len(decoded.pts)] = frame
            decoded.pts.append(NO_PTS if frame.pts is None else frame.pts)
            decoded.n_damaged += frame.is_corrupt
            decoded.n_interlaced += frame.interlaced_frame
    return decoded


def _frame_times(pts: NDArray[np.int64], has_pts: NDArray[np.bool_], media: Media) -> NDArray[np.float64]:
    """Give ascending times in s from the file's start; a frame without its own comes one after the last.

    AVI dates the decoding of frames, the first up to `MAX_DELAY` frames after 0, where it is shown.
    """
    if media.packets.is_avi:
        if not _ascend(pts, has_pts):
            return np.arange(len(pts)) / _fps(media)
        first_s = float(_seconds(pts[:1], media.video, 0.0).sum())
        return _seconds(pts, media.video, first_s if first_s * _fps(media) <= MAX_DELAY else 0.0)
    times_s = _seconds(np.where(has_pts, pts, 0), media.video, media.origin_s)
    if _ascend(pts, has_pts):
        return times_s
    last_s = -1 / _fps(media)
    for i, is_known in enumerate(has_pts):
        first_known = bool(is_known) and (i == 0 or times_s[i] > last_s)
        last_s = float(times_s[i]) if first_known else last_s + 1 / _fps(media)
        times_s[i] = last_s
    return times_s


def _ascend(pts: NDArray[np.int64], has_pts: NDArray[np.bool_]) -> bool:
    return bool(has_pts.all() and (np.diff(pts) > 0).all())


def _seconds(pts: NDArray[np.int64], stream: VideoStream, origin_s: float) -> NDArray[np.float64]:
    """Give moments of a track in s from the file's start."""
    unit = stream.time_base or Fraction(0)
    return pts * unit.numerator / unit.denominator - origin_s


def _fps(media: Media) -> float:
    return float(media.video.average_rate or 0) or FALLBACK_FPS


def end_of_picture(times_s: NDArray[np.float64], media: Media) -> float:
    """Give when the last frame ends (s)."""
    last = media.packets.entries[len(media.packets.entries) - 1]
    return float(times_s[-1]) + max(1 / _fps(media), float(last.duration * (media.video.time_base or 0)))


def wanted_frames(times_s: NDArray[np.float64], media: Media, request: DecodeRequest) -> list[int]:
    """Give the ordinals of the wanted frames, `n_frames` of them, or none where the window is empty."""
    first, last = 0, len(times_s)
    if request.start_s is not None:
        first = int(np.searchsorted(times_s, request.start_s))
    if request.end_s is not None:
        last = int(np.searchsorted(times_s, request.end_s))
    if first >= last:
        return []
    end_s = times_s[last] if last < len(times_s) else times_s[-1] + 1 / _fps(media)
    chosen = frame_indices(times_s[first:last], float(end_s), request.n_frames, request.frame_fps)
    return [first + i for i in chosen]


def _require_frames(
    decoded: _DecodedTrack, predicted: NDArray[np.float64], is_dated: bool, media: Media
) -> None:
    """Raise `corrupt` where too many frames are damaged, or missing for no other reason.

    Others: the packet has one field only of an interlaced picture; its picture is shown before the first one
    that can be decoded.
    """
    n_frames, n_total = len(decoded.pts), max(len(decoded.pts), len(predicted))
    n_promised = len(predicted)
    if n_frames and is_dated:
        first_s = decoded.times_s(media, predicted)[0]
        n_promised -= int(np.searchsorted(predicted, first_s - MAX_ROUNDING_S))
    n_missing = n_promised - n_frames - decoded.n_interlaced
    n_lost = max(decoded.n_damaged, n_missing)
    if n_lost > allowed_losses(n_promised) or (decoded.n_damaged and not n_frames):
        cause = f" ({decoded.last_error})" if decoded.last_error else ""
        raise failure("corrupt", f"{min(n_lost, n_total)} of {n_total} frames are damaged or missing{cause}")
    if not n_frames:
        raise failure("no-frames", "the picture track holds no frame")
