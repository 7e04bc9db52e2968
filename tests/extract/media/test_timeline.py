"""One timeline a file: a window holds what a player shows then, whatever the time stamps look like."""

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from support.clip_files import number_of, numbered
from support.odd_videos import PictureFormat, write_pictures
from support.timed_clips import RATE_HZ, TimedClip, joined, moved, numbers_by_time, seconds_heard, write_timed

from avcil.errors import DecodeError
from avcil.extract.media.clock import Clock
from avcil.extract.media.contract import DecodedClip, DecodeRequest
from avcil.extract.media.decode import decode
from avcil.extract.media.frame_rules import spread

SILENT = frozenset({"audio"})
WRAP_S = 2**33 / 90_000  # when the clock of a transport stream starts anew


def window(path: Path, start_s: float | None = 1.0, end_s: float | None = 3.0) -> DecodedClip:
    return decode(path, DecodeRequest(8, start_s=start_s, end_s=end_s))


def whole(path: Path) -> DecodedClip:
    return window(path, None, None)


@pytest.mark.parametrize(
    ("name", "sound"), [("x.mp4", "aac"), ("x.mkv", "libopus"), ("x.ts", "aac"), ("x.flv", "aac")]
)
def test_a_hole_in_the_sound_is_silence(tmp_path: Path, name: str, sound: str) -> None:
    clip = TimedClip((0.0, 6.0), (0.0, 6.0), hole_s=(2.0, 4.0), sound=sound)
    path = write_timed(tmp_path / name, clip)
    assert seconds_heard(whole(path)) == "0011----4455"
    assert seconds_heard(window(path)) == "11--"
    assert seconds_heard(window(path, 3.0, 5.0)) == "--44"
    inside = window(path, 2.5, 3.5)
    assert inside.audio.shape[1] == 48_000 and not inside.audio.any() and not inside.missing_audio


@pytest.mark.parametrize("name", ["x.mp4", "x.mov", "x.mkv", "x.ts", "x.flv"])
def test_sound_that_begins_late_has_silence_in_front(tmp_path: Path, name: str) -> None:
    path = write_timed(tmp_path / name, TimedClip((0.0, 4.0), (2.0, 4.0)))
    assert seconds_heard(whole(path)) == "----2233"
    heard = window(path)
    assert seconds_heard(heard) == "--22" and numbers_by_time(heard) == {0}
    assert not window(path, 0.0, 1.0).audio.any()


@pytest.mark.parametrize("name", ["x.mp4", "x.mkv", "x.ts", "x.flv"])
def test_a_picture_that_begins_late_keeps_its_time(tmp_path: Path, name: str) -> None:
    path = write_timed(tmp_path / name, TimedClip((1.2, 4.0), (0.0, 4.0)))
    clip = whole(path)
    assert seconds_heard(clip) == "00112233"
    assert clip.frame_times_s[0] == pytest.approx(1.2, abs=0.03)
    assert numbers_by_time(clip) in ({0}, {-1})  # of a sound decoder's run-up, not quite a frame
    assert seconds_heard(window(path)) == "1122"


@pytest.mark.parametrize("name", ["x.mp4", "x.mkv", "x.ts", "x.flv"])
def test_times_that_begin_late_count_from_there(tmp_path: Path, name: str) -> None:
    path = write_timed(tmp_path / name, TimedClip(origin_s=100.0))
    clip = window(path)
    assert seconds_heard(whole(path)) == "00112233" and seconds_heard(clip) == "1122"
    assert numbers_by_time(clip) in ({0}, {-1})


def test_a_clock_that_runs_over_goes_on(tmp_path: Path) -> None:
    clip = write_timed(tmp_path / "x.mkv")
    path = moved(clip, tmp_path / "x.ts", lambda _: WRAP_S - 3.4)  # 1.4 s are the muxer's own
    assert seconds_heard(whole(path)) == "00112233" and seconds_heard(window(path)) == "1122"
    assert numbers_by_time(window(path)) in ({0}, {-1})


@pytest.mark.parametrize("jump_s", [5000.0, -1.5, 40.0])
def test_a_clock_that_jumps_goes_on(tmp_path: Path, jump_s: float) -> None:
    source = write_timed(tmp_path / "x.mkv", TimedClip(origin_s=5.0))
    first, second = (
        moved(source, tmp_path / f"{i}.ts", lambda _, shift_s=shift_s: shift_s)
        for i, shift_s in enumerate((0.0, 4.0 + jump_s))
    )
    path = tmp_path / "x.ts"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    clip = decode(path, DecodeRequest(200))
    assert seconds_heard(clip) == "0011223300112233"
    assert [number_of(frame) for frame in clip.frames] == [*range(100), *range(100)]
    assert np.abs(clip.frame_times_s - np.arange(200) / 25).max() < 0.15


