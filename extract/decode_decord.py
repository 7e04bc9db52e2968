"""Owns decoding with decord (package `decord2`): frames by index; knows no recipe and no cache.

The sound comes from the PyAV pass: decord's `AudioReader` tells neither the rate nor the place of a sample.
"""

from __future__ import annotations

from pathlib import Path

import decord
import numpy as np
from numpy.typing import NDArray

from avcil.extract.decode import DecodedClip, DecodeRequest, failure
from avcil.extract.decode_pyav import Picture, finish
from avcil.extract.media import Media, open_media


def decode_with_decord(path: Path, request: DecodeRequest) -> DecodedClip:
    """Decode the frames with decord and the sound with PyAV; the contract is `decode.decode`."""
    decord.logging.set_level(decord.logging.QUIET)
    with open_media(path, request) as media:
        try:
            picture = _read_picture(path, media, request)
        except (RuntimeError, decord.DECORDError) as error:
            raise failure("corrupt", f"decord cannot decode the picture: {_first_line(error)}") from error
        return finish(media, request, picture)


def _read_picture(path: Path, media: Media, request: DecodeRequest) -> Picture:
    reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
    n_frames = len(reader)
    if not n_frames:
        raise failure("no-frames", "the picture track holds no frame")
    begins_s, ends_s = reader.get_frame_timestamp(range(n_frames)).astype(np.float64).T - media.origin_s
    has_dates = bool((np.diff(begins_s) > 0).all())
    if not has_dates:
        begins_s = np.arange(n_frames) / reader.get_avg_fps()
        ends_s = begins_s + 1 / reader.get_avg_fps()
    inside = [i for i, begin_s in enumerate(begins_s) if request.covers(begin_s)]
    if not inside:
        raise failure("empty-window", f"no frame between {request.start_s} s and {request.end_s} s")
    chosen = request.frame_rule.indices(begins_s[inside].tolist(), ends_s[inside[-1]], request.n_frames)
    wanted = [inside[i] for i in chosen]
    frames = reader.get_batch(wanted).asnumpy() if has_dates else _read_through(reader, wanted)
    return Picture(frames, begins_s[wanted], float(ends_s[-1]))


def _read_through(reader: decord.VideoReader, wanted: list[int]) -> NDArray[np.uint8]:
    """Read from the start: without dates (AVI), decord's seeking lands on wrong frames."""
    reader.seek(0)
    kept = {}
    for i in range(wanted[-1] + 1):
        frame = reader.next()
        if i in wanted:
            kept[i] = frame.asnumpy()
    return np.stack([kept[i] for i in wanted])


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
