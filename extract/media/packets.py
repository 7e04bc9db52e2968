"""Packets of a file, not decoded: one pass over all of them, or over the part around a window.

What stays in memory is bounded: a table of the picture's packets, their bytes while they are few, and the
sound that is wanted.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard, Stream
from av.video.stream import VideoStream

from avcil.extract.media.bitstream import CODECS, PacketReader
from avcil.extract.media.clock import Clock
from avcil.extract.media.contract import DecodeRequest
from avcil.extract.media.fields import Field
from avcil.extract.media.gops import PacketEntry, PacketTable

HELD_BYTES = 32 * 2**20  # of compressed picture in memory; a longer file is read twice instead
PART_FORMATS = ("mp4", "matroska")  # containers that date every packet and find a key frame by time
LEAD_S = 2.0  # read before a window, as sound lies in the file up to so much earlier or later than picture
RUN_UP_S = 0.5  # of sound decoded before a window, for decoders that carry state from packet to packet
MAX_INTERLEAVE_S = 10.0  # read behind a window in search of its sound
SEEK_PACKETS = 250  # to skip fewer is quicker than to seek


@dataclass
class SoundPackets:
    """The packets of a sound track that a request needs.

    `goes_on_s`: when the first one behind them begins, None at the track's end; `n_taken`: how many there
    were in all.
    """

    request: DecodeRequest
    origin_s: float
    held: list[Packet[Stream]] = field(default_factory=list)
    goes_on_s: float | None = None
    n_taken: int = 0
    _unit_s: float | None = None
    _next_s: float = 0.0

    def take(self, packet: Packet[Stream]) -> None:
        """Keep a packet, or not."""
        if self._unit_s is None:
            self._unit_s = float(packet.time_base or 0)
        begin_s = self._next_s if packet.pts is None else packet.pts * self._unit_s - self.origin_s
        self._next_s = begin_s + (packet.duration or 0) * self._unit_s
        self.n_taken += 1
        if begin_s >= self.request.sound_end_s:
            self.goes_on_s = begin_s if self.goes_on_s is None else self.goes_on_s
            return
        if self.request.start_s is not None and begin_s <= self.request.start_s - RUN_UP_S:
            self.held.clear()  # of those far enough before the window, only the last one matters
        self.held.append(packet)


@dataclass
class Packets:
    """The packets of a picture and a sound track.

    `entries`: one for every packet of the picture in file order; `first`: where decoding begins; `can_skip`:
    what they say of themselves can be relied on, so that not all of them need decoding; `has_false_keys`:
    the container flags as key frames packets that are none; `has_jumped`: see `Clock`; `reopen` opens the
    file once more.
    """

    container: InputContainer
    video: VideoStream
    audio: AudioStream | None
    sound: SoundPackets
    reopen: Callable[[], InputContainer]
    seek_us: int | None = None
    entries: PacketTable = field(default_factory=PacketTable)
    first: int = 0
    can_skip: bool = False
    has_false_keys: bool = False
    has_jumped: bool = False
    _held: list[Packet[Stream]] | None = field(default_factory=list)
    _held_bytes: int = 0
    _again: Iterator[Packet[Stream]] | None = None  # the picture read once more, as far as `_position`
    _position: int = 0

    @property
    def is_avi(self) -> bool:
        """Whether the container is AVI, which does not date what is shown."""
        return self.container.format.name == "avi"

    @property
    def may_begin_midway(self) -> bool:
        """Whether the file is a broadcast, which tuners and cuts begin anywhere."""
        return Clock.of(self.container).may_jump

    def picture(self, at: int = 0) -> Iterator[Packet[Stream]]:
        """Give the packets of the picture from position `at` on: from memory, or from the file once more."""
        if self._held is not None:
            yield from itertools.islice(self._held, at, None)
            return
        is_far = self._again is None or not 0 <= at - self._position <= SEEK_PACKETS
        if is_far and self._seek(at):
            self._position = at
        elif self._again is None or at < self._position:
            self._again, self._position = self._from_begin(), 0
        assert self._again is not None
        for packet in self._again:
            self._position += 1
            if self._position > at:
                yield packet
            if self._position == len(self.entries):
                break

    def _seek(self, at: int) -> bool:
        """Have `_again` go on at a packet, or say that it cannot be found by its time."""
        entry = self.entries[at]
        if not (has_parts(self.container) and entry.is_start and entry.pts is not None) or self.has_jumped:
            return False
        self.container.seek(entry.pts, stream=self.video)
        packets = _demux(self.container, [self.video], Clock.of(self.container), None)
        for packet in itertools.islice(packets, SEEK_PACKETS):
            if packet.pts == entry.pts:
                self._again = itertools.chain([packet], packets)
                return True
        return False

    def _from_begin(self) -> Iterator[Packet[Stream]]:
        with self.reopen() as container:
            indices = [stream.index for stream in (self.video, self.audio) if stream is not None]
            streams = [container.streams[index] for index in indices]
            for packet in _demux(container, streams, Clock.of(container), self.seek_us):
                if packet.stream_index == self.video.index:
                    yield packet

    def read(self, window: _WindowEnd | None = None) -> None:
        """Read the packets up to the window's end or an error of the file; raise it where there are none."""
        clock = Clock.of(self.container)
        notes = _PictureNotes(self)
        streams: list[Stream] = [self.video] if self.audio is None else [self.video, self.audio]
        try:
            for packet in _demux(self.container, streams, clock, self.seek_us):
                if packet.stream_index == self.video.index:
                    self._hold(packet)
                    notes.take(packet)
                else:
                    self.sound.take(packet)
                    if self.sound.goes_on_s is not None and has_parts(self.container):
                        packet.stream.discard = Discard.all  # the rest need not even be read
                if window is not None and window.is_past(packet, self.video):
                    break
        except FFmpegError:
            if not self.entries:
                raise
        self.has_jumped = clock.has_jumped
        notes.conclude()

    def _hold(self, packet: Packet[Stream]) -> None:
        """Keep a packet of the picture in memory, or from a certain number of bytes on none."""
        self._held_bytes += packet.size
        if self._held is not None and self._held_bytes <= HELD_BYTES:
            self._held.append(packet)
        else:
            self._held = None


