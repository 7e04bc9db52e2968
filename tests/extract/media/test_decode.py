"""Decoding: the right frames and the whole sound, on both backends; a bad file is one clear error."""

import random
from pathlib import Path

import numpy as np
import pytest
from support.clip_files import number_of, numbered, rotate_clockwise, tones, write_clip

from avcil.errors import DecodeError
from avcil.extract.media.contract import FAILURE_KINDS, Backend, DecodeRequest
from avcil.extract.media.decode import decode
from avcil.extract.media.frame_rules import spread

BACKENDS: tuple[Backend, ...] = ("pyav", "decord")
FORMATS = {  # file -> codec, options
    "mpeg4.avi": ("mpeg4", {}),
    "bframes.avi": ("mpeg4", {"bf": "2"}),  # dates in AVI are not those of the pictures
    "h264.mp4": ("libx264", {}),
    "open_gop.mp4": ("libx264", {"x264-params": "keyint=6:bframes=2:open-gop=1"}),
    "h265.mkv": ("libx265", {"x265-params": "log-level=none"}),
    "vp9.mkv": ("libvpx-vp9", {}),
}


def kind_of(path: Path, request: DecodeRequest = DecodeRequest(), backend: Backend = "auto") -> str:  # noqa: B008
    with pytest.raises(DecodeError) as caught:
        decode(path, request, backend)
    assert caught.value.kind in FAILURE_KINDS and caught.value.detail
    return caught.value.kind


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("media") / "clip.mp4")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", FORMATS)
def test_the_frames_are_the_wanted_ones(tmp_path: Path, name: str, backend: Backend) -> None:
    codec, options = FORMATS[name]
    path = write_clip(tmp_path / name, n_frames=40, codec=codec, options=options, seconds=3.3)
    decoded = decode(path, DecodeRequest(16), backend)
    assert [number_of(frame) for frame in decoded.frames] == spread(40, 16)
    if not name.endswith(".avi"):  # which has no dates of its own
        assert np.allclose(decoded.frame_times_s * 12, spread(40, 16), atol=0.1)


@pytest.mark.parametrize("name", FORMATS)
def test_backends_agree(tmp_path: Path, name: str) -> None:
    codec, options = FORMATS[name]
    path = write_clip(tmp_path / name, codec=codec, options=options)
    one, other = (decode(path, DecodeRequest(), backend) for backend in BACKENDS)
    assert np.array_equal(one.frames, other.frames)
    assert np.array_equal(one.audio, other.audio)


@pytest.mark.parametrize("backend", BACKENDS)
def test_few_frames_repeat(tmp_path: Path, backend: Backend) -> None:
    decoded = decode(write_clip(tmp_path / "x.mp4", n_frames=5, seconds=0.5), DecodeRequest(16), backend)
    assert [number_of(frame) for frame in decoded.frames] == spread(5, 16)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_window_takes_its_frames_and_its_sound(clip: Path, backend: Backend) -> None:
    decoded = decode(clip, DecodeRequest(16, start_s=0.5, end_s=1.5), backend)
    numbers = [number_of(frame) for frame in decoded.frames]
    assert (numbers[0], numbers[-1]) == (6, 17)
    assert decoded.audio.shape == (2, 44_100)
    assert kind_of(clip, DecodeRequest(start_s=9.0), backend) == "empty-window"


def test_a_rate_rule_uses_times(clip: Path) -> None:
    decoded = decode(clip, DecodeRequest(2, 4.0))
    assert [number_of(frame) for frame in decoded.frames] == [1, 22]  # the latest frame at 0 s and at 1.75 s


@pytest.mark.parametrize(
    ("name", "audio", "channels"),
    [
        ("s.mkv", ("pcm_s16le", 8_000, "stereo"), 2),
        ("u.avi", ("pcm_u8", 11_025, "mono"), 1),
        ("f.mkv", ("flac", 96_000, "mono"), 1),
    ],
)
def test_sound_keeps_rate_channels_and_level(
    tmp_path: Path, name: str, audio: tuple[str, int, str], channels: int
) -> None:
    decoded = decode(write_clip(tmp_path / name, audio=audio), DecodeRequest())
    expected = tones(audio[1], 2.0)[:channels]
    assert decoded.sample_rate_hz == audio[1]
    assert decoded.audio.dtype == np.float32 and decoded.audio.shape == expected.shape
    assert np.abs(decoded.audio - expected).max() < (0.01 if audio[0] == "pcm_u8" else 1e-4)


