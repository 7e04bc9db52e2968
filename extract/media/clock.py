"""The clock of a file: one timeline for all its tracks, from the time stamps of its packets.

Stamps of a recording can start anew: its clock was set, its 33 bits ran over, two recordings were joined. As
in FFmpeg's program, what follows such a jump is then moved so that it goes on where the track ended before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from av.container import InputContainer
from av.format import Flags
from av.packet import Packet
from av.stream import Stream

BACK_S = 0.1  # a track that goes back further has been restarted, in any container
AHEAD_S = 10.0  # and one that goes ahead further, where the container's clock may jump; else it has a hole
MAX_TIME_S = 1e9  # 31 years
_REMEMBERED = 3  # clocks: for a while packets of the old one still come beside those of the new one


@dataclass
class _Track:
    """Where a track stands (s): its last packet, where the next one should be, and the unit of its stamps."""

    unit_s: float
    last_s: float = float("-inf")
    next_s: float = 0.0


@dataclass
class Clock:
    """Moves the time stamps of packets, given in file order, onto one timeline.

    `may_jump`: the container's format has a clock that may start anew; `has_jumped`: it did.
    """

    may_jump: bool = False
    has_jumped: bool = False
    _shifts_s: list[float] = field(default_factory=lambda: [0.0])  # the latest first
    _tracks: dict[int, _Track] = field(default_factory=dict)

    @classmethod
    def of(cls, container: InputContainer) -> Clock:
        """Make the clock of an open file."""
        jumps: Any = Flags.ts_discont.value  # PyAV's types call it one of `Flags`
        return cls(may_jump=bool(container.format.flags & jumps))

    def set(self, packet: Packet[Stream]) -> None:
        """Move a packet's pts and dts; stamps that cannot be times are taken away."""
        track = self._tracks.get(packet.stream_index)
        if track is None:
            track = self._tracks[packet.stream_index] = _Track(float(packet.time_base or 1))
        pts, dts = packet.pts, packet.dts
        if not -MAX_TIME_S < (pts or 0) * track.unit_s < MAX_TIME_S:
            packet.pts = packet.dts = pts = dts = None
        shift_s = self._shifts_s[0]
        if dts is not None:  # pts go back and forth: they tell no jump
            dts_s = dts * track.unit_s
            if len(self._shifts_s) > 1 or not self._follows(dts_s, track):
                shift_s = self._shift(track, dts_s)
            track.last_s = dts_s + shift_s
            track.next_s = track.last_s + (packet.duration or 0) * track.unit_s
        if shift_s:
            shift = round(shift_s / track.unit_s)
            packet.pts = None if pts is None else pts + shift
            packet.dts = None if dts is None else dts + shift

    def _follows(self, time_s: float, track: _Track) -> bool:
        """Say whether a packet may follow the last one of its track without a jump."""
        is_back = time_s < track.last_s - BACK_S
        is_ahead = self.may_jump and time_s > track.next_s + AHEAD_S
        return not (is_back or is_ahead) or track.last_s == float("-inf")

    def _shift(self, track: _Track, dts_s: float) -> float:
        fitting = [shift_s for shift_s in self._shifts_s if self._follows(dts_s + shift_s, track)]
        if track.last_s == float("-inf"):
            return fitting[0]
        if fitting:
            return min(fitting, key=lambda shift_s: abs(dts_s + shift_s - track.next_s))
        self.has_jumped = True
        self._shifts_s = [track.next_s - dts_s, *self._shifts_s][:_REMEMBERED]
        return self._shifts_s[0]
