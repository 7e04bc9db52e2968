"""Which tracks stand for a file, and which evidence says that one is cut off."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from support.clip_files import number_of, numbered
from support.timed_clips import TimedClip, mux, seconds_heard, sound_packets, write_timed

from avcil.errors import DecodeError
from avcil.extract.media.contract import DecodeRequest
from avcil.extract.media.decode import decode

NONE, DEFAULT, COMMENT = Disposition(0), Disposition.default, Disposition.comment
Tracks = list[tuple[str, Disposition]]
ONE_PICTURE: Tracks = [("right", DEFAULT)]


def write_tracks(path: Path, sounds: Tracks, pictures: Tracks = ONE_PICTURE) -> Path:
    """Write 2 s: `right` tracks tell number and second, `wrong` ones are black or silent; or `empty` ones."""
    with av.open(str(path), "w") as file:
        videos = [file.add_stream("mpeg4", rate=25) for _ in pictures]
        audios = [file.add_stream("mp2", rate=48_000, layout="stereo") for _ in sounds]
        for stream, (_, disposition) in zip([*videos, *audios], [*pictures, *sounds], strict=True):
            stream.disposition = disposition
        packets = []
        for video, (kind, _) in zip(videos, pictures, strict=True):
            video.width, video.height, video.pix_fmt = 256, 64, "yuv420p"
            for i in range(50 if kind != "empty" else 0):
                picture = numbered(i if kind == "right" else 0)
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = i, Fraction(1, 25)
                packets += video.encode(frame)
        for audio, (kind, _) in zip(audios, sounds, strict=True):
            if kind != "empty":
                heard = TimedClip(sound_s=(0.0, 2.0), level=0.4 if kind == "right" else 0.0)
                packets += sound_packets(audio, heard)
        mux(file, packets)
    return path


def found(path: Path) -> tuple[int, str]:
    """The last picture's number, and what is heard."""
    clip = decode(path, DecodeRequest(4))
    return number_of(clip.frames[-1]), seconds_heard(clip)


@pytest.mark.parametrize("name", ["x.mp4", "x.mkv"])
@pytest.mark.parametrize(
    "sounds",
    [
        [("wrong", NONE), ("right", DEFAULT)],
        [("right", NONE), ("wrong", NONE)],
        [("wrong", DEFAULT | COMMENT), ("right", DEFAULT)],
        [("empty", DEFAULT), ("right", NONE)],
        [("empty", NONE), ("right", NONE), ("wrong", NONE)],
    ],
)
def test_the_sound_is_the_one_that_players_choose(tmp_path: Path, name: str, sounds: Tracks) -> None:
    assert found(write_tracks(tmp_path / name, sounds)) == (49, "0011")


@pytest.mark.parametrize("name", ["x.mp4", "x.mkv"])
@pytest.mark.parametrize(
    "pictures", [[("wrong", NONE), ("right", DEFAULT)], [("empty", DEFAULT), ("right", NONE)]]
)
def test_the_picture_is_the_one_that_players_choose(tmp_path: Path, name: str, pictures: Tracks) -> None:
    assert found(write_tracks(tmp_path / name, [("right", DEFAULT)], pictures)) == (49, "0011")


def test_a_cover_that_comes_first_is_no_picture(tmp_path: Path) -> None:
    clip = write_timed(tmp_path / "x.mp4", TimedClip((0.0, 2.0), (0.0, 2.0)))
    path = tmp_path / "y.mp4"
    with av.open(str(clip)) as source, av.open(str(path), "w") as file:
        cover = file.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 256, 64, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        tracks = {stream.index: file.add_stream_from_template(stream) for stream in source.streams}
        file.mux(cover.encode(av.VideoFrame.from_ndarray(numbered(255), format="rgb24")))
        for packet in source.demux():
            if packet.size:
                packet.stream = tracks[packet.stream_index]
                file.mux(packet)
    assert found(path) == (49, "0011")


