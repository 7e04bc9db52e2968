"""Fields of H.264: interlaced pictures that two packets make up (PAFF), known by their slice headers.

ITU-T H.264: 7.3.2.1.1 sequence parameter set, 7.3.3 slice header, 7.4.1.2.4 which fields make one picture.
"""

from __future__ import annotations

from dataclasses import dataclass

_WITH_CHROMA = (44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244)  # profiles that tell its format
_SPS_BYTES, _SLICE_BYTES = 512, 32  # enough of each; the rest is not read


@dataclass(frozen=True)
class Field:
    """One field of a picture."""

    frame_num: int
    is_bottom: bool

    def completes(self, first: Field | None) -> bool:
        """Say whether this field is the other one of the picture that `first` began."""
        return first is not None and (first.frame_num, not first.is_bottom) == (
            self.frame_num,
            self.is_bottom,
        )


@dataclass(frozen=True)
class SequenceParameters:
    """What the slice headers of a sequence are read with."""

    frame_num_bits: int
    has_fields: bool
    has_separate_planes: bool

    @classmethod
    def read(cls, nal: memoryview) -> SequenceParameters | None:
        """Read a sequence parameter set (NAL unit type 7), or give None where it is damaged."""
        bits = _Bits(bytes(nal[1:_SPS_BYTES]))
        try:
            return cls._read(bits)
        except EOFError:
            return None

    @classmethod
    def _read(cls, bits: _Bits) -> SequenceParameters:
        profile, separate = bits.take(8), False
        bits.take(16)
        bits.unsigned()
        if profile in _WITH_CHROMA:
            chroma = bits.unsigned()
            separate = chroma == 3 and bits.take(1) == 1
            bits.unsigned()
            bits.unsigned()
            bits.take(1)
            if bits.take(1):
                for i in range(12 if chroma == 3 else 8):
                    if bits.take(1):
                        _skip_scaling_list(bits, 16 if i < 6 else 64)
        frame_num_bits = bits.unsigned() + 4
        order_kind = bits.unsigned()
        if order_kind == 0:
            bits.unsigned()
        elif order_kind == 1:
            bits.take(1)
            bits.unsigned()
            bits.unsigned()
            for _ in range(min(bits.unsigned(), 255)):
                bits.unsigned()
        bits.unsigned()
        bits.take(1)
        bits.unsigned()
        bits.unsigned()
        return cls(frame_num_bits, not bits.take(1), separate)

    def field_of(self, nal: memoryview) -> Field | None:
        """Read the header of a slice (NAL unit types 1, 2, 5); None for one of a whole frame."""
        if not self.has_fields:
            return None
        bits = _Bits(bytes(nal[1:_SLICE_BYTES]))
        try:
            for _ in range(3):  # first_mb_in_slice, slice_type, pic_parameter_set_id
                bits.unsigned()
            bits.take(2 if self.has_separate_planes else 0)
            frame_num = bits.take(self.frame_num_bits)
            return Field(frame_num, bits.take(1) == 1) if bits.take(1) else None
        except EOFError:
            return None


class _Bits:
    """Bits of a NAL unit, first to last, without the bytes that keep start codes out of it (7.4.1)."""

    def __init__(self, content: bytes) -> None:
        content = content.replace(b"\0\0\3", b"\0\0")
        self._value, self._left = int.from_bytes(content, "big"), 8 * len(content)

    def take(self, n: int) -> int:
        """Read an unsigned number of `n` bits, u(n); raises `EOFError` behind the end."""
        if n > self._left:
            raise EOFError
        self._left -= n
        return self._value >> self._left & ((1 << n) - 1)

    def unsigned(self) -> int:
        """Read an Exp-Golomb code, ue(v) (9.1)."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8  # 7.3.2.1.1.1
    for _ in range(size):
        if following:
            code = bits.unsigned()
            following = (last + (code + 1) // 2 * (1 if code % 2 else -1)) % 256
        last = following or last
