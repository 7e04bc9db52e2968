"""What cameras and tuners record: fields, beginnings between key frames, sound that changes midway."""

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from support.clip_files import number_of, numbered
from support.field_coded import write_field_coded
from support.timed_clips import RATE_HZ, TimedClip, joined, numbers_by_time, seconds_heard, write_timed

from avcil.extract.media.contract import DecodeRequest
from avcil.extract.media.decode import decode
from avcil.extract.media.frames import read_by_gop, read_through
from avcil.extract.media.opening import open_media

GOP = 20


@pytest.mark.parametrize("name", ["x.ts", "x.mts", "x.mp4", "x.mkv"])
@pytest.mark.parametrize("together", [False, True])
def test_two_fields_are_one_picture(tmp_path: Path, name: str, together: bool) -> None:
    form = "mpegts" if name == "x.mts" else None
    path = write_field_coded(tmp_path / name, 30, together, form)
    clip = decode(path, DecodeRequest(30))
    assert [number_of(frame) for frame in clip.frames] == list(range(30))
    assert np.abs(clip.frames[29].astype(int) - numbered(29)).max() < 12  # both fields are there
    assert np.allclose(np.diff(clip.frame_times_s), 0.04, atol=0.002)
    some = decode(path, DecodeRequest(5, start_s=0.39, end_s=0.81))
    assert numbers_by_time(some) == {0} and len({number_of(frame) for frame in some.frames}) == 5


def test_fields_are_decoded_by_gop(tmp_path: Path) -> None:
    request = DecodeRequest(7)
    with open_media(write_field_coded(tmp_path / "x.ts"), request) as media:
        assert int(media.packets.entries.is_shown.sum()) == 30 < len(media.packets.entries)
        part, whole = read_by_gop(media, request), read_through(media, request)
    assert part is not None and np.array_equal(part.frames, whole.frames)
    assert np.array_equal(part.times_s, whole.times_s)


def begin_midway(path: Path, n_lost: int = 7) -> None:
    """Cut off the first packets of picture from a transport stream, and all sound up to there."""
    with av.open(str(path)) as file:
        positions = [packet.pos for packet in file.demux(file.streams.video[0]) if packet.pos is not None]
    at = positions[n_lost] // 188 * 188
    content = path.read_bytes()
    path.write_bytes(content[: 3 * 188] + content[at:])


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"x264-params": "scenecut=0:bframes=2:open-gop=1"}),
        ("libx264", {"x264-params": "scenecut=0:bframes=0"}),
        ("libx265", {"x265-params": f"keyint={GOP}:scenecut=0:log-level=none"}),
        ("mpeg2video", {"preset": "", "bf": "2"}),
    ],
)
def test_a_stream_joined_midway_begins_at_its_first_key_frame(
    tmp_path: Path, codec: str, options: dict[str, str]
) -> None:
    path = write_timed(tmp_path / "x.ts", TimedClip(codec=codec, options=options, gop=GOP))
    times_s = decode(path, DecodeRequest(100)).frame_times_s
    begin_midway(path)
    clip = decode(path, DecodeRequest(100))
    numbers = sorted({number_of(frame) for frame in clip.frames})
    assert numbers[-1] == 99 and 8 <= numbers[0] <= GOP + 2
    assert numbers == list(range(numbers[0], 100))
    shift_s = clip.frame_times_s[-1] - times_s[-1]
    assert np.allclose(clip.frame_times_s - shift_s, times_s[[number_of(f) for f in clip.frames]], atol=1e-3)


@pytest.mark.parametrize(
    ("sound", "layouts"),
    [
        ("aac", ("mono", "stereo")),
        ("aac", ("stereo", "5.1")),
        ("ac3", ("5.1", "stereo")),
        ("mp2", ("stereo", "mono")),
    ],
)
def test_sound_that_changes_its_layout_goes_on_in_the_first(
    tmp_path: Path, sound: str, layouts: tuple[str, str]
) -> None:
    clip = TimedClip((0.0, 2.0), (0.0, 2.0), sound=sound)
    parts = [replace(clip, layout=layout) for layout in layouts]
    found = decode(joined(tmp_path / "x.ts", *parts), DecodeRequest(4))
    assert seconds_heard(found) == "00110011"
    assert found.audio.shape[0] == {"mono": 1, "stereo": 2, "5.1": 6}[layouts[0]]
    levels = [np.abs(found.audio[:, at : at + RATE_HZ]).max() for at in (0, 2 * RATE_HZ)]
    assert 0.2 < levels[1] / levels[0] < 4


def test_sound_that_changes_its_rate_goes_on_at_the_first(tmp_path: Path) -> None:
    first = write_timed(tmp_path / "0.ts", TimedClip((0.0, 2.0), (0.0, 2.0)))
    second = tmp_path / "1.ts"
    with av.open(str(first)) as source, av.open(str(second), "w") as file:
        video = file.add_stream_from_template(source.streams.video[0])
        slower = file.add_stream("aac", rate=32_000, layout="stereo")
        resampler = av.AudioResampler("fltp", "stereo", 32_000, frame_size=1024)
        for packet in source.demux():
            if packet.stream.type == "video" and packet.size:
                packet.stream = video
                file.mux(packet)
            for frame in packet.decode() if packet.stream.type == "audio" else []:
                file.mux([out for part in resampler.resample(frame) for out in slower.encode(part)])
        file.mux(slower.encode(None))
    path = tmp_path / "x.ts"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    found = decode(path, DecodeRequest(4))
    assert found.sample_rate_hz == RATE_HZ and seconds_heard(found) == "00110011"