def unknown(path: Path, *tracks: int) -> Path:
    """Give tracks of sound in an `.mp4` a code that nobody knows."""
    content = path.read_bytes()
    at = -1
    for i in range(max(tracks) + 1):
        at = content.index(b"mp4a", at + 1)
        if i in tracks:
            content = content[:at] + b"zzzz" + content[at + 4 :].replace(b"esds", b"zzzz", 1)
    path.write_bytes(content)
    return path


def test_a_sound_that_nobody_decodes_is_chosen_last(tmp_path: Path) -> None:
    path = write_tracks(tmp_path / "x.mp4", [("wrong", DEFAULT), ("right", NONE)])
    assert found(unknown(path, 0)) == (49, "0011")
    with pytest.raises(DecodeError, match="unsupported: no decoder for the codec of the sound track"):
        decode(unknown(path, 0), DecodeRequest())


def promise_an_hour(path: Path) -> None:
    """Have every header of a file that tells a length tell 3600 s, but leave its index alone."""
    content = bytearray(path.read_bytes())

    def write(name: bytes, offset: int, value: bytes) -> None:
        at = content.find(name)
        while at >= 0:
            content[at + offset : at + offset + len(value)] = value
            at = content.find(name, at + 1)

    if path.suffix == ".mp4":  # ISO 14496-12, version 0 of movie, track and media header
        for name in (b"mvhd", b"mdhd"):
            scale = int.from_bytes(content[content.find(name) + 16 :][:4], "big")
            write(name, 20, (3600 * scale).to_bytes(4, "big"))
        write(b"tkhd", 24, (3_600_000).to_bytes(4, "big"))
    elif path.suffix == ".avi":  # frames, in the main header and in those of the streams
        write(b"avih", 24, (90_000).to_bytes(4, "little"))
        write(b"strh", 40, (90_000).to_bytes(4, "little"))
    else:  # Matroska, Duration: a double in ms
        write(b"\x44\x89\x88", 3, np.array(3.6e6, ">f8").tobytes())
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["x.mp4", "x.avi", "x.mkv"])
def test_a_header_that_promises_an_hour_proves_nothing(tmp_path: Path, name: str) -> None:
    path = write_tracks(tmp_path / name, [("right", DEFAULT)])
    before = path.read_bytes()
    promise_an_hour(path)
    assert path.read_bytes() != before
    assert found(path) == (49, "0011")
    assert number_of(decode(path, DecodeRequest(4, start_s=1.0)).frames[-1]) == 49


def test_a_subtitle_may_last_longer_than_the_film(tmp_path: Path) -> None:
    clip = write_timed(tmp_path / "y.mkv", TimedClip((0.0, 2.0), (0.0, 2.0)))
    words = tmp_path / "x.srt"
    words.write_text("1\n00:00:01,000 --> 00:00:02,000\nfirst\n\n2\n00:10:00,000 --> 00:10:01,000\nlast\n")
    path = tmp_path / "x.mkv"
    with av.open(str(clip)) as source, av.open(str(words)) as text, av.open(str(path), "w") as file:
        tracks = {stream: file.add_stream_from_template(stream) for stream in source.streams}
        tracks[text.streams[0]] = file.add_stream_from_template(text.streams[0])
        for packet in [*source.demux(), *text.demux()]:
            if packet.size:
                packet.stream = tracks[packet.stream]
                file.mux(packet)
    with av.open(str(path)) as file:
        assert (file.duration or 0) > 600 * av.time_base
    assert found(path) == (49, "0011")


def test_sound_and_picture_may_last_differently(tmp_path: Path) -> None:
    for i, (picture_s, sound_s) in enumerate([((0.0, 1.0), (0.0, 9.0)), ((0.0, 9.0), (0.0, 1.0))]):
        for suffix in ("mp4", "mkv", "ts", "avi"):
            codec = "mpeg4" if suffix == "avi" else "libx264"
            form = TimedClip(picture_s, sound_s, codec=codec, sound="mp2", options={"preset": ""})
            clip = decode(write_timed(tmp_path / f"{i}.{suffix}", form), DecodeRequest(4))
            assert number_of(clip.frames[-1]) == 25 * picture_s[1] - 1
            assert clip.audio.shape[1] / 48_000 == pytest.approx(sound_s[1], abs=0.1)
