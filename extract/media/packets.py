"""Packets of a file, not decoded: all of them in one pass, or the part around a window."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from avcil.extract.media.bitstream import CODECS, PacketReader
from avcil.extract.media.contract import DecodeRequest
from avcil.extract.media.gops import PacketEntry

HELD_BYTES = 256 * 2**20  # of compressed picture in memory; a longer file is read twice instead
PART_FORMATS = ("mp4", "matroska")  # containers that date every packet and find a key frame by time
LEAD_S = 2.0  # read before a window, as sound lies in the file up to so much earlier or later than picture
RUN_UP_S = 0.5  # of sound decoded before a window, for decoders that carry state from packet to packet
MAX_INTERLEAVE_S = 10.0  # read behind a window in search of its sound


@dataclass
class Packets:
    """The packets of one or two tracks in file order.

    `entries`: one for every packet of the picture; `can_skip`: what they say of themselves can be
    relied on, so that not all of them need decoding; `has_false_keys`: the container flags as key frames
    packets that are none.
    """

    path: Path
    picture_index: int
    entries: list[PacketEntry] = field(default_factory=list)
    sound: list[Packet[Stream]] = field(default_factory=list)
    can_skip: bool = False
    has_false_keys: bool = False
    seek_us: int | None = None
    _held: list[Packet[Stream]] | None = field(default_factory=list)
    _held_bytes: int = 0

    def picture(self) -> Iterator[Packet[Stream]]:
        """Give the packets of the picture, one for each entry: from memory, or from the file once more."""
        if self._held is not None:
            yield from self._held
            return
        with av.open(str(self.path), metadata_errors="ignore") as container:
            packets = _demux(container, [container.streams[self.picture_index]], self.seek_us)
            yield from itertools.islice(packets, len(self.entries))

    def hold(self, packet: Packet[Stream]) -> None:
        """Keep a packet of the picture in memory, or from a certain number of bytes on none."""
        self._held_bytes += packet.size
        if self._held is not None and self._held_bytes <= HELD_BYTES:
            self._held.append(packet)
        else:
            self._held = None


def has_parts(container: InputContainer) -> bool:
    """Say whether a part of such a file can be read without the rest."""
    return any(name in PART_FORMATS for name in container.format.name.split(","))


def read_packets(
    container: InputContainer, path: Path, video: VideoStream, audio: AudioStream | None
) -> Packets:
    """Read all packets, up to an error of the file; raises it (`FFmpegError`) where there are none."""
    return _read_tracks(container, Packets(path, video.index), video, audio, None)


def read_part(
    container: InputContainer,
    path: Path,
    video: VideoStream,
    audio: AudioStream | None,
    request: DecodeRequest,
) -> Packets | None:
    """Read what the request's window needs, or give None where it cannot be found without reading all."""
    origin_s = begin_of(container)
    window = _WindowEnd(request, origin_s, has_sound=audio is not None)
    begin_s = 0.0 if request.start_s is None else request.start_s - LEAD_S
    seek_us = round((begin_s + origin_s) * av.time_base) if begin_s > 0 else None
    packets = Packets(path, video.index, seek_us=seek_us)
    _read_tracks(container, packets, video, audio, window)
    if window.gave_up:
        return None
    if seek_us is not None and request.start_s is not None:
        first = packets.entries[0] if packets.entries else None
        if first is None or first.pts is None or not first.is_start:
            return None
        if time_s(first.pts, video, origin_s) > request.start_s:
            return None
        if audio is not None:
            pts = packets.sound[0].pts if packets.sound else None
            if pts is None or time_s(pts, audio, origin_s) > request.start_s - RUN_UP_S:
                return None
    return packets


def begin_of(container: InputContainer) -> float:
    """Give where a file's time begins (s). Before 0 lies only the run-up of a sound decoder, not heard."""
    return max(0, container.start_time or 0) / av.time_base


def time_s(pts: int, stream: Stream, origin_s: float) -> float:
    """Give a moment of a track in s from the file's start."""
    return float(pts * (stream.time_base or 0)) - origin_s


def _demux(container: InputContainer, streams: list[Stream], seek_us: int | None) -> Iterator[Packet[Stream]]:
    if seek_us is not None:
        container.seek(seek_us)
    for packet in container.demux(*streams):
        if packet.size:
            yield packet


def _read_tracks(
    container: InputContainer,
    packets: Packets,
    video: VideoStream,
    audio: AudioStream | None,
    window: _WindowEnd | None,
) -> Packets:
    codec = video.codec_context.codec.canonical_name
    reader = PacketReader.of(codec, video.codec_context.extradata)
    have_parameters: set[bool] = set()  # of the packets where decoding can begin
    changes = is_layered = False
    streams: list[Stream] = [video] if audio is None else [video, audio]
    try:
        for packet in _demux(container, streams, packets.seek_us):
            if packet.stream_index != video.index:
                packets.sound.append(packet)
            else:
                packets.hold(packet)
                facts = reader.read(memoryview(packet), packet.is_keyframe)
                changes |= bool(packets.entries) and packet.has_sidedata("new_extradata")
                is_layered |= facts.is_layered
                packets.has_false_keys |= packet.is_keyframe and not facts.is_start
                if facts.is_start:
                    have_parameters.add(facts.has_parameters)
                length, is_shown = packet.duration or 0, not (packet.is_discard or facts.is_hidden)
                entry = PacketEntry(packet.pts, length, is_shown, facts.is_start, facts.is_reference)
                packets.entries.append(entry)
            if window is not None and window.is_past(packet, video):
                break
    except FFmpegError:
        if not packets.entries:
            raise
    if container.format.name != "avi" and not changes and len(have_parameters) == 1:  # AVI has no dates
        packets.can_skip = codec in CODECS
    if is_layered:
        packets.entries = [entry._replace(is_reference=True) for entry in packets.entries]
    return packets


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
            self._sound_is_past |= shown_s >= self.request.end_s
            return False
        if shown_s >= self.request.end_s:
            self._next_s = min(self._next_s, shown_s)
        read_s = time_s(packet.dts, video, self.origin_s)
        if self.has_sound and not self._sound_is_past:
            self.gave_up = read_s > self.request.end_s + MAX_INTERLEAVE_S
            return self.gave_up
        return read_s >= self._next_s
