"""H.264 whose pictures are coded as two fields (PAFF), as camcorders and broadcasters make it; written here.

No encoder at hand does it, so every macroblock is stored as it is (I_PCM, ITU-T H.264 7.3.5).
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.packet import Packet
from av.stream import Stream
from support.clip_files import numbered
from support.timed_clips import TimedClip, mux, sound_packets

WIDTH, HEIGHT, FPS, GOP = 256, 64, 25, 10
TICKS = 90_000


class Bits:
    """Bits that are written one behind the other."""

    def __init__(self) -> None:
        self.text = ""

    def put(self, *values: tuple[int, int]) -> Bits:
        """Add numbers, each with its count of bits."""
        self.text += "".join(f"{value:0{n}b}" for n, value in values)
        return self

    def golomb(self, *values: int) -> Bits:
        """Add Exp-Golomb codes (9.1)."""
        for value in values:
            digits = f"{value + 1:b}"
            self.text += "0" * (len(digits) - 1) + digits
        return self

    def align(self, end: str = "") -> Bits:
        """Fill the last byte with zeros."""
        self.text += end
        self.text += "0" * (-len(self.text) % 8)
        return self

    def raw(self, content: bytes) -> Bits:
        """Add bytes."""
        self.text += "".join(f"{byte:08b}" for byte in content)
        return self

    def nal(self, head: int) -> bytes:
        """Close a NAL unit with this first byte, behind a start code (7.3.1, annex B)."""
        self.align("1")
        content = int(self.text, 2).to_bytes(len(self.text) // 8, "big")
        for low in b"\0\1\2\3":
            content = content.replace(bytes([0, 0, low]), bytes([0, 0, 3, low]))
        return b"\0\0\0\1" + bytes([head]) + content


def parameter_sets() -> bytes:
    """Main profile, level 3, 4 reference fields, frames of fields (7.3.2.1, 7.3.2.2)."""
    sps = Bits().put((8, 77), (8, 0), (8, 30)).golomb(0, 0, 0, 4, 4).put((1, 0))
    sps.golomb(WIDTH // 16 - 1, HEIGHT // 32 - 1).put((1, 0), (1, 0), (1, 1), (1, 0), (1, 0))
    pps = Bits().golomb(0, 0).put((1, 0), (1, 0)).golomb(0, 0, 0).put((1, 0), (2, 0)).golomb(0, 0, 0)
    return sps.nal(0x67) + pps.put((1, 1), (1, 0), (1, 0)).nal(0x68)


def coded_field(i: int, is_bottom: bool) -> bytes:
    """The field of picture `i` as an intra slice, the first of a group as IDR."""
    planes = av.VideoFrame.from_ndarray(numbered(i), format="rgb24").reformat(format="yuv420p").to_ndarray()
    luma, chroma = planes[:HEIGHT], planes[HEIGHT:].reshape(2, HEIGHT // 2, WIDTH // 2)
    y, (u, v) = luma[is_bottom::2], (chroma[0][is_bottom::2], chroma[1][is_bottom::2])
    place, is_idr = i % GOP, i % GOP == 0 and not is_bottom
    bits = Bits().golomb(0, 7, 0).put((4, place % 16), (1, 1), (1, int(is_bottom)))
    if is_idr:
        bits.golomb(i // GOP % 2)
    bits.put((8, 2 * place + is_bottom)).put(*([(1, 0), (1, 0)] if is_idr else [(1, 0)])).golomb(0, 1)
    for row in range(HEIGHT // 32):
        for column in range(WIDTH // 16):
            bits.golomb(25).align()
            bits.raw(y[16 * row :, 16 * column :][:16, :16].tobytes())
            for plane in (u, v):
                bits.raw(plane[8 * row :, 8 * column :][:8, :8].tobytes())
    return (parameter_sets() if is_idr else b"") + bits.nal(0x65 if is_idr else 0x61)


def write_field_coded(path: Path, n: int = 30, together: bool = False, form: str | None = None) -> Path:
    """Write `n` numbered pictures with sound; `together`: both fields of a picture in one packet."""
    with av.open(str(path), "w", format=form) as file:
        video = file.add_stream("libx264", rate=FPS)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        sound = file.add_stream("mp2", rate=48_000, layout="stereo")
        heard = sound_packets(sound, TimedClip(sound_s=(0.0, n / FPS), layout="stereo"))
        mux(file, [*_packets(video, n, together), *heard])
    return path


def _packets(video: Stream, n: int, together: bool) -> Iterator[Packet[Stream]]:
    delimiter = b"\0\0\0\1\x09\xf0"
    for i in range(n):
        fields = [delimiter + coded_field(i, is_bottom) for is_bottom in (False, True)]
        for k, content in enumerate([b"".join(fields)] if together else fields):
            packet: Packet[Stream] = Packet(content)
            packet.stream, packet.time_base = video, Fraction(1, TICKS)
            packet.pts = packet.dts = TICKS // FPS * i + TICKS // FPS // 2 * k
            packet.is_keyframe = i % GOP == 0 and k == 0
            yield packet
