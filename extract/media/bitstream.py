"""Headers of compressed pictures: what the first bytes of a packet tell, for each codec.

Containers flag key frames, but not all that they flag can be decoded without what came before. What they tell
decides which packets may be left out, so every doubt is answered with "it is needed".
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from avcil.extract.media.fields import Field, SequenceParameters

CODECS = ("h264", "hevc", "vp8", "vp9", "av1")  # those that this module can read

_START_CODE = re.compile(b"\x00\x00\x01")
_LENGTH_SIZE_AT = {"h264": 4, "hevc": 21}  # in avcC (ISO 14496-15 5.3.3) and hvcC (8.3.3)
_RECOVERY_POINT = 6


@dataclass(frozen=True)
class PacketFacts:
    """What a packet of a picture track says of itself.

    `is_start`: decoding can begin here; `has_parameters`: it brings a sequence parameter set; `is_hidden`: it
    holds no frame to be shown; `is_reference`: other pictures may refer to it; `is_layered`: it is of an
    upper temporal layer, and may itself refer to pictures that call themselves non-reference; `half`: it
    holds this one field of a picture and not the other.
    """

    is_start: bool = False
    has_parameters: bool = False
    is_hidden: bool = False
    is_reference: bool = True
    is_layered: bool = False
    half: Field | None = None


@dataclass
class PacketReader:
    """Reads the packets of one track, in file order.

    `length_bytes`: size of the length field before each NAL unit; 0: start codes lie between them.
    """

    codec: str
    length_bytes: int = 0
    _parameters: SequenceParameters | None = field(default=None, repr=False)

    @classmethod
    def of(cls, codec: str, extradata: bytes | None) -> PacketReader:
        """Read how the track's packets are cut into NAL units from its header."""
        at = _LENGTH_SIZE_AT.get(codec)
        if at is not None and extradata and len(extradata) > at and extradata[0] == 1:
            reader = cls(codec, (extradata[at] & 3) + 1)
            if codec == "h264" and len(extradata) > 8:  # 5.3.3.1: the first parameter set begins at byte 8
                reader._parameters = SequenceParameters.read(memoryview(extradata)[8:])
            return reader
        reader = cls(codec)
        if codec == "h264" and extradata:
            reader._read_h264(memoryview(extradata), False)
        return reader

    def read(self, data: memoryview, is_keyframe: bool) -> PacketFacts:
        """Read a packet that holds at least one byte; `is_keyframe`: its container says so."""
        if self.codec == "h264":
            return self._read_h264(data, is_keyframe)
        if self.codec == "hevc":
            return self._read_hevc(data, is_keyframe)
        if self.codec == "vp8":  # RFC 6386 9.1
            return PacketFacts(is_keyframe and not data[0] & 1, is_hidden=not data[0] & 0b10000)
        if self.codec == "vp9":  # bitstream specification 6.2; a superframe (annex B) shows its last frame
            is_superframe = data[-1] & 0b1110_0000 == 0b1100_0000
            is_hidden = not is_superframe and not data[0] & 0b1010
            return PacketFacts(is_keyframe and not data[0] & 0b1100, is_hidden=is_hidden)
        if self.codec == "av1":  # 7.5: random access begins with a sequence header, maybe after a delimiter
            at = 2 if data[0] >> 3 & 15 == 2 and len(data) > 2 else 0
            return PacketFacts(is_keyframe and data[at] >> 3 & 15 == 1)
        return PacketFacts()

    def _read_h264(self, data: memoryview, is_keyframe: bool) -> PacketFacts:
        is_start = has_parameters = is_reference = False
        halves: set[Field | None] = set()
        for nal in self._nal_units(data):
            kind = nal[0] & 31  # ITU-T H.264 table 7-1
            is_reference |= kind <= 5 and nal[0] & 0b0110_0000 != 0
            if kind == 7:
                has_parameters = True
                self._parameters = SequenceParameters.read(nal)
            if kind in (1, 2, 5) and self._parameters is not None and self._parameters.has_fields:
                halves.add(self._parameters.field_of(nal))
            if is_keyframe and not is_start:
                is_start = kind == 5 or (kind == 6 and _recovers_at_once(nal))
        half = halves.pop() if len(halves) == 1 else None
        return PacketFacts(is_start, has_parameters, is_reference=is_reference, half=half)

    def _read_hevc(self, data: memoryview, is_keyframe: bool) -> PacketFacts:
        is_start = has_parameters = is_reference = is_layered = False
        for nal in self._nal_units(data):
            kind = nal[0] >> 1 & 63  # ITU-T H.265 table 7-1
            has_parameters |= kind == 33
            if kind < 32:
                is_reference |= kind >= 16 or kind % 2 == 1
                is_layered |= nal[1] & 7 > 1
                is_start |= is_keyframe and 16 <= kind <= 21
        return PacketFacts(is_start, has_parameters, is_reference=is_reference, is_layered=is_layered)

    def _nal_units(self, data: memoryview) -> Iterator[memoryview]:
        if not self.length_bytes:
            begins = [match.end() for match in _START_CODE.finditer(data)]
            for begin, end in itertools.pairwise([*begins, len(data)]):
                if end - begin > 1:
                    yield data[begin:end]
            return
        at = self.length_bytes
        while at + 2 <= len(data):
            size = int.from_bytes(data[at - self.length_bytes : at], "big")
            if size > 1:
                yield data[at : at + size]
            at += size + self.length_bytes


def _recovers_at_once(nal: memoryview) -> bool:
    """Find a recovery point message with recovery_frame_cnt 0, a set bit (ITU-T H.264 7.3.2.3, D.1.8)."""
    sei = bytes(nal[1:]).replace(b"\0\0\3", b"\0\0")
    at = 0
    while at + 2 < len(sei):
        kind, at = _sum_of_bytes(sei, at)
        size, at = _sum_of_bytes(sei, at)
        if kind == _RECOVERY_POINT and at < len(sei):
            return sei[at] & 0x80 != 0
        at += size
    return False


def _sum_of_bytes(sei: bytes, at: int) -> tuple[int, int]:
    total = 0
    while at < len(sei) and sei[at] == 255:
        total, at = total + 255, at + 1
    return (total + sei[at] if at < len(sei) else total), at + 1
