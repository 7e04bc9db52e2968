"""The frames delivered are exactly those wanted: their numbers are in the pictures. Both backends."""

from pathlib import Path

import numpy as np
import pytest
from support.clip_files import number_of, numbered, write_clip
from support.odd_videos import PictureFormat, interleave, write_pictures

from avcil.extract.media import packets
from avcil.extract.media.contract import Backend, DecodeRequest
from avcil.extract.media.decode import decode
from avcil.extract.media.frame_rules import spread
from avcil.extract.media.frames import read_by_gop, read_through
from avcil.extract.media.opening import open_media, open_part

N_FRAMES = 90
FPS = 12
BACKENDS: tuple[Backend, ...] = ("pyav", "decord")
SILENT = frozenset({"audio"})
X264 = "keyint=12:min-keyint=12:scenecut=0:bframes=3"
X265 = "keyint=12:min-keyint=12:scenecut=0:log-level=none"
FORMATS = {  # file -> codec, options
    "h264.mp4": ("libx264", {"x264-params": X264}),
    "one_gop.mp4": ("libx264", {}),
    "open_gop.mp4": ("libx264", {"x264-params": f"{X264}:open-gop=1"}),
    "open_gop.mkv": ("libx264", {"x264-params": f"{X264}:open-gop=1:b-pyramid=strict"}),
    "intra_refresh.mp4": ("libx264", {"x264-params": "keyint=12:intra-refresh=1"}),
    "h264.ts": ("libx264", {"x264-params": X264}),
    "hevc.mp4": ("libx265", {"x265-params": f"{X265}:open-gop=0"}),
    "hevc_open.mkv": ("libx265", {"x265-params": X265}),
    "hevc_layers.mp4": ("libx265", {"x265-params": f"{X265}:temporal-layers=3"}),
    "vp8.webm": ("libvpx", {"g": "12", "deadline": "realtime", "auto-alt-ref": "1", "lag-in-frames": "8"}),
    "vp9.webm": ("libvpx-vp9", {"g": "12", "deadline": "realtime", "cpu-used": "8"}),
    "vp9_hidden.mp4": ("libvpx-vp9", {"g": "12", "auto-alt-ref": "1", "lag-in-frames": "8", "cpu-used": "5"}),
    "av1.mp4": ("libsvtav1", {"g": "12", "preset": "11"}),
    "mpeg4.mp4": ("mpeg4", {"bf": "2"}),
    "mpeg4.avi": ("mpeg4", {}),
    "bframes.avi": ("mpeg4", {"bf": "2"}),
}
SLOW_PATH = {"mpeg4.mp4", "mpeg4.avi", "bframes.avi"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("numbered")


def video(folder: Path, name: str) -> Path:
    path, (codec, options) = folder / name, FORMATS[name]
    if not path.exists():
        form = PictureFormat(codec, FPS, options=options)
        write_pictures(path, (numbered(i) for i in range(N_FRAMES)), form)
    return path


def numbers(path: Path, request: DecodeRequest, backend: Backend) -> list[int]:
    return [number_of(frame) for frame in decode(path, request, backend).frames]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", FORMATS)
def test_frames_of_the_whole_clip(folder: Path, name: str, backend: Backend) -> None:
    request = DecodeRequest(16, allow_missing=SILENT)
    assert numbers(video(folder, name), request, backend) == spread(N_FRAMES, 16)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", FORMATS)
def test_frames_of_a_window(folder: Path, name: str, backend: Backend) -> None:
    request = DecodeRequest(7, start_s=4.04, end_s=5.71, allow_missing=SILENT)  # between frames 48-49, 68-69
    assert numbers(video(folder, name), request, backend) == [49 + i for i in spread(20, 7)]


@pytest.mark.parametrize("n_frames", [2, 16, 41, N_FRAMES])
@pytest.mark.parametrize("name", sorted(set(FORMATS) - SLOW_PATH))
def test_decoding_by_gop_changes_no_bit(folder: Path, name: str, n_frames: int) -> None:
    request = DecodeRequest(n_frames, allow_missing=SILENT)
    with open_media(video(folder, name), request) as media:
        whole, part = read_through(media, request), read_by_gop(media, request)
    assert part is not None
    assert np.array_equal(whole.frames, part.frames) and np.array_equal(whole.times_s, part.times_s)
    assert whole.end_s == part.end_s


@pytest.mark.parametrize("name", sorted(SLOW_PATH))
def test_files_whose_packets_are_doubtful_are_decoded_whole(folder: Path, name: str) -> None:
    request = DecodeRequest(allow_missing=SILENT)
    with open_media(video(folder, name), request) as media:
        assert read_by_gop(media, request) is None


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_frames_of_a_variable_rate(tmp_path: Path, suffix: str, backend: Backend) -> None:
    gaps = np.random.default_rng(0).integers(1, 9, 60)
    ticks = [int(tick) for tick in np.cumsum(gaps)]
    form = PictureFormat("libx264", 24, [tick - ticks[0] for tick in ticks], None, {"x264-params": X264})
    path = write_pictures(tmp_path / f"x.{suffix}", (numbered(i) for i in range(60)), form)
    decoded = decode(path, DecodeRequest(16, allow_missing=SILENT), backend)
    assert [number_of(frame) for frame in decoded.frames] == spread(60, 16)
    times_s = np.array([(ticks[i] - ticks[0]) / 24 for i in spread(60, 16)])
    assert np.allclose(decoded.frame_times_s, times_s, atol=2e-3)
    start_s, end_s = times_s[4] - 0.01, times_s[9] - 0.01
    request = DecodeRequest(3, start_s=start_s, end_s=end_s, allow_missing=SILENT)
    first, last = spread(60, 16)[4], spread(60, 16)[9] - 1
    assert numbers(path, request, backend) == [first + i for i in spread(last - first + 1, 3)]


@pytest.fixture(scope="module", params=["mp4", "mkv"])
def long_clip(folder: Path, request: pytest.FixtureRequest) -> Path:
    options = {"x264-params": X264, "preset": "ultrafast"}
    path = folder / "long.mp4"
    if not path.exists():
        write_clip(path, 240, 8, "libx264", ("aac", 16_000, "stereo"), 30.0, options)
    return path if request.param == "mp4" else interleave(path, folder / f"long.{request.param}")


@pytest.mark.parametrize(("start_s", "end_s"), [(None, 3.0), (6.1, 7.9), (14.0, 14.6), (20.55, None)])
def test_a_window_is_read_and_decoded_by_itself(
    long_clip: Path, start_s: float | None, end_s: float | None
) -> None:
    request = DecodeRequest(4, start_s=start_s, end_s=end_s)
    whole = decode(long_clip, DecodeRequest(240))
    inside = [i for i, time_s in enumerate(whole.frame_times_s) if request.covers(time_s)]
    with open_part(long_clip, request) as media:
        assert media is not None
        assert len(media.packets.entries) < len(inside) + 2 * 12 + 2 * 8 + 8  # two GOPs, the lead, order
        assert read_by_gop(media, request) is not None
    decoded = decode(long_clip, request)
    assert [number_of(frame) for frame in decoded.frames] == [inside[i] for i in spread(len(inside), 4)]
    begin, end = (round(time_s * 16_000) for time_s in (start_s or 0.0, end_s or 30.0))
    assert abs(decoded.audio.shape[1] - (end - begin)) < 1600
    common = min(decoded.audio.shape[1], end - begin)
    assert np.abs(decoded.audio[:, :common] - whole.audio[:, begin : begin + common]).max() < 0.02


def test_sound_far_from_its_picture_is_found(folder: Path) -> None:
    path = folder / "apart.mkv"  # ten seconds of picture lie before the first sound
    write_clip(path, 240, 8, "libx264", ("aac", 16_000, "stereo"), 30.0, {"preset": "ultrafast"})
    for request in (DecodeRequest(end_s=2.0, allow_missing=SILENT), DecodeRequest(start_s=6.0, end_s=8.0)):
        with open_part(path, request) as media:
            assert media is None
        decoded = decode(path, request)
        assert not decoded.missing_audio and abs(decoded.audio.shape[1] - 32_000) < 1024


def test_the_file_is_read_twice_where_it_is_too_long_for_memory(
    long_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [DecodeRequest(16), DecodeRequest(4, start_s=12.0, end_s=15.0)]
    expected = [decode(long_clip, request).frames for request in requests]
    monkeypatch.setattr(packets, "HELD_BYTES", 2000)
    for request, frames in zip(requests, expected, strict=True):
        with open_media(long_clip, request) as media:
            assert media.packets._held is None
        assert np.array_equal(decode(long_clip, request).frames, frames)


def test_damage_leads_back_to_decoding_everything(folder: Path, tmp_path: Path) -> None:
    request = DecodeRequest(90, allow_missing=SILENT)
    content = bytearray(video(folder, "one_gop.mp4").read_bytes())
    with open_media(video(folder, "one_gop.mp4"), request) as media:
        middle = list(media.packets.picture())[44]
        assert middle.pos is not None
        content[middle.pos + 4 : middle.pos + 9] = b"\xff" * 5
    (tmp_path / "x.mp4").write_bytes(content)
    with open_media(tmp_path / "x.mp4", request) as media:
        assert read_by_gop(media, request) is None
