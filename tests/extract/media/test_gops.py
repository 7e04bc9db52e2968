"""Which packets have to be decoded, and what they say of themselves."""

import pytest

from avcil.extract.media.bitstream import PacketFacts, PacketReader
from avcil.extract.media.gops import PacketEntry as Packet
from avcil.extract.media.gops import PacketTable, display_order, frames_expected, ranges_to_decode

START = {"is_start": True}
# Two closed GOPs of four in file order I P B B, then an open one, with B pictures shown before its I.
PACKETS = [
    Packet(0, **START),
    Packet(3),
    Packet(1, is_reference=False),
    Packet(2, is_reference=False),
]
PACKETS += [Packet(entry.pts + 4, 0, True, *entry[3:]) for entry in PACKETS if entry.pts is not None]
PACKETS += [
    Packet(10, **START),
    Packet(8, is_reference=False),
    Packet(9, is_reference=False),
    Packet(11),
]
TRACK = PacketTable(PACKETS)


def order(*packets: Packet) -> list[int] | None:
    found = display_order(PacketTable(packets))
    return None if found is None else found.tolist()


def test_the_order_is_that_of_the_dates() -> None:
    assert order(*PACKETS) == [0, 2, 3, 1, 4, 6, 7, 5, 9, 10, 8, 11]
    assert order(Packet(1, is_shown=False), Packet(0)) == [1]


def test_dates_that_tell_nothing_apart_give_no_order() -> None:
    assert order(Packet(0), Packet(None)) is None
    assert order(Packet(0), Packet(0)) is None


@pytest.mark.parametrize(
    ("wanted", "ranges"),
    [
        ([0], [(0, 1)]),
        ([2], [(0, 3)]),
        ([5], [(4, 6)]),
        ([1, 6], [(0, 2), (4, 7)]),
        ([3, 4], [(0, 5)]),  # goes on without a break
        ([8], [(8, 9)]),
        ([9], [(4, 10)]),  # needs the GOP before
        ([8, 9], [(4, 10)]),
        ([0, 11], [(0, 1), (8, 12)]),
        ([5, 9], [(4, 10)]),
    ],
)
def test_ranges_hold_what_the_wanted_pictures_depend_on(
    wanted: list[int], ranges: list[tuple[int, int]]
) -> None:
    assert [(part.start, part.stop) for part in ranges_to_decode(TRACK, wanted)] == ranges


def test_expected_are_references_and_wanted_pictures() -> None:
    assert frames_expected(TRACK, range(4), {2}) == {0, 3, 1}
    assert frames_expected(TRACK, range(8, 12), {11}) == {10, 11}


def nal_units(*units: bytes) -> memoryview:
    return memoryview(b"".join(len(unit).to_bytes(4, "big") + unit for unit in units))


H264 = PacketReader("h264", 4)
HEVC = PacketReader("hevc", 4)


@pytest.mark.parametrize(
    ("reader", "packet", "facts"),
    [
        (H264, nal_units(b"\x65\x88"), PacketFacts(is_start=True)),
        (H264, nal_units(b"\x67\x64", b"\x65\x88"), PacketFacts(is_start=True, has_parameters=True)),
        (H264, nal_units(b"\x41\x9a"), PacketFacts()),
        (H264, nal_units(b"\x01\x9e"), PacketFacts(is_reference=False)),
        (H264, nal_units(b"\x06\x06\x01\xc4\x80", b"\x41\x88"), PacketFacts(is_start=True)),
        (H264, nal_units(b"\x06\x05\x01\x00\x06\x01\xc4\x80", b"\x41\x88"), PacketFacts(is_start=True)),
        (H264, nal_units(b"\x06\x06\x01\x24\x80", b"\x41\x88"), PacketFacts()),  # recovers gradually
        (PacketReader("h264"), memoryview(b"\0\0\0\1\x65\x88"), PacketFacts(is_start=True)),
        (HEVC, nal_units(b"\x2a\x01\xaf"), PacketFacts(is_start=True)),  # CRA
        (HEVC, nal_units(b"\x02\x01\xd0"), PacketFacts()),
        (HEVC, nal_units(b"\x00\x01\xd0"), PacketFacts(is_reference=False)),
        (HEVC, nal_units(b"\x04\x02\xd0"), PacketFacts(is_reference=False, is_layered=True)),
        (PacketReader("vp8"), memoryview(b"\x10\x02\x00"), PacketFacts(is_start=True)),
        (PacketReader("vp8"), memoryview(b"\x01\x02\x00"), PacketFacts(is_hidden=True)),
        (PacketReader("vp9"), memoryview(b"\x82\x49\x83"), PacketFacts(is_start=True)),
        (PacketReader("vp9"), memoryview(b"\x84\x00\x00"), PacketFacts(is_hidden=True)),
        (PacketReader("vp9"), memoryview(b"\x84\x00\xc1"), PacketFacts()),
        (PacketReader("av1"), memoryview(b"\x12\x00\x0a\x0b"), PacketFacts(is_start=True)),
        (PacketReader("av1"), memoryview(b"\x32\x10"), PacketFacts()),
        (PacketReader("theora"), memoryview(b"\x00"), PacketFacts()),
    ],
)
def test_packets_tell_what_they_are(reader: PacketReader, packet: memoryview, facts: PacketFacts) -> None:
    assert reader.read(packet, is_keyframe=True) == facts
    assert not reader.read(packet, is_keyframe=False).is_start


@pytest.mark.parametrize("codec", ["h264", "hevc", "vp8", "vp9", "av1"])
@pytest.mark.parametrize("length_bytes", [0, 1, 4])
def test_any_bytes_are_read(codec: str, length_bytes: int) -> None:
    for content in (b"\0", b"\xff\xff", b"\0\0\0\1\x65", b"\0\0\0\2\x06\xff\0\0\1\6\1", bytes(range(256))):
        assert PacketReader(codec, length_bytes).read(memoryview(content), is_keyframe=True)
