"""The clock of a file: one timeline for all its tracks, from the time stamps of its packets.

Stamps of a recording can start anew: its clock was set, its 33 bits ran over, two recordings were joined. As
in FFmpeg's program, what follows such a jump is then moved so that it goes on where the track ended before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from av.container import InputContainer
from av.format import Flags
from av.packet import Packet
from av.stream import Stream

BACK_S = 0.1  # a track that goes back further has been restarted, in any container
AHEAD_S = 10.0  # and one that goes ahead further, where the container's clock may jump; else it has a hole
MAX_TIME_S = 1e9  # 31 years
_REMEMBERED = 3  # clocks: for a while packets of the old one still come beside those of the new one


class _Reached(NamedTuple):
    """Where a track stands (s): its last packet, and where the next one should be."""

    last_s: float
    next_s: float


@dataclass
class Clock:
    """Moves the time stamps of packets, given in file order, onto one timeline.

    `may_jump`: the container's format has a clock that may start anew; `has_jumped`: it did.
    """

    may_jump: bool = False
    has_jumped: bool = False
    _shifts_s: list[float] = field(default_factory=lambda: [0.0])  # the latest first
    _reached: dict[int, _Reached] = field(default_factory=dict)

    @classmethod
    def of(cls, container: InputContainer) -> Clock:
        """Make the clock of an open file."""
        return cls(may_jump=bool(container.format.flags & Flags.ts_discont.value))

    def set(self, packet: Packet[Stream]) -> None:
        """Move a packet's pts and dts."""
        unit = packet.time_base
        for stamp in (packet.pts, packet.dts):
            if stamp is not None and not abs(stamp * unit) < MAX_TIME_S:
                packet.pts = packet.dts = None  # no time, but damage
        if packet.dts is None:  # pts go back and forth: they tell no jump
            shift_s = self._shifts_s[0]
        else:
            dts_s = packet.dts * unit.numerator / unit.denominator
            shift_s = self._shift(packet.stream_index, dts_s)
            length_s = (packet.duration or 0) * unit.numerator / unit.denominator
            self._reached[packet.stream_index] = _Reached(dts_s + shift_s, dts_s + shift_s + length_s)
        if shift_s:
            shift = round(shift_s * unit.denominator / unit.numerator)
            packet.pts = None if packet.pts is None else packet.pts + shift
            packet.dts = None if packet.dts is None else packet.dts + shift

    def _shift(self, track: int, dts_s: float) -> float:
        reached = self._reached.get(track)
        if reached is None:
            return self._shifts_s[0]
        ahead_s = {shift_s: dts_s + shift_s - reached.next_s for shift_s in self._shifts_s}
        fitting = [
            shift_s
            for shift_s in self._shifts_s
            if dts_s + shift_s >= reached.last_s - BACK_S
            and not (self.may_jump and ahead_s[shift_s] > AHEAD_S)
        ]
        if fitting:
            return min(fitting, key=lambda shift_s: abs(ahead_s[shift_s]))
        self.has_jumped = True
        self._shifts_s = [reached.next_s - dts_s, *self._shifts_s][:_REMEMBERED]
        return self._shifts_s[0]
