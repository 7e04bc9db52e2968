"""Picture and sound without surprise: orientation, pixels, sizes, missing tracks, channels, rates."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from support.clip_files import number_of, numbered, write_clip
from support.odd_videos import PictureFormat, set_display_matrix, write_pictures

from avcil.errors import DecodeError
from avcil.extract.media.contract import Backend, DecodeRequest
from avcil.extract.media.decode import decode
from avcil.extract.media.frame_rules import spread
from avcil.extract.media.opening import open_media
from avcil.extract.media.pixels import Orientation
from avcil.extract.prepare import Preparation, PreparedClip
from avcil.extract.recipe import log_mel, recommended, released
from avcil.extract.sources.manifest import Clip

BACKENDS: tuple[Backend, ...] = ("pyav", "decord")
SILENT = frozenset({"audio"})
LAYOUTS = {"mono": 1, "stereo": 2, "5.1": 6}
MATRICES = [  # the eight symmetries of a rectangle: a, b, c, d of x' = ax + cy, y' = bx + dy
    *[(1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)],
    *[(-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0), (0, -1, -1, 0)],
]


def transformed(image: np.ndarray, a: int, b: int, c: int, d: int) -> np.ndarray:
    """Move every pixel of [H, W, 3] on its own."""
    y, x = np.indices(image.shape[:2])
    new_x, new_y = a * x + c * y, b * x + d * y
    new_x, new_y = new_x - new_x.min(), new_y - new_y.min()
    moved = np.empty((new_y.max() + 1, new_x.max() + 1, 3), image.dtype)
    moved[new_y, new_x] = image
    return moved


def shades(height: int, width: int) -> list[np.ndarray]:
    """Eight pictures, uint8 [H, W, 3], brighter to the right and with time, red at the bottom."""
    picture = np.tile(np.linspace(0, 150, width), (height, 1))[..., None].repeat(3, 2)
    picture[height // 2 :, :, 1:] = 0
    return [(picture + 10 * i).astype(np.uint8) for i in range(8)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("matrix", MATRICES)
def test_pictures_are_turned_and_mirrored(
    tmp_path: Path, matrix: tuple[int, int, int, int], backend: Backend
) -> None:
    path = write_pictures(tmp_path / "x.mp4", [numbered(13)] * 3, PictureFormat())
    set_display_matrix(path, *matrix)
    frames = decode(path, DecodeRequest(2, allow_missing=SILENT), backend).frames
    expected = transformed(numbered(13), *matrix)
    assert frames.shape[1:] == expected.shape
    assert np.abs(frames[0].astype(int) - expected).mean() < 8


class FrameOfTheFuture:
    """A frame with side data that PyAV cannot name."""

    def __init__(self, rotation: int) -> None:
        self.rotation = rotation

    @property
    def side_data(self) -> None:
        raise ValueError("34 is not a valid Type")


@pytest.mark.parametrize("rotation", [0, 90, 180, -90, -180, 270, 7 * 10**9])
def test_turns_are_known_without_side_data(rotation: int) -> None:
    orientation = Orientation.of(FrameOfTheFuture(rotation))  # type: ignore[arg-type]
    turns = rotation // 90 if abs(rotation) <= 360 else 0
    assert np.array_equal(orientation.apply(numbered(13)), np.rot90(numbered(13), turns))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("aspect", "width"), [(Fraction(4, 3), 128), (Fraction(8, 9), 85), (Fraction(1), 96)]
)
def test_pixels_become_square(tmp_path: Path, aspect: Fraction, width: int, backend: Backend) -> None:
    form = PictureFormat(pixel_aspect=aspect)
    path = write_pictures(tmp_path / "x.mp4", shades(64, 96), form)
    frames = decode(path, DecodeRequest(2, allow_missing=SILENT), backend).frames
    assert frames.shape == (2, 64, width, 3)
    assert np.abs(frames[0].astype(int) - shades(64, width)[0]).mean() < 4
    set_display_matrix(path, 0, 1, -1, 0)
    assert decode(path, DecodeRequest(2, allow_missing=SILENT), backend).frames.shape == (2, width, 64, 3)


def test_an_absurd_pixel_aspect_is_ignored(tmp_path: Path) -> None:
    form = PictureFormat(pixel_aspect=Fraction(200, 1))
    path = write_pictures(tmp_path / "x.mp4", shades(64, 96), form)
    assert decode(path, DecodeRequest(2, allow_missing=SILENT)).frames.shape == (2, 64, 96, 3)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("height", "width"), [(67, 101), (64, 99), (33, 33), (2, 2), (16, 300)])
def test_odd_sizes(tmp_path: Path, height: int, width: int, backend: Backend) -> None:
    path = write_pictures(tmp_path / "x.mkv", shades(height, width), PictureFormat())
    frames = decode(path, DecodeRequest(8, allow_missing=SILENT), backend).frames
    assert frames.shape == (8, height, width, 3)
    if min(height, width) > 30:
        assert np.abs(frames.astype(int) - np.stack(shades(height, width))).mean() < 8
    value = Preparation(recommended(), backend, SILENT)(Clip("x", path, "x", "train"))
    assert isinstance(value, PreparedClip) and value.frames.shape == (16, 224, 224, 3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_frames_that_change_their_size_get_that_of_the_first(tmp_path: Path, backend: Backend) -> None:
    parts = [write_pictures(tmp_path / f"{n}.mpg", shades(n, 2 * n), PictureFormat(fps=25)) for n in (64, 32)]
    path = tmp_path / "x.mpg"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    frames = decode(path, DecodeRequest(16, allow_missing=SILENT), backend).frames
    assert frames.shape == (16, 64, 128, 3)


@pytest.mark.parametrize("n_frames", [1, 2, 5, 15])
def test_short_clips(tmp_path: Path, n_frames: int) -> None:
    path = write_clip(tmp_path / "x.mp4", n_frames=n_frames, codec="libx264", seconds=n_frames / 12)
    for backend in BACKENDS:
        decoded = decode(path, DecodeRequest(16), backend)
        assert [number_of(frame) for frame in decoded.frames] == spread(n_frames, 16)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050, 44_100, 48_000, 96_000])
def test_channels_and_rates(tmp_path: Path, layout: str, rate_hz: int) -> None:
    path = write_sound(tmp_path / "s.mkv", layout, rate_hz)
    decoded = decode(path, DecodeRequest(2))
    assert (decoded.sample_rate_hz, decoded.audio.shape) == (rate_hz, (LAYOUTS[layout], rate_hz))
    levels = 2 * np.abs(np.fft.rfft(decoded.audio))[:, 440] / rate_hz
    assert np.allclose(levels, [0.1 * (i + 1) for i in range(LAYOUTS[layout])], atol=1e-3)
    mel = log_mel(decoded.audio, rate_hz, recommended())
    assert mel.shape == (1024, 128) and np.isfinite(mel).all()


def write_sound(path: Path, layout: str, rate_hz: int) -> Path:
    """Write a second of picture, and 440 Hz on every channel, at 0.1, 0.2, ... of full scale."""
    with av.open(str(path), "w") as file:
        video = file.add_stream("mpeg4", rate=4)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        sound = file.add_stream("pcm_s16le", rate=rate_hz, layout=layout)
        for picture in shades(64, 64)[:4]:
            file.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(video.encode(None))
        wave = np.sin(2 * np.pi * 440 * np.arange(rate_hz) / rate_hz)
        levels = 0.1 * np.arange(1, LAYOUTS[layout] + 1)
        samples = (32768 * levels * wave[:, None]).round().astype(np.int16).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout=layout)
        frame.rate, frame.pts = rate_hz, 0
        file.mux(sound.encode(frame))
        file.mux(sound.encode(None))
    return path


def prepared(
    path: Path, start_s: float | None = None, **options: frozenset[str]
) -> PreparedClip | DecodeError:
    clip = Clip("x", path, "x", "train", start_s)
    return Preparation(recommended(), **options)(clip)  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", BACKENDS)
def test_missing_sound_is_a_failure_unless_it_is_allowed(tmp_path: Path, backend: Backend) -> None:
    path = write_clip(tmp_path / "x.mp4", audio=None)
    with pytest.raises(DecodeError) as caught:
        decode(path, DecodeRequest(), backend)
    assert caught.value.kind == "no-audio"
    decoded = decode(path, DecodeRequest(allow_missing=SILENT), backend)
    assert decoded.missing_audio and not decoded.audio.any()
    assert decoded.audio.shape == (1, 2 * decoded.sample_rate_hz)  # as long as the picture


@pytest.mark.parametrize("recipe", [recommended(), released()])
def test_missing_sound_becomes_the_log_mel_of_silence(tmp_path: Path, recipe: object) -> None:
    path = write_clip(tmp_path / "x.mp4", audio=None)
    work = Preparation(recipe, allow_missing=SILENT)  # type: ignore[arg-type]
    value = work(Clip("x", path, "x", "train"))
    assert isinstance(value, PreparedClip) and value.missing_audio
    expected = log_mel(np.zeros((1, 32_000), np.float32), 16_000, work.recipe)
    assert np.array_equal(value.mel, expected)


def test_sound_that_is_there_is_no_missing_sound(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "x.mp4")
    silent, plain = prepared(path, allow_missing=SILENT), prepared(path)
    assert isinstance(silent, PreparedClip) and isinstance(plain, PreparedClip)
    assert not silent.missing_audio and np.array_equal(silent.mel, plain.mel)


def test_too_little_sound_is_missing_sound(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "x.mkv", audio=("pcm_s16le", 8_000, "mono"), seconds=0.02)
    failed = prepared(path)
    assert isinstance(failed, DecodeError) and failed.kind in ("no-audio", "corrupt")
    value = prepared(path, allow_missing=SILENT)
    assert isinstance(value, DecodeError) or value.missing_audio


def test_a_window_behind_the_sound_has_none(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "x.mkv", n_frames=60, audio=("pcm_s16le", 8_000, "mono"), seconds=2.0)
    failed = prepared(path, 3.0)
    assert isinstance(failed, DecodeError) and failed.kind == "empty-window"
    value = prepared(path, 3.0, allow_missing=SILENT)
    assert isinstance(value, PreparedClip) and value.missing_audio


def test_broken_sound_is_not_missing_sound(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "x.mp4")
    content = bytearray(path.read_bytes())
    with open_media(path, DecodeRequest()) as media:
        for packet in media.packets.sound.held:
            assert packet.pos is not None
            content[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    path.write_bytes(content)
    failed = prepared(path, allow_missing=SILENT)
    assert isinstance(failed, DecodeError) and failed.kind == "corrupt"


def test_only_sound_may_be_missing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="allow_missing has 'video'"):
        DecodeRequest(allow_missing=frozenset({"video"}))  # type: ignore[arg-type]
    failed = prepared(write_clip(tmp_path / "x.mp4", n_frames=0), allow_missing=SILENT)
    assert isinstance(failed, DecodeError) and failed.kind == "no-video"
