"""Owns decoding with PyAV: the wanted frames of a file, and its sound; knows no recipe and no cache."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from avcil.extract.decode import DecodedClip, DecodeRequest, failure
from avcil.extract.media import Media, allowed_losses, open_media, reason, require_whole
from avcil.extract.sound import read_sound

FALLBACK_FPS = 25.0


@dataclass(frozen=True)
class Picture:
    """Wanted frames uint8 [N, H, W, 3], upright, their times float64 [N], and where the track ends (s)."""

    frames: NDArray[np.uint8]
    times_s: NDArray[np.float64]
    end_s: float


def decode_with_pyav(path: Path, request: DecodeRequest) -> DecodedClip:
    """Decode frames and sound from one pass over the file; the contract is `decode.decode`."""
    with open_media(path) as media:
        picture = read_picture(media, request)
        sound = read_sound(media, request)
        require_whole(media, picture.end_s, sound.end_s)
    return DecodedClip(picture.frames, picture.times_s, sound.samples, sound.rate_hz)


def read_picture(media: Media, request: DecodeRequest) -> Picture:
    """Decode the wanted frames, predicted from the packets and checked against what came out."""
    predicted = _packet_times(media)
    wanted = _choose(predicted, media, request)
    decoded = _decode_frames(media, set(wanted))
    _require_frames(decoded, len(predicted))
    actual = _frame_times(decoded.pts, media)
    right = _choose(actual, media, request)
    if not right:
        raise failure("empty-window", f"no frame between {request.start_s} s and {request.end_s} s")
    if right != wanted:  # the container miscounts or misdates its frames: now the true ones are known
        decoded = _decode_frames(media, set(right))
    reformatter = VideoReformatter()
    first = decoded.kept[right[0]]
    images = {i: _upright_rgb(frame, first, reformatter) for i, frame in decoded.kept.items()}
    end_s = actual[-1] + max(1 / _fps(media), _last_duration_s(media))
    return Picture(np.stack([images[i] for i in right]), np.array([actual[i] for i in right]), end_s)


@dataclass
class _Decoded:
    """What one pass gave: every frame's pts, the wanted frames by ordinal, and how often decoding failed."""

    pts: list[int | None]
    kept: dict[int, VideoFrame]
    n_damaged: int = 0
    last_error: str = ""


def _decode_frames(media: Media, wanted: set[int]) -> _Decoded:
    context = media.video.codec_context
    context.flush_buffers()
    decoded = _Decoded([], {})
    for packet in [*media.video_packets, None]:
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
    shown = [packet.pts for packet in media.video_packets if not packet.is_discard]
    dated = [pts for pts in shown if pts is not None]
    return _frame_times(sorted(dated) if len(dated) == len(shown) else list(shown), media)


def _frame_times(pts: Sequence[int | None], media: Media) -> list[float]:
    """Give times in s from the file's start, counted from the mean rate where dates do not ascend."""
    base = media.video.time_base
    dated = [value for value in pts if value is not None]
    ascending = all(a < b for a, b in itertools.pairwise(dated))
    if base is not None and len(dated) == len(pts) and ascending:
        return [float(value * base) - media.origin_s for value in dated]
    return [i / _fps(media) for i in range(len(pts))]


def _fps(media: Media) -> float:
    return float(media.video.average_rate or 0) or FALLBACK_FPS


def _last_duration_s(media: Media) -> float:
    return float((media.video_packets[-1].duration or 0) * (media.video.time_base or 0))


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


def _upright_rgb(frame: VideoFrame, first: VideoFrame, reformatter: VideoReformatter) -> NDArray[np.uint8]:
    """Convert to uint8 [H, W, 3], scaled to the first frame's size, turned by the display matrix."""
    rgb = reformatter.reformat(frame, first.width, first.height, "rgb24").to_ndarray()
    turn_degrees = first.rotation if abs(first.rotation) <= 360 else 0  # a broken matrix gives any number
    return np.ascontiguousarray(np.rot90(rgb, round(turn_degrees / 90)))
