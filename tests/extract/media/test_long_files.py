"""Films of hours: memory follows what is kept of them, and time what has to be decoded."""

import resource
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import pytest
from support.clip_files import number_of
from support.timed_clips import TimedClip, seconds_heard, write_timed

from avcil.errors import DecodeError
from avcil.extract.media import packets
from avcil.extract.media.contract import DecodeRequest
from avcil.extract.media.decode import decode
from avcil.extract.media.frame_rules import spread
from avcil.extract.media.frames import read_by_gop, read_through
from avcil.extract.media.opening import open_media
from avcil.extract.prepare import Preparation, PreparedClip
from avcil.extract.recipe import recommended
from avcil.extract.sources.manifest import Clip
from avcil.extract.workers import DecodePool, PoolOptions

MORE_BYTES = 100e6  # than the last clip took; an hour of 48 kHz stereo as float32 has 1.4e9


@dataclass(frozen=True)
class PeakWork:
    """A preparation that gives the most memory that its process has had, in bytes."""

    prepare: Preparation

    def __call__(self, clip: Clip) -> float | DecodeError:
        """Prepare a clip."""
        value = self.prepare(clip)
        assert isinstance(value, PreparedClip), value
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def repeated(clip: Path, path: Path, times: int, length_s: int) -> Path:
    """Write a file whose packets are those of a clip again and again."""
    with av.open(str(clip)) as source, av.open(str(path), "w") as file:
        tracks = {stream.index: file.add_stream_from_template(stream) for stream in source.streams}
        found = [packet for packet in source.demux() if packet.size]
        found = [packet for packet in found if 0 <= (packet.dts or 0) * packet.time_base < length_s]
        stamps = [
            (bytes(p), p.stream_index, p.time_base, p.pts or 0, p.dts or 0, p.is_keyframe) for p in found
        ]
        for i in range(times):
            for content, track, unit, pts, dts, is_key in stamps:
                packet = av.Packet(content)
                shift = round(i * length_s / unit)
                packet.stream, packet.time_base = tracks[track], unit
                packet.pts, packet.dts, packet.is_keyframe = pts + shift, dts + shift, is_key
                packet.duration = round(Fraction(1, 25) / unit) if track == 0 else 1024
                file.mux(packet)
    return path


@pytest.fixture(scope="module", params=["mp4", "mkv", "ts"])
def long_clip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Four seconds with a number on each picture, and the same over and over for 10 minutes."""
    folder = tmp_path_factory.mktemp("long")
    clip = write_timed(folder / "x.mp4", TimedClip(options={"bf": "0"}))
    return clip, repeated(clip, folder / f"long.{request.param}", 150, 4)


def test_memory_does_not_follow_the_length(long_clip: tuple[Path, Path]) -> None:
    clip, film = long_clip
    clips = [
        Clip("first", clip, "x", "train"),
        Clip("whole", film, "x", "train"),
        Clip("part", film, "x", "train", 500.0, 510.0),
        Clip("to the end", film, "x", "train", 10.0),
    ]
    work = PeakWork(Preparation(recommended()))
    with DecodePool(work, PoolOptions(1)) as pool:
        peaks = {result.clip.id: result.value for result in pool.run(clips)}
    first = peaks["first"]
    assert isinstance(first, float)
    for name, peak in peaks.items():
        assert isinstance(peak, float) and peak - first < MORE_BYTES, (name, peak)


def test_frames_and_sound_of_a_long_file_are_in_place(
    long_clip: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    film = long_clip[1]
    request = DecodeRequest(16, sound_s=4.0)
    held = decode(film, request)
    assert [number_of(frame) for frame in held.frames] == [i % 100 for i in spread(15_000, 16)]
    assert seconds_heard(held) == "00112233"
    monkeypatch.setattr(packets, "HELD_BYTES", 2000)  # read again, by seeking where the container can
    again = decode(film, request)
    assert (again.frames == held.frames).all() and (again.frame_times_s == held.frame_times_s).all()
    part = decode(film, DecodeRequest(4, start_s=501.0, end_s=503.0))
    assert seconds_heard(part) == "1122"
    assert {
        number_of(f) - round(t % 4 * 25) for f, t in zip(part.frames, part.frame_times_s, strict=True)
    } <= {
        0,
        -1,
    }


def test_every_way_of_reading_again_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = write_timed(tmp_path / "x.mkv", TimedClip((0.0, 9.0), (0.0, 9.0), gop=10))
    request = DecodeRequest(5)
    with open_media(clip, request) as media:
        expected = read_through(media, request).frames
    monkeypatch.setattr(packets, "HELD_BYTES", 0)
    for n_packets in (0, 20, 10_000):  # always by seeking, sometimes, never
        monkeypatch.setattr(packets, "SEEK_PACKETS", n_packets)
        with open_media(clip, request) as media:
            picture = read_by_gop(media, request)
            assert picture is not None and (picture.frames == expected).all()
            assert (read_through(media, request).frames == expected).all()
