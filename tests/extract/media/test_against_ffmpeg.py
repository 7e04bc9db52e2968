"""What FFmpeg's command line makes of real files: the same frames at the same times, the same sound."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from avcil.errors import DecodeError
from avcil.extract.media.contract import DecodeRequest
from avcil.extract.media.decode import decode
from avcil.extract.media.frame_rules import spread
from avcil.extract.media.opening import open_media

MEDIA = Path(os.environ.get("AVCIL_TEST_MEDIA", ""))
pytestmark = [
    pytest.mark.skipif(
        not os.environ.get("AVCIL_TEST_MEDIA"), reason="AVCIL_TEST_MEDIA names no folder of real media"
    ),
    pytest.mark.skipif(
        not shutil.which("ffmpeg") or not shutil.which("ffprobe"), reason="there is no ffmpeg"
    ),
]
N_FILES, LARGEST_BYTES = 30, 3e6
REQUEST = DecodeRequest(8, allow_missing=frozenset({"audio"}))


def output(*command: str | Path) -> bytes:
    return subprocess.run([*map(str, command)], capture_output=True, check=False).stdout


def candidates() -> list[Path]:
    """Odd files first, then some of each other folder."""
    folders = sorted(path for path in MEDIA.iterdir() if path.is_dir())
    found = sorted((MEDIA / "odd").iterdir()) if (MEDIA / "odd").is_dir() else []
    for folder in folders:
        found += sorted(path for path in folder.rglob("*.*") if folder.name != "odd")[:200:20]
    return [path for path in found if path.is_file() and path.stat().st_size < LARGEST_BYTES]


def differences(path: Path) -> str | None:
    """In what frames or sound differ from FFmpeg's, "" for nothing; None where there are none."""
    try:
        clip = decode(path, REQUEST)
        with open_media(path, REQUEST) as media:
            video, audio = media.video.index, None if media.audio is None else media.audio.index
            levels = 1.5 if media.video.format.components[0].bits == 8 else 4.0  # scalers differ by version
    except DecodeError:
        return None
    probe = ["ffprobe", "-v", "error", "-of", "json", "-show_frames", "-show_entries"]
    facts = json.loads(
        output(*probe, "frame=best_effort_timestamp_time,width,height:format=start_time", "-select_streams",
               str(video), path)
    )  # fmt: skip
    times_s = [float(frame.get("best_effort_timestamp_time", "nan")) for frame in facts["frames"]]
    height, width = clip.frames.shape[1:3]
    ffmpeg = ["ffmpeg", "-v", "error", "-i", path, "-map", f"0:{video}", "-fps_mode", "passthrough"]
    raw = output(*ffmpeg, "-vf", f"scale={width}:{height}", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    frames = np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)
    wanted = spread(len(frames), 8)
    wrong = np.abs(frames[wanted].astype(int) - clip.frames).mean((1, 2, 3))
    told = [] if wrong.max() < levels else [f"frames differ by {wrong.round(1)}"]
    start_s = max(0.0, float(facts["format"].get("start_time", 0)))
    if len(times_s) == len(frames):
        expected_s = np.array([times_s[i] for i in wanted]) - start_s
        if (
            path.suffix == ".avi"
        ):  # whose dates are of decoding: FFmpeg shows the first late, and the last never
            expected_s -= expected_s[0]
        off_s = np.abs(clip.frame_times_s - expected_s)
        told += [f"times {clip.frame_times_s} for {expected_s}"] if np.nanmax(off_s) > 2e-3 else []
    if audio is not None and not clip.missing_audio:
        told += sound_differences(path, audio, clip.audio, clip.sample_rate_hz, start_s)
    return "; ".join(told)


def sound_differences(path: Path, track: int, audio: np.ndarray, rate_hz: int, start_s: float) -> list[str]:
    """In what float32 [channels, samples] differs from FFmpeg's decoding, moved to where it begins."""
    probe = ["ffprobe", "-v", "error", "-of", "json", "-show_frames", "-select_streams", str(track)]
    times = json.loads(output(*probe, "-read_intervals", "%+#20", path))["frames"]
    raw = output("ffmpeg", "-v", "error", "-i", path, "-map", f"0:{track}", "-f", "f32le", "-")
    expected = np.frombuffer(raw, np.float32).reshape(-1, len(audio)).T
    first = round((float(times[0].get("best_effort_timestamp_time", start_s)) - start_s) * rate_hz)
    found = audio[:, max(0, first) :]
    expected = expected[:, max(0, -first) :]
    n = min(found.shape[1], expected.shape[1])
    told = [] if abs(found.shape[1] - expected.shape[1]) <= 2 else [f"{found.shape} for {expected.shape}"]
    worst = float(np.abs(found[:, :n] - expected[:, :n]).max()) if n else 0.0
    return told + ([] if worst < 1e-3 else [f"sound differs by {worst:.4f}"])


def test_files_are_what_ffmpeg_makes_of_them() -> None:
    compared: dict[str, str] = {}
    for path in candidates():
        told = differences(path)
        if told is not None:
            compared[path.name] = told
        if len(compared) == N_FILES:
            break
    assert len(compared) == N_FILES
    assert {name: told for name, told in compared.items() if told} == {}
