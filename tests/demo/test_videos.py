"""The demo data: real files, the same for a seed, and pictures that know nothing of sounds."""

import csv
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from avcil.demo.scenes import SIGHTS, SOUNDS, draw_frames, draw_sound
from avcil.demo.videos import CLASSES, DemoClip, DemoSpec, demo_clips, draw_clip, render_demo
from avcil.errors import ManifestError

SPEC = DemoSpec(train=1, val=0, test=1, width=48, height=32, min_s=0.5, max_s=1.0)


def videos(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*.mp4")}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_demo(tmp_path_factory.mktemp("demo"), SPEC)


def test_the_table_lists_every_class_in_every_split(rendered: Path) -> None:
    with rendered.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(CLASSES) == len(SIGHTS) * len(SOUNDS) == 12
    expected = [(split, label) for split in ("train", "test") for label in CLASSES]
    assert [(row["split"], row["label"]) for row in rows] == expected
    assert len({row["id"] for row in rows}) == len(rows)
    assert all((rendered.parent / row["path"]).is_file() for row in rows)
    assert not list(rendered.parent.rglob("*.tmp"))


def test_files_decode_to_what_was_drawn(rendered: Path) -> None:
    for clip in demo_clips(SPEC)[::5]:
        frames, samples = draw_clip(clip, SPEC)
        with av.open(str(rendered.parent / clip.path)) as file:
            seen = np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])
        with av.open(str(rendered.parent / clip.path)) as file:
            heard = np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])
            assert file.streams.audio[0].rate == SPEC.rate_hz
        assert seen.shape == frames.shape
        brightness = seen.mean(-1).ravel(), frames.mean(-1).ravel()  # colour is coded at half size
        assert np.corrcoef(*brightness)[0, 1] > 0.95
        assert 0 <= len(heard) - len(samples) <= 2048  # AAC codes blocks of 1024
        n = len(samples)
        lags = [np.corrcoef(heard[lag : lag + n - 1024], samples[: n - 1024])[0, 1] for lag in (0, 1024)]
        assert max(lags) > 0.8
        assert abs(len(frames) / SPEC.fps - n / SPEC.rate_hz) < 1e-3


def test_the_same_seed_makes_the_same_bytes(rendered: Path, tmp_path: Path) -> None:
    assert videos(render_demo(tmp_path, SPEC).parent) == videos(rendered.parent)


def test_clips_of_a_class_and_seeds_differ() -> None:
    one, other = (draw_clip(DemoClip("rings-chirp", "train", n), SPEC) for n in (0, 1))
    assert one[0].shape != other[0].shape or (one[0] != other[0]).any()
    reseeded = draw_clip(DemoClip("rings-chirp", "train", 0), replace(SPEC, seed=1))
    assert one[0].shape != reseeded[0].shape or (one[0] != reseeded[0]).any()


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("sound", SOUNDS)
def test_picture_and_sound_ignore_each_other(sight: str, sound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the seed of one class, the half that two classes share comes out the same in both."""
    monkeypatch.setattr("avcil.demo.videos.CLASSES", _AllFirst())
    frames, samples = draw_clip(DemoClip(f"{sight}-{sound}", "train", 0), SPEC)
    other_sound = draw_clip(DemoClip(f"{sight}-{'burst' if sound != 'burst' else 'chirp'}", "train", 0), SPEC)
    other_sight = draw_clip(DemoClip(f"{'rings' if sight != 'rings' else 'disks'}-{sound}", "train", 0), SPEC)
    np.testing.assert_array_equal(frames, other_sound[0])
    np.testing.assert_array_equal(samples, other_sight[1])
    assert (samples != other_sound[1]).any()
    assert (frames != other_sight[0]).any()


class _AllFirst(tuple[str, ...]):
    def index(self, *_: object) -> int:
        return 0


@pytest.mark.parametrize("sight", SIGHTS)
def test_pictures_move(sight: str) -> None:
    frames = draw_frames(sight, np.random.default_rng(0), 12, 48, 32, fps=12).astype(float)
    assert frames.shape == (12, 32, 48, 3)
    assert np.abs(frames[6] - frames[0]).mean() > 5


@pytest.mark.parametrize("sound", SOUNDS)
@pytest.mark.parametrize("rate_hz", [16_000, 22_050])
def test_sounds_stay_in_range_and_in_a_band(sound: str, rate_hz: int) -> None:
    for seed in range(5):
        wave = draw_sound(sound, np.random.default_rng(seed), rate_hz, rate_hz)
        assert wave.shape == (rate_hz,) and wave.dtype.name == "float32"
        assert 0.01 < np.sqrt((wave**2).mean()) < 0.3
        assert np.mean(np.abs(wave) >= 1) < 1e-3


def test_a_second_call_makes_only_what_is_missing(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    table = render_demo(tmp_path, SPEC, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(n, 24) for n in range(1, 25)]
    before = videos(tmp_path)
    kept, lost = sorted(tmp_path.rglob("*.mp4"))[:2]
    kept.write_bytes(b"kept")
    lost.unlink()
    table.unlink()
    assert render_demo(tmp_path, SPEC).read_text()
    assert videos(tmp_path) == before | {kept.name: b"kept"}


def test_other_data_in_the_folder_is_refused(tmp_path: Path) -> None:
    render_demo(tmp_path / "a", DemoSpec(train=0, val=0, test=0))
    with pytest.raises(ManifestError, match=r"made otherwise.*demo\.json"):
        render_demo(tmp_path / "a", SPEC)
    (tmp_path / "b").mkdir()
    (tmp_path / "b/clips.csv").write_text("mine")
    with pytest.raises(ManifestError, match="not demo data"):
        render_demo(tmp_path / "b", SPEC)
    with pytest.raises(ManifestError, match="cannot write"):
        render_demo(tmp_path / "b/clips.csv", SPEC)


@pytest.mark.parametrize("bad", [{"train": -1}, {"width": 33}, {"fps": 0}, {"min_s": 9.0}, {"rate_hz": 8000}])
def test_spec_names_what_is_wrong(bad: dict[str, int]) -> None:
    with pytest.raises(ManifestError, match="demo data"):
        DemoSpec(**bad)
