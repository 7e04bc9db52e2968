"""Groups of pictures: which packets have to be decoded for the wanted frames, by positions and times."""

from __future__ import annotations

import bisect
from collections.abc import Container, Iterable, Sequence
from typing import NamedTuple


class PacketEntry(NamedTuple):
    """What is remembered of one packet of the picture track.

    `pts`, `duration`: in the track's time base; `is_shown`: it gives a frame; `is_start`: decoding can begin
    here; `is_reference`: other pictures may refer to it.
    """

    pts: int | None
    duration: int = 0
    is_shown: bool = True
    is_start: bool = False
    is_reference: bool = True


def display_order(entries: Sequence[PacketEntry]) -> list[int] | None:
    """Give the positions of the shown packets by time, or None where times do not tell frames apart."""
    shown = [(entry.pts, at) for at, entry in enumerate(entries) if entry.is_shown and entry.pts is not None]
    if len(shown) < sum(entry.is_shown for entry in entries) or len(dict(shown)) < len(shown):
        return None
    return [at for _, at in sorted(shown)]


def ranges_to_decode(entries: Sequence[PacketEntry], wanted: Iterable[int]) -> list[range]:
    """Give the ascending, separate ranges of positions to decode, each from a fresh decoder.

    A range begins where decoding can begin and ends at the last wanted packet of its GOP. A picture shown
    before the key frame that it follows in the file (open GOP) refers to the GOP before: it comes too.
    """
    starts = [0, *(at for at, entry in enumerate(entries) if entry.is_start and at)]
    ranges: list[range] = []
    for at in sorted(wanted):
        gop = bisect.bisect_right(starts, at) - 1
        if gop and is_before(entries[at], entries[starts[gop]]):
            gop -= 1
        begin = starts[gop]
        while ranges and begin <= ranges[-1].stop:  # the decoder just goes on
            begin = min(begin, ranges.pop().start)
        ranges.append(range(begin, at + 1))
    return ranges


def frames_expected(entries: Sequence[PacketEntry], part: range, wanted: Container[int]) -> set[int | None]:
    """Give the pts of the frames that decoding a range gives where pictures that nobody needs are left out.

    Not counted are those shown before the range's first: whether a decoder gives them is its own affair.
    """
    return {
        entries[at].pts
        for at in part
        if entries[at].is_shown
        and (entries[at].is_reference or at in wanted)
        and not is_before(entries[at], entries[part.start])
    }


def is_before(one: PacketEntry, other: PacketEntry) -> bool:
    """Say whether one packet's picture is known to be shown before the other's."""
    return one.pts is not None and other.pts is not None and one.pts < other.pts