@dataclass
class _PictureNotes:
    """What the packets of a picture say of themselves, one after the other."""

    packets: Packets
    _have_parameters: set[bool] = field(default_factory=set)  # of the packets where decoding can begin
    _half: Field | None = None  # of a picture whose other field is still to come
    _first_key: int | None = None
    _changes: bool = False
    _is_layered: bool = False

    def __post_init__(self) -> None:
        context = self.packets.video.codec_context
        self._codec = context.codec.canonical_name
        self._reader = PacketReader.of(self._codec, context.extradata)

    def take(self, packet: Packet[Stream]) -> None:
        """Note a packet."""
        packets, entries = self.packets, self.packets.entries
        facts = self._reader.read(memoryview(packet), packet.is_keyframe)
        completes = facts.half is not None and facts.half.completes(self._half)
        self._half = None if completes else facts.half
        is_start = facts.is_start and not completes
        if packet.is_keyframe and self._first_key is None:
            self._first_key = len(entries)
        if is_start:
            self._have_parameters.add(facts.has_parameters)
        self._changes |= len(entries) > 0 and packet.has_sidedata("new_extradata")
        self._is_layered |= facts.is_layered
        packets.has_false_keys |= packet.is_keyframe and not facts.is_start
        is_shown = not (packet.is_discard or facts.is_hidden or completes)
        pts = packet.dts if packets.is_avi else packet.pts  # AVI only dates the decoding
        length = packet.duration or 0
        entries.append(PacketEntry(pts, length, is_shown, is_start, facts.is_reference, completes))

    def conclude(self) -> None:
        """Say what follows for the whole track."""
        packets, entries = self.packets, self.packets.entries
        if not packets.is_avi and not self._changes and len(self._have_parameters) == 1:
            packets.can_skip = self._codec in CODECS
        if self._is_layered:
            entries.refer_to_all()
        if self._first_key:  # a broadcast, joined midway: nothing before its first key frame can be decoded
            packets.first = entries.starts[0] if entries.starts else self._first_key
            begin = entries[packets.first].pts
            entries.hide(range(packets.first))
            if begin is not None:
                entries.hide(int(at) for at in np.flatnonzero(entries.has_pts & (entries.pts < begin)))