@pytest.mark.parametrize(("name", "sound"), [("x.ts", "aac"), ("x.mkv", "aac"), ("x.mpg", "mp2")])
def test_joined_recordings_follow_each_other(tmp_path: Path, name: str, sound: str) -> None:
    codec = "mpeg2video" if name == "x.mpg" else "libx264"
    clip = TimedClip(sound=sound, codec=codec, options={} if codec == "libx264" else {"preset": ""})
    path = joined(tmp_path / name, clip, clip)
    found = decode(path, DecodeRequest(200))
    assert seconds_heard(found) == "0011223300112233"
    assert [number_of(frame) for frame in found.frames] == [*range(100), *range(100)]
    late = window(path, 5.0, 7.0)
    assert seconds_heard(late) in ("1122", "?122", "112?")
    assert {
        number_of(f) - round((t - 4.0) * 25) for f, t in zip(late.frames, late.frame_times_s, strict=True)
    } <= {
        -3,
        -2,
        -1,
        0,
        1,
    }


def test_small_errors_of_stamps_change_no_sample(tmp_path: Path) -> None:
    source = write_timed(tmp_path / "x.mkv", TimedClip(sound="pcm_s16le"))
    noise = np.random.default_rng(0)
    path = moved(source, tmp_path / "y.mkv", lambda _: 1.0 + float(noise.uniform(-0.005, 0.005)))
    one, other = whole(source).audio, whole(path).audio
    n = one.shape[1] - 1000
    shift = min(range(960), key=lambda at: np.abs(one[0, :n] - other[0, at : at + n]).sum())
    assert np.array_equal(one[:, :n], other[:, shift : shift + n])


def test_sound_that_comes_twice_is_heard_once(tmp_path: Path) -> None:
    source = write_timed(tmp_path / "x.mkv", TimedClip(sound="pcm_s16le"))
    path = moved(source, tmp_path / "y.mkv", lambda time_s: 0.0 if time_s < 2.0 else -0.018)
    clip = whole(path)
    assert clip.audio.shape[1] == pytest.approx(whole(source).audio.shape[1] - 864, abs=50)
    assert np.array_equal(clip.audio[:, -48_000:], whole(source).audio[:, -48_000:])


def test_frames_that_avi_drops_take_their_time(tmp_path: Path) -> None:
    kept = [i for i in range(60) if not 20 <= i < 40]
    form = PictureFormat("mpeg4", 25, kept)
    path = write_pictures(tmp_path / "y.avi", (numbered(i) for i in kept), form)
    clip = decode(path, DecodeRequest(40, allow_missing=SILENT))
    assert [number_of(frame) for frame in clip.frames] == kept
    assert numbers_by_time(clip) <= {0, -1}


def test_only_what_is_wanted_of_the_sound_is_kept(tmp_path: Path) -> None:
    path = write_timed(tmp_path / "x.mp4")
    some = decode(path, DecodeRequest(8, sound_s=1.5))
    assert np.array_equal(some.audio, whole(path).audio[:, :72_000])
    part = decode(path, DecodeRequest(8, start_s=1.0, end_s=3.5, sound_s=1.5))
    assert part.audio.shape[1] == 72_000 and seconds_heard(part) == "112"
    assert number_of(part.frames[-1]) == 25 + spread(63, 8)[-1]


def test_sound_without_an_end_is_bounded(tmp_path: Path) -> None:
    source = write_timed(tmp_path / "x.mkv", TimedClip(sound="pcm_s16le"))
    path = moved(source, tmp_path / "y.mkv", lambda time_s: 0.0 if time_s < 2.0 else 5e5)
    with pytest.raises(DecodeError, match="s of sound do not fit into memory"):
        whole(path)
    assert seconds_heard(decode(path, DecodeRequest(8, sound_s=3.0))) == "0011--"


@pytest.mark.parametrize("stamp", [2**62, -(2**62)])
def test_stamps_that_are_no_times_are_taken_away(stamp: int) -> None:
    packet = av.Packet(b"x")
    packet.time_base, packet.pts, packet.dts = Fraction(1, 90_000), stamp, stamp
    Clock().set(packet)
    assert packet.pts is None and packet.dts is None


def test_the_old_clock_and_the_new_may_alternate() -> None:
    clock, seen = Clock(may_jump=True), []
    file = av.open(io.BytesIO(), "w", format="mpegts")
    tracks = [file.add_stream("mp2", rate=RATE_HZ), file.add_stream("mp2", rate=RATE_HZ)]
    for track, time_s in [(0, 50), (1, 50), (0, 51), (0, 9), (1, 51), (0, 10), (1, 9), (0, 11), (1, 10)]:
        packet = av.Packet(b"x")
        packet.stream, packet.time_base = tracks[track], Fraction(1)
        packet.pts, packet.dts, packet.duration = time_s, time_s, 1
        clock.set(packet)
        seen.append((track, packet.pts))
    assert [time_s for track, time_s in seen if track == 0] == [50, 51, 52, 53, 54]
    assert [time_s for track, time_s in seen if track == 1] == [50, 51, 52, 53]
