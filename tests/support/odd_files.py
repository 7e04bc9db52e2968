"""Broken and odd media files for tests, and work that sleeps or dies on some; importable by workers."""

import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from support.clip_files import numbered, rotate_clockwise, write_clip
from support.odd_videos import PictureFormat, write_pictures

from avcil.errors import DecodeError
from avcil.extract.prepare import Preparation, PreparedClip
from avcil.extract.sources.manifest import Clip

FAILS = frozenset({"unreadable", "corrupt", "no-audio", "no-video", "no-frames", "unsupported"})
OK = frozenset({"ok"})


@dataclass(frozen=True)
class OddFile:
    """A file and what may become of it: "ok" or a kind of `DecodeError`."""

    path: Path
    outcomes: frozenset[str]


def odd_files(folder: Path) -> list[OddFile]:
    """Write all of them."""
    return [*_broken(folder), *_unusual(folder)]


@dataclass(frozen=True)
class DangerousWork:
    """A preparation that sleeps on clips labelled `sleeps` and is killed on those labelled `killed`."""

    prepare: Preparation

    def __call__(self, clip: Clip) -> PreparedClip | DecodeError:
        """Prepare a clip, or not."""
        if clip.label == "sleeps":
            time.sleep(600)
        if clip.label == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        return self.prepare(clip)


def _broken(folder: Path) -> Iterator[OddFile]:
    whole = write_clip(folder / "whole.mp4", n_frames=36, codec="libx264", seconds=3.0)
    fast = _with_index_first(whole, folder / "index_first.mp4")
    yield OddFile(whole, OK)
    yield OddFile(fast, OK)
    for source in (whole, fast):
        content = source.read_bytes()
        for tenth in range(10):
            cut = content[: max(1, len(content) * tenth // 10)]
            yield _write(folder / f"{source.stem}_cut_{tenth}.mp4", cut, FAILS)
        for place in range(20):
            rotten = bytearray(content)
            noise, begin = random.Random(place), len(content) * place // 20
            for at in range(begin, min(begin + 60, len(content))):
                rotten[at] ^= noise.randrange(256)
            yield _write(folder / f"{source.stem}_rot_{place}.mp4", bytes(rotten), FAILS | OK)
    content = whole.read_bytes()
    unreadable = frozenset({"unreadable"})
    yield _write(folder / "garbage.mp4", random.Random(0).randbytes(50_000), unreadable)
    yield _write(folder / "zeros.mp4", bytes(50_000), unreadable)
    yield _write(folder / "empty.mp4", b"", unreadable)
    yield _write(folder / "text.mp4", b"not a film\n" * 500, unreadable)
    yield _write(folder / "header_only.mp4", content[:40], unreadable)
    yield _write(
        folder / "no_pictures_in_it.mp4", fast.read_bytes()[: fast.read_bytes().index(b"mdat")], FAILS
    )
    yield _write(folder / "behind_garbage.mp4", random.Random(1).randbytes(1000) + content, FAILS | OK)
    yield _write(folder / "twice.mp4", content * 2, OK)
    yield _write(folder / "wrong_suffix.txt", content, OK)
    yield _write(folder / "wrong_suffix.avi", content, OK)
    yield _write(folder / "no_suffix", content, OK)
    (folder / "folder.mp4").mkdir()
    yield OddFile(folder / "folder.mp4", unreadable)
    yield OddFile(folder / "nowhere.mp4", frozenset({"missing"}))


def _unusual(folder: Path) -> Iterator[OddFile]:
    yield OddFile(write_clip(folder / "no_audio.mp4", audio=None), frozenset({"no-audio"}))
    yield OddFile(write_clip(folder / "no_video.mp4", n_frames=0), frozenset({"no-video"}))
    yield OddFile(write_clip(folder / "1_frame.mp4", n_frames=1, seconds=0.1), OK)
    yield OddFile(write_clip(folder / "5_frames.mp4", n_frames=5, seconds=0.4), OK)
    yield OddFile(write_clip(folder / "8_khz.mp4", audio=("aac", 8_000, "mono")), OK)
    yield OddFile(write_clip(folder / "96_khz.mkv", audio=("flac", 96_000, "stereo")), OK)
    yield OddFile(_surround(folder / "surround.mkv"), OK)
    rotated = write_clip(folder / "rotated.mp4")
    rotate_clockwise(rotated)
    yield OddFile(rotated, OK)
    ticks = [i * i for i in range(12)]
    form = PictureFormat("libx264", 24, ticks)
    silent = write_pictures(folder / "variable_rate.mp4", (numbered(i) for i in range(12)), form)
    yield OddFile(silent, frozenset({"no-audio"}))


def _write(path: Path, content: bytes, outcomes: frozenset[str]) -> OddFile:
    path.write_bytes(content)
    return OddFile(path, outcomes)


def _with_index_first(path: Path, copy: Path) -> Path:
    with av.open(str(path)) as source, av.open(str(copy), "w", options={"movflags": "faststart"}) as file:
        tracks = {stream.index: file.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.size:
                packet.stream = tracks[packet.stream_index]
                file.mux(packet)
    return copy


def _surround(path: Path) -> Path:
    with av.open(str(path), "w") as file:
        video = file.add_stream("mpeg4", rate=12)
        video.width, video.height, video.pix_fmt = 256, 64, "yuv420p"
        sound = file.add_stream("pcm_s16le", rate=48_000, layout="5.1")
        for i in range(12):
            file.mux(video.encode(av.VideoFrame.from_ndarray(numbered(i), format="rgb24")))
        file.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray(np.ones((1, 6 * 48_000), np.int16), format="s16", layout="5.1")
        frame.rate, frame.pts = 48_000, 0
        file.mux(sound.encode(frame))
        file.mux(sound.encode(None))
    return path
