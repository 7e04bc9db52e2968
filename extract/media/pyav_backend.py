"""Owns decoding with PyAV: the wanted frames of a file, and its sound; knows no recipe and no cache.

There are two ways to the same frames. By GOP, only what the wanted frames depend on is decoded. Files whose
packets do not tell which frame is which, or where anything is not as the packets said, are decoded whole.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from avcil.errors import DecodeError
from avcil.extract.media.contract import DecodedClip, DecodeRequest, failure
from avcil.extract.media.gops import Entry, display_order, frames_expected, is_before, ranges_to_decode
from avcil.extract.media.opening import Media, allowed_losses, open_media, open_part, reason, require_whole
from avcil.extract.media.packets import time_s
from avcil.extract.media.pixels import upright_rgb
from avcil.extract.media.sound import read_sound, silence

FALLBACK_FPS = 25.0


@dataclass(frozen=True)
class Picture:
    """Wanted frames uint8 [N, H, W, 3], upright, their times float64 [N], and where the track ends (s)."""

    frames: NDArray[np.uint8]
    times_s: NDArray[np.float64]
    end_s: float


def decode_with_pyav(path: Path, request: DecodeRequest) -> DecodedClip:
    """Decode frames and sound from one pass over the file; the contract is `decode.decode`."""
    if request.is_window and (clip := _decode_part(path, request)) is not None:
        return clip
    with open_media(path, request) as media:
        picture = read_by_gop(media, request) or read_through(media, request)
        return finish(media, request, picture)


def finish(media: Media, request: DecodeRequest, picture: Picture) -> DecodedClip:
    """Add the sound, or silence where that is allowed, and check that the file is whole."""
    sound = read_sound(media, request)
    require_whole(media, request, picture.end_s, None if sound is None else sound.end_s)
    is_missing = sound is None
    sound = sound or silence(request, picture.end_s)
    return DecodedClip(picture.frames, picture.times_s, sound.samples, sound.rate_hz, is_missing)


def _decode_part(path: Path, request: DecodeRequest) -> DecodedClip | None:
    """Read and decode no more than a window needs; None where only the whole file can tell."""
    with open_part(path, request) as media:
        picture = read_by_gop(media, request) if media is not None else None
        if media is None or picture is None:
            return None
        try:
            clip = finish(media, request, picture)
        except DecodeError:
            return None
        return None if clip.missing_audio and media.audio is not None else clip


def read_by_gop(media: Media, request: DecodeRequest) -> Picture | None:
    """Decode only what the wanted frames depend on; None where the packets do not tell what that is."""
    entries = media.packets.entries
    order = display_order(entries) if media.packets.can_skip else None
    if not order:
        return None
    times_s = [time_s(entries[at].pts or 0, media.video, media.origin_s) for at in order]
    chosen = _choose(times_s, media, request)
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
    wanted = _choose(predicted, media, request)
    decoded = _decode_all(media, set(wanted))
    _require_frames(decoded, len(predicted))
    actual = _frame_times(decoded.pts, media)
    right = _choose(actual, media, request)
    if not right:
        raise failure("empty-window", f"no frame between {request.start_s} s and {request.end_s} s")
    if right != wanted:  # the container miscounts or misdates its frames: now the true ones are known
        decoded = _decode_all(media, set(right))
    images = upright_rgb([decoded.kept[i] for i in right], media.video.sample_aspect_ratio)
    end_s = _end_s(actual[-1], media.packets.entries[-1], media)
    return Picture(images, np.array([actual[i] for i in right]), end_s)


@dataclass
class _Decoded:
    """What one pass gave: every frame's pts, the wanted frames by ordinal, and how often decoding failed."""

    pts: list[int | None]
    kept: dict[int, VideoFrame]
    n_damaged: int = 0
    last_error: str = ""


def _decode_all(media: Media, wanted: set[int]) -> _Decoded:
    context = media.video.codec_context
    context.flush_buffers()
    context.skip_frame = "DEFAULT"
    decoded = _Decoded([], {})
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


def _end_s(last_s: float, last: Entry, media: Media) -> float:
    return last_s + max(1 / _fps(media), float(last.duration * (media.video.time_base or 0)))


def _choose(times_s: Sequence[float], media: Media, request: DecodeRequest) -> list[int]:
    """Give the ordinals of the wanted frames, `n_frames` of them, or none where the window is empty."""
    inside = [i for i, time_s in enumerate(times_s) if request.covers(time_s)]
    if not inside:
        return []
    ends = [*times_s[1:], times_s[-1] + 1 / _fps(media)]
    chosen = request.frame_rule.indices([times_s[i] for i in inside], ends[inside[-1]], request.n_frames)
    return [inside[i] for i in chosen]


def _require_frames(decoded: _Decoded, n_promised: int) -> None:
    n_frames = len(decoded.pts)
    n_lost = max(decoded.n_damaged, n_promised - n_frames)
    if n_lost > allowed_losses(n_promised) or (decoded.n_damaged and not n_frames):
        cause = f" ({decoded.last_error})" if decoded.last_error else ""
        raise failure("corrupt", f"{n_lost} of {n_promised} frames are damaged or missing{cause}")
    if not n_frames:
        raise failure("no-frames", "the picture track holds no frame")
