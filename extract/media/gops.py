"""Groups of pictures: which packets have to be decoded for the wanted frames, by positions and times."""

from __future__ import annotations

import bisect
from array import array
from collections.abc import Container, Iterable
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

NO_PTS = -(2**63)  # FFmpeg's AV_NOPTS_VALUE
_SHOWN, _START, _REFERENCE, _COMPLETES = 1, 2, 4, 8


class PacketEntry(NamedTuple):
    """What is remembered of one packet of the picture track.

    `pts`, `duration`: in the track's time base; `is_shown`: it gives a frame; `is_start`: decoding can begin
    here; `is_reference`: other pictures may refer to it; `completes`: it is the second field of the picture
    that the packet before it began, and gives no frame of its own.
    """

    pts: int | None
    duration: int = 0
    is_shown: bool = True
    is_start: bool = False
    is_reference: bool = True
    completes: bool = False


class PacketTable:
    """The entries of a picture track in file order, in 17 bytes each."""

    def __init__(self, entries: Iterable[PacketEntry] = ()) -> None:
        self._pts, self._durations, self._flags = array("q"), array("q"), bytearray()
        for entry in entries:
            self.append(entry)

    def append(self, entry: PacketEntry) -> None:
        """Add a packet; not once the columns have been asked for."""
        self._pts.append(NO_PTS if entry.pts is None else entry.pts)
        self._durations.append(entry.duration)
        self._flags.append(
            _SHOWN * entry.is_shown
            | _START * entry.is_start
            | _REFERENCE * entry.is_reference
            | _COMPLETES * entry.completes
        )

    def __len__(self) -> int:
        return len(self._flags)

    def __getitem__(self, at: int) -> PacketEntry:
        pts, flags = self._pts[at], self._flags[at]
        return PacketEntry(
            None if pts == NO_PTS else pts,
            self._durations[at],
            bool(flags & _SHOWN),
            bool(flags & _START),
            bool(flags & _REFERENCE),
            bool(flags & _COMPLETES),
        )

    @cached_property
    def pts(self) -> NDArray[np.int64]:
        """Times int64 [packets], `has_pts` says of which."""
        return np.frombuffer(self._pts, np.int64)

    @cached_property
    def has_pts(self) -> NDArray[np.bool_]:
        """Which packets have a time, bool [packets]."""
        known: NDArray[np.bool_] = self.pts != NO_PTS
        return known

    @property
    def is_shown(self) -> NDArray[np.bool_]:
        """Which packets give a frame, bool [packets]."""
        return np.frombuffer(self._flags, np.uint8) & _SHOWN != 0

    @cached_property
    def starts(self) -> list[int]:
        """Positions where decoding can begin."""
        return [int(at) for at in np.flatnonzero(np.frombuffer(self._flags, np.uint8) & _START)]

    def hide(self, positions: Iterable[int]) -> None:
        """Note that these packets give no frame."""
        for at in positions:
            self._flags[at] &= ~_SHOWN

    def refer_to_all(self) -> None:
        """Note that any packet may be referred to."""
        self._flags[:] = bytes(flags | _REFERENCE for flags in self._flags)


def display_order(entries: PacketTable) -> NDArray[np.int64] | None:
    """Give the positions of the shown packets by time, or None where times do not tell frames apart."""
    shown = np.flatnonzero(entries.is_shown)
    order = shown[np.argsort(entries.pts[shown], kind="stable")]
    if not entries.has_pts[shown].all() or not np.diff(entries.pts[order]).all():
        return None
    return order


def ranges_to_decode(entries: PacketTable, wanted: Iterable[int]) -> list[range]:
    """Give the ascending, separate ranges of positions to decode, each from a fresh decoder.

    A range begins where decoding can begin and ends at the last wanted packet of its GOP, or at its second
    field. A picture shown before the key frame that it follows in the file (open GOP) refers to the GOP
    before: it comes too.
    """
    starts = entries.starts if entries.starts[:1] == [0] else [0, *entries.starts]
    ranges: list[range] = []
    for at in sorted(wanted):
        gop = bisect.bisect_right(starts, at) - 1
        if gop and is_before(entries[at], entries[starts[gop]]):
            gop -= 1
        begin, end = starts[gop], at + 1
        if end < len(entries) and entries[end].completes:
            end += 1
        while ranges and begin <= ranges[-1].stop:  # the decoder just goes on
            begin = min(begin, ranges.pop().start)
        ranges.append(range(begin, end))
    return ranges


def frames_expected(entries: PacketTable, part: range, wanted: Container[int]) -> set[int | None]:
    """Give the pts of the frames that decoding a range gives where pictures that nobody needs are left out.

    Not counted are those shown before the range's first: whether a decoder gives them is its own affair.
    """
    first = entries[part.start]
    return {
        entry.pts
        for at, entry in ((at, entries[at]) for at in part)
        if entry.is_shown and (entry.is_reference or at in wanted) and not is_before(entry, first)
    }


def is_before(one: PacketEntry, other: PacketEntry) -> bool:
    """Say whether one packet's picture is known to be shown before the other's."""
    return one.pts is not None and other.pts is not None and one.pts < other.pts
