"""Pictures that players have to treat specially, and files that are broken, for tests; all made here."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

ONE = 0x10000  # of a display matrix, ISO 14496-12 6.2.2


@dataclass(frozen=True)
class PictureFormat:
    """How to write pictures. `ticks`: when each is shown, in 1/`fps` s; `pixel_aspect`: width by height."""

    codec: str = "mpeg4"
    fps: int = 12
    ticks: list[int] | None = None
    pixel_aspect: Fraction | None = None
    options: dict[str, str] = field(default_factory=dict)


def write_pictures(path: Path, pictures: Iterable[np.ndarray], form: PictureFormat) -> Path:
    """Write uint8 [H, W, 3] pictures of one size as a video without sound."""
    with av.open(str(path), "w") as file:
        video = None
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = (form.ticks[i] if form.ticks else i), Fraction(1, form.fps)
            if video is None:
                video = file.add_stream(form.codec, rate=form.fps, options=form.options)
                video.width, video.height, video.pix_fmt = frame.width, frame.height, "yuv420p"
                if form.pixel_aspect:
                    video.codec_context.sample_aspect_ratio = form.pixel_aspect
            file.mux(video.encode(frame))
        assert video is not None
        file.mux(video.encode(None))
    return path


def set_display_matrix(path: Path, a: int, b: int, c: int, d: int) -> None:
    """Have the first track of an `.mp4` shown with x' = ax + cy, y' = bx + dy, up to a shift."""
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 44  # ISO 14496-12, 8.3.2: the matrix of a version 0 track header
    matrix = [a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, 0x40000000]
    content[at : at + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
    path.write_bytes(content)


def interleave(path: Path, copy: Path) -> Path:
    """Copy a file into another container, packets in the order of their time."""
    with av.open(str(path)) as source, av.open(str(copy), "w") as file:
        tracks = {stream.index: file.add_stream_from_template(stream) for stream in source.streams}
        packets = [packet for packet in source.demux() if packet.size]
        for packet in sorted(packets, key=lambda packet: (packet.dts or 0) * packet.time_base):
            packet.stream = tracks[packet.stream_index]
            file.mux(packet)
    return copy