def has_parts(container: InputContainer) -> bool:
    """Say whether a part of such a file can be read without the rest."""
    return any(name in PART_FORMATS for name in container.format.name.split(","))


def read_part(packets: Packets, request: DecodeRequest) -> bool:
    """Read what the request's window needs, or say that it cannot be found without reading all."""
    video, audio, origin_s = packets.video, packets.audio, packets.sound.origin_s
    window = _WindowEnd(request, origin_s, has_sound=audio is not None)
    begin_s = 0.0 if request.start_s is None else request.start_s - LEAD_S
    if begin_s > 0:
        packets.seek_us = round((begin_s + origin_s) * av.time_base)
    packets.read(window)
    if window.gave_up:
        return False
    if packets.seek_us is not None and request.start_s is not None:
        first = packets.entries[0] if packets.entries else None
        if first is None or first.pts is None or not first.is_start:
            return False
        if time_s(first.pts, video, origin_s) > request.start_s:
            return False
        if audio is not None:
            pts = packets.sound.held[0].pts if packets.sound.held else None
            if pts is None or time_s(pts, audio, origin_s) > request.start_s - RUN_UP_S:
                return False
    return True


def begin_of(container: InputContainer, video: VideoStream) -> float:
    """Give where a file's time begins (s): with the first track that does, as players have it.

    Where the picture begins at 0 or later, before 0 lies the run-up of a sound decoder, not heard.
    """
    start_s = (container.start_time or 0) / av.time_base
    has_run_up = -RUN_UP_S < start_s < 0 <= (video.start_time or 0)
    return 0.0 if has_run_up else start_s


def time_s(pts: int, stream: Stream, origin_s: float) -> float:
    """Give a moment of a track in s from the file's start."""
    return float(pts * (stream.time_base or 0)) - origin_s


def _demux(
    container: InputContainer, streams: list[Stream], clock: Clock, seek_us: int | None
) -> Iterator[Packet[Stream]]:
    if seek_us is not None:
        container.seek(seek_us)
    with suppress(IndexError):  # PyAV 18, at the end of a file with tracks that appear midway
        for packet in container.demux(*streams):
            if packet.size:
                clock.set(packet)
                yield packet


@dataclass
class _WindowEnd:
    """The end of a request's window, found while packets are read: when no later one can belong to it.

    `gave_up`: the window's sound lies too far behind its picture.
    """

    request: DecodeRequest
    origin_s: float
    has_sound: bool
    gave_up: bool = False
    _next_s: float = float("inf")  # the earliest frame behind the window so far
    _sound_is_past: bool = False

    def is_past(self, packet: Packet[Stream], video: VideoStream) -> bool:
        """Note a packet and say whether it was the last one needed; no frame is shown before its dts."""
        if self.request.end_s is None or packet.pts is None or packet.dts is None:
            return False
        shown_s = time_s(packet.pts, packet.stream, self.origin_s)
        if packet.stream_index != video.index:
            self._sound_is_past |= shown_s >= self.request.sound_end_s
            return False
        if shown_s >= self.request.end_s:
            self._next_s = min(self._next_s, shown_s)
        read_s = time_s(packet.dts, video, self.origin_s)
        if self.has_sound and not self._sound_is_past:
            self.gave_up = read_s > self.request.end_s + MAX_INTERLEAVE_S
            return self.gave_up
        return read_s >= self._next_s