def test_channels_stay_apart(clip: Path) -> None:
    audio = decode(clip, DecodeRequest()).audio[:, 22_050:66_150]  # one second
    level = 2 * np.abs(np.fft.rfft(audio)) / 44_100
    assert np.abs(level[:, [440, 880]] - [[0.5, 0.0], [0.0, 0.25]]).max() < 0.05


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_rotated_clip_stands_upright(tmp_path: Path, backend: Backend) -> None:
    path = write_clip(tmp_path / "x.mp4")
    rotate_clockwise(path)
    frames = decode(path, DecodeRequest(), backend).frames
    assert frames.shape == (16, 256, 64, 3)
    assert number_of(np.rot90(frames[-1])) == 23
    assert np.abs(np.rot90(frames[-1]).astype(int) - numbered(23)).mean() < 8


def test_tracks_that_are_not_there(tmp_path: Path) -> None:
    assert kind_of(write_clip(tmp_path / "silent.mp4", audio=None)) == "no-audio"
    assert kind_of(write_clip(tmp_path / "blind.mp4", n_frames=0)) == "no-video"


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a film\n" * 100)
    (tmp_path / "noise.avi").write_bytes(random.Random(0).randbytes(10_000))
    assert kind_of(tmp_path / "no.mp4") == "missing"
    assert kind_of(tmp_path / "empty.mp4" / "x.mp4") == "missing"
    for name in ("empty.mp4", "text.mp4", "noise.avi", "."):
        assert kind_of(tmp_path / name) == "unreadable"


@pytest.mark.parametrize("name", ["http:x.mp4", "12:30.mp4", "concat:x.mp4", "-x.mp4"])
def test_a_name_with_a_colon_is_no_protocol(
    clip: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_bytes(clip.read_bytes())
    monkeypatch.chdir(tmp_path)
    for backend in BACKENDS:
        assert decode(Path(name), DecodeRequest(2), backend).frames.shape[0] == 2


def test_a_file_that_names_others_opens_none(tmp_path: Path, clip: Path) -> None:
    (tmp_path / "list.mp4").write_text(f"ffconcat version 1.0\nfile http://127.0.0.1:9/{clip.name}\n")
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:9,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n")
    for name in ("list.mp4", "list.m3u8"):
        assert kind_of(tmp_path / name) in ("unreadable", "no-video")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv"])
def test_a_cut_off_file_fails(tmp_path: Path, suffix: str, backend: Backend) -> None:
    whole = write_clip(tmp_path / f"whole{suffix}").read_bytes()
    path = tmp_path / f"cut{suffix}"
    kinds = set()
    for tenth in range(1, 9):  # of the last tenth, a part is index
        path.write_bytes(whole[: len(whole) * tenth // 10])
        kinds.add(kind_of(path, backend=backend))
    assert kinds <= {"unreadable", "corrupt", "no-audio", "no-video"}


@pytest.mark.parametrize("place", range(20))
def test_bit_rot_ends_as_a_clip_or_an_error(tmp_path: Path, clip: Path, place: int) -> None:
    content = bytearray(clip.read_bytes())
    begin = len(content) * place // 20
    noise = random.Random(place)
    for i in range(begin, min(begin + 400, len(content))):
        content[i] ^= noise.randrange(256)
    path = tmp_path / "rotten.mp4"
    path.write_bytes(content)
    try:
        decoded = decode(path, DecodeRequest())
    except DecodeError as error:
        assert error.kind in FAILURE_KINDS and error.kind != "internal"
    else:
        assert decoded.frames.shape == (16, 64, 256, 3) and np.isfinite(decoded.audio).all()


def test_library_exceptions_do_not_escape(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise AttributeError("surprise")

    monkeypatch.setattr("avcil.extract.media.decode.read_sound", broken)
    assert kind_of(clip) == "internal"


def test_requests_are_checked() -> None:
    with pytest.raises(ValueError, match="n_frames is 1"):
        DecodeRequest(1)
