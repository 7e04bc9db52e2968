"""The demo data set as files: classes, splits, durations, `.mp4` and `clips.csv`.

A class is a picture and a sound, every pair of them: `rings-chirp` is one of 4 x 3. So the
picture alone leaves three classes open and the sound alone four. Each clip draws duration, picture and sound
from three generators of its own, seeded by (seed, split, class, number).
"""

import csv
import io
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from avcil.demo.scenes import SIGHTS, SOUNDS, draw_frames, draw_sound
from avcil.errors import ManifestError
from avcil.machine import usable_cores

RENDERER = 1  # raise it when the same spec comes to mean other pixels or samples
SPEC_NAME = "demo.json"
CSV_NAME = "clips.csv"
CLASSES = tuple(f"{sight}-{sound}" for sight in SIGHTS for sound in SOUNDS)
_X264 = {
    "preset": "veryfast",
    "crf": "20",
    "x264-params": "mbtree=0:rc-lookahead=0",  # with its lookahead, x264 varies from run to run
}
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class DemoSpec:
    """How much to render: `train`, `val` and `test` are clips per class; a clip lasts min_s to max_s.

    Raises:
        ManifestError: a value out of its range; names it.
    """

    train: int = 16
    val: int = 4
    test: int = 6
    seed: int = 0
    width: int = 96
    height: int = 96
    fps: int = 12
    min_s: float = 2.5
    max_s: float = 3.5
    rate_hz: int = 22_050

    def __post_init__(self) -> None:
        for name in ("train", "val", "test", "seed"):
            if getattr(self, name) < 0:
                raise ManifestError(f"demo data: {name} is {getattr(self, name)}, must not be negative")
        for name in ("width", "height"):
            if getattr(self, name) < 32 or getattr(self, name) % 2:
                raise ManifestError(f"demo data: {name} is {getattr(self, name)}, must be even and from 32")
        if not 1 <= self.fps <= 60:
            raise ManifestError(f"demo data: fps is {self.fps}, must be 1 to 60")
        if not 0.5 <= self.min_s <= self.max_s <= 60:
            raise ManifestError(f"demo data: {self.min_s} to {self.max_s} s, must lie within 0.5 to 60 s")
        if self.rate_hz not in (16_000, 22_050, 44_100, 48_000):
            raise ManifestError(f"demo data: rate_hz is {self.rate_hz}, must be 16000, 22050, 44100 or 48000")


@dataclass(frozen=True)
class DemoClip:
    """One clip to render: its class, split and number within both."""

    label: str
    split: str
    number: int

    @property
    def id(self) -> str:
        """Unique in the data set."""
        return f"{self.split}-{self.label}-{self.number:03d}"

    @property
    def path(self) -> Path:
        """Of the video, relative to the data set's folder."""
        return Path("videos", self.split, self.label, f"{self.id}.mp4")


def demo_clips(spec: DemoSpec) -> list[DemoClip]:
    """Every clip of the data set: by split, then class, then number."""
    counts = zip(SPLITS, (spec.train, spec.val, spec.test), strict=True)
    return [DemoClip(label, split, n) for split, count in counts for label in CLASSES for n in range(count)]


def draw_clip(clip: DemoClip, spec: DemoSpec) -> tuple[np.ndarray, np.ndarray]:
    """Frames [n, H, W, 3] uint8 RGB and samples [m] float32 mono of one clip, of one length in seconds."""
    key = (spec.seed, SPLITS.index(clip.split), CLASSES.index(clip.label), clip.number)
    of_length, of_picture, of_sound = (np.random.default_rng([part, *key]) for part in range(3))
    sight, sound = clip.label.split("-")
    n_frames = round(of_length.uniform(spec.min_s, spec.max_s) * spec.fps)
    n_samples = round(n_frames / spec.fps * spec.rate_hz)
    frames = draw_frames(sight, of_picture, n_frames, spec.width, spec.height, spec.fps)
    return frames, draw_sound(sound, of_sound, n_samples, spec.rate_hz)


def render_demo(out: Path, spec: DemoSpec, on_progress: Callable[[int, int], None] | None = None) -> Path:
    """Render the data set into `out` and return the path of its `clips.csv` (id, path, label, split).

    Videos are H.264 and AAC in `out/videos/<split>/<class>/<id>.mp4`; paths in the CSV are relative to it.
    Each file appears under its name only when it is complete, and files that an earlier call with the same
    spec completed are kept. `on_progress(done, total)` is called after every clip.

    Raises:
        ManifestError: `out` holds demo data of another spec or another `clips.csv`, or cannot be written.
    """
    out = Path(out)
    clips = demo_clips(spec)
    try:
        _claim(out, spec)
        pool = ThreadPoolExecutor(usable_cores())  # NumPy and the codecs let go of the interpreter's lock
        try:
            for done, _ in enumerate(pool.map(lambda clip: _render(out, clip, spec), clips), start=1):
                if on_progress is not None:
                    on_progress(done, len(clips))
        finally:
            pool.shutdown(cancel_futures=True)
        table = io.StringIO()
        rows = csv.writer(table)
        rows.writerow(["id", "path", "label", "split"])
        rows.writerows([clip.id, clip.path.as_posix(), clip.label, clip.split] for clip in clips)
        _write_text(out / CSV_NAME, table.getvalue())
    except (OSError, av.FFmpegError) as error:
        raise ManifestError(f"cannot write demo data into {out}: {error.strerror or error}") from error
    return out / CSV_NAME


def _render(out: Path, clip: DemoClip, spec: DemoSpec) -> None:
    path = out / clip.path
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, *draw_clip(clip, spec), spec)


def _claim(out: Path, spec: DemoSpec) -> None:
    """Note in `out` what is being rendered there, or refuse if something else was."""
    text = json.dumps({"renderer": RENDERER, **asdict(spec)}, indent=2) + "\n"
    note = out / SPEC_NAME
    if note.exists():
        if note.read_text("utf-8") != text:
            raise ManifestError(f"{out} holds demo data made otherwise (see {note}): choose another folder")
    elif (out / CSV_NAME).exists() or (out / "videos").exists():
        raise ManifestError(f"{out} holds clips that are not demo data: choose another folder")
    else:
        out.mkdir(parents=True, exist_ok=True)
        _write_text(note, text)


def _write_text(path: Path, text: str) -> None:
    built = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    built.write_text(text, "utf-8", newline="")
    built.replace(path)


def write_video(path: Path, frames: np.ndarray, samples: np.ndarray, spec: DemoSpec) -> None:
    """Write what `draw_clip` gives as H.264 and AAC; `path` appears when it is whole."""
    built = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with av.open(str(built.absolute()), "w", format="mp4") as file:
            picture = file.add_stream("libx264", rate=spec.fps, options=_X264)
            picture.width, picture.height, picture.pix_fmt = spec.width, spec.height, "yuv420p"
            picture.codec_context.thread_count = 1  # the same bytes on every machine
            sound = file.add_stream("aac", rate=spec.rate_hz, layout="mono")
            for i, pixels in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts, frame.time_base = i, Fraction(1, spec.fps)
                file.mux(picture.encode(frame))
            wave = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
            wave.sample_rate, wave.pts, wave.time_base = spec.rate_hz, 0, Fraction(1, spec.rate_hz)
            file.mux(sound.encode(wave))
            for stream in (picture, sound):
                file.mux(stream.encode())
        built.replace(path)
    finally:
        built.unlink(missing_ok=True)
