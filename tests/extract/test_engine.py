"""An extraction from clips to a cache: counts, failures, resuming, and leaving nothing half-written."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.clip_files import write_clip

from avcil.cache import CacheClip, CacheWriter, TokenCache
from avcil.errors import CacheError, ConfigError, EncoderError, ManifestError
from avcil.extract.engine import Progress, extract
from avcil.extract.options import ExtractOptions, build_token_encoder
from avcil.extract.prepare import Preparation, PreparedClip
from avcil.extract.sources.clip import Clip

DEMO = ExtractOptions("demo", "demo", workers=0, batch=2, device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five clips of different lengths, and one without sound."""
    folder = tmp_path_factory.mktemp("clips")
    for i in range(5):
        write_clip(folder / f"{i}.mp4", n_frames=18 + i, seconds=1.5 + i / 12)
    write_clip(folder / "silent.mp4", audio=None)
    return folder


def listed(folder: Path, *names: str) -> list[Clip]:
    return [Clip(f"é/{name}", folder / f"{name}.mp4", "é", "train") for name in names]


def test_tokens_are_those_of_the_encoders(folder: Path, tmp_path: Path) -> None:
    clips = listed(folder, "0", "1", "2", "3", "4")
    summary = extract(clips, tmp_path / "cache", DEMO)
    assert (summary.done, summary.already, summary.failures) == (5, 0, [])
    encoder = build_token_encoder(DEMO)
    prepared = [Preparation(encoder.recipe)(clip) for clip in clips]
    expected = encoder.encode([one for one in prepared if isinstance(one, PreparedClip)])
    cache = TokenCache(tmp_path / "cache")
    tokens = cache.read([clip.id for clip in clips])
    assert np.allclose(tokens.visual.astype(float), expected.visual.astype(float), atol=4e-3)
    assert np.allclose(tokens.audio, expected.audio, atol=1e-5)
    assert len(np.unique(tokens.audio.round(3), axis=0)) > 1
    assert cache.info == encoder.info and cache.info.recipe["image_size"] == 64


def test_tokens_are_stored_as_asked(folder: Path, tmp_path: Path) -> None:
    read = {}
    for name in ("float16", "float32", "int8"):
        extract(listed(folder, "0"), tmp_path / name, replace(DEMO, tokens=name))  # type: ignore[arg-type]
        read[name] = TokenCache(tmp_path / name).read(["é/0"])
        assert read[name].visual.dtype.name == name
    fine = read["float32"].visual
    assert np.array_equal(read["float16"].visual, fine.astype(np.float16))
    largest = np.abs(fine).max(-1, keepdims=True)
    assert (np.abs(read["int8"].widened() - fine) <= largest / 230).all()


def test_a_cache_that_another_process_writes_is_left_alone(folder: Path, tmp_path: Path) -> None:
    clips, out = listed(folder, "0", "1"), tmp_path / "cache"
    info = build_token_encoder(DEMO).info
    rows = [CacheClip(clip.id, clip.label, clip.split) for clip in clips]
    with CacheWriter.open(out, info, rows):
        before = sorted(out.iterdir())
        with pytest.raises(CacheError, match="written by another process"):
            extract(clips, out, DEMO)
        assert sorted(out.iterdir()) == before


def test_clips_of_earlier_extractions_are_counted(folder: Path, tmp_path: Path) -> None:
    extract(listed(folder, "0", "1", "2"), tmp_path / "cache", DEMO)
    assert extract(listed(folder, "1"), tmp_path / "cache", DEMO).others == 2


def test_failures_are_noted_and_stop_nothing(folder: Path, tmp_path: Path) -> None:
    clips = listed(folder, "silent", "0", "nowhere", "1")
    summary = extract(clips, tmp_path / "cache", DEMO)
    assert summary.done == 2
    assert {failure.id: failure.kind for failure in summary.failures} == {
        "é/silent": "no-audio",
        "é/nowhere": "missing",
    }
    assert summary.failed_by_kind == {"no-audio": 1, "missing": 1}
    assert TokenCache(tmp_path / "cache").failures["é/nowhere"][0] == "missing"


def test_a_second_run_does_only_what_is_missing(folder: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "clips", tmp_path / "cache"
    shutil.copytree(folder, source)
    (source / "1.mp4").rename(source / "later.mp4")
    assert extract(listed(source, "0", "1"), out, DEMO).done == 1
    (source / "later.mp4").rename(source / "1.mp4")
    again = extract(listed(source, "0", "1", "2"), out, DEMO)
    assert (again.done, again.already, again.failed_by_kind) == (1, 1, {"missing": 1})
    retry = extract(
        listed(source, "0", "1", "2"), out, ExtractOptions("demo", "demo", workers=0, retry_failed=True)
    )
    assert (retry.done, retry.already, retry.failures) == (1, 2, [])


def test_an_interrupted_run_goes_on_to_the_same_tokens(folder: Path, tmp_path: Path) -> None:
    clips = listed(folder, "0", "1", "2", "3")

    def interrupt(progress: Progress) -> None:
        if progress.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(clips, tmp_path / "a", DEMO, interrupt)
    assert extract(clips, tmp_path / "a", DEMO).already == 2
    extract(clips, tmp_path / "b", DEMO)
    broken, whole = (TokenCache(tmp_path / name).read([clip.id for clip in clips]) for name in "ab")
    assert np.array_equal(broken.visual, whole.visual) and np.array_equal(broken.audio, whole.audio)


def test_failures_outlive_an_interruption(folder: Path, tmp_path: Path) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(listed(folder, "silent", "0", "1", "2", "3"), tmp_path / "cache", DEMO, interrupt)
    assert TokenCache(tmp_path / "cache").failures.keys() == {"é/silent"}


def test_no_clips_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="there are no clips to extract"):
        extract([], tmp_path / "cache", DEMO)
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_up_to_the_total(folder: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    extract(listed(folder, "0", "silent", "1", "2"), tmp_path / "cache", DEMO, seen.append)
    last = seen[-1]
    assert (last.total, last.already, last.done, last.failed) == (4, 0, 3, 1)
    ended = [one.done + one.failed for one in seen]
    assert ended == sorted(ended) and ended[0] == 0


@pytest.mark.parametrize("exists", [False, True])
def test_if_every_clip_fails_nothing_stays(folder: Path, tmp_path: Path, exists: bool) -> None:
    out = tmp_path / "cache"
    if exists:
        out.mkdir()
    with pytest.raises(
        ManifestError, match=r"none of the 2 clips could be encoded \(1 no-audio, 1 missing\)"
    ):
        extract(listed(folder, "silent", "nowhere"), out, DEMO)
    assert list(tmp_path.rglob("*")) == ([out] if exists else [])


def test_a_failure_of_everything_keeps_what_was_there(folder: Path, tmp_path: Path) -> None:
    extract(listed(folder, "0"), tmp_path / "cache", DEMO)
    with pytest.raises(ManifestError):
        extract(listed(folder, "silent"), tmp_path / "cache", DEMO)
    assert TokenCache(tmp_path / "cache").has("é/0")


def test_another_recipe_is_refused_and_the_cache_untouched(folder: Path, tmp_path: Path) -> None:
    extract(listed(folder, "0"), tmp_path / "cache", DEMO)
    with pytest.raises(CacheError, match="choose another folder"):
        extract(
            listed(folder, "0", "1"),
            tmp_path / "cache",
            ExtractOptions("demo", "demo", recipe="released", workers=0),
        )
    assert TokenCache(tmp_path / "cache").has("é/0")


def test_a_full_disk_is_refused_before_the_start(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, 0))
    with pytest.raises(CacheError, match=r"the tokens of 1 clips need 0\.07 GB and 0\.00 GB are free"):
        extract(listed(folder, "0"), tmp_path / "cache", DEMO)
    assert not (tmp_path / "cache").exists()


def test_missing_weights_are_refused_before_the_start(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="--visual-weights"):
        extract(listed(folder, "0"), tmp_path / "cache", ExtractOptions(workers=0))
    assert not (tmp_path / "cache").exists()


def test_a_file_in_the_place_of_the_cache_is_left_alone(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("keep")
    with pytest.raises(CacheError):
        extract(listed(folder, "0"), tmp_path / "cache", DEMO)
    assert (tmp_path / "cache").read_text() == "keep"


def test_a_folder_that_is_no_cache_is_left_alone(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(CacheError, match="not a token cache"):
        extract(listed(folder, "0"), tmp_path, DEMO)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"recipe": "mine"}, "recipe is 'mine'; it must be one of recommended, released"),
        ({"decoder": "ffmpeg"}, "decoder is 'ffmpeg'"),
        ({"precision": "int8"}, "precision is 'int8'"),
        ({"tokens": "int4"}, "tokens is 'int4'; it must be one of float16, float32, int8"),
        ({"workers": -1}, "workers is -1; it must be at least 0"),
        ({"batch": 0}, "batch is 0"),
        ({"deadline_s": 0.0}, "deadline_s is 0.0"),
    ],
)
def test_options_are_checked(changed: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ExtractOptions(**changed)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("device", "precision", "message"),
    [("cpu", "fp16", "fp16 needs a GPU"), ("cuda:99", "auto", "no such GPU"), ("tpu!", "auto", "unknown")],
)
def test_devices_are_checked(device: str, precision: str, message: str) -> None:
    with pytest.raises(EncoderError, match=message):
        build_token_encoder(ExtractOptions("demo", "demo", device=device, precision=precision))  # type: ignore[arg-type]


def test_windows_of_one_file_are_clips_of_their_own(folder: Path, tmp_path: Path) -> None:
    path = folder / "4.mp4"
    clips = [Clip("a", path, "x", "train", 0.0, 0.8), Clip("b", path, "x", "test", 0.8, None)]
    assert extract(clips, tmp_path / "cache", DEMO).done == 2
    sources = [clip.source for clip in TokenCache(tmp_path / "cache").clips]
    assert [source.split("/")[-1] for source in sources] == ["4.mp4#t=0,0.8", "4.mp4#t=0.8,"]
    tokens = TokenCache(tmp_path / "cache").read(["a", "b"])
    assert not np.array_equal(tokens.visual[0], tokens.visual[1])


def test_workers_give_the_same_tokens(folder: Path, tmp_path: Path) -> None:
    clips = listed(folder, "0", "1", "silent", "2", "3")
    extract(clips, tmp_path / "a", DEMO)
    summary = extract(clips, tmp_path / "b", ExtractOptions("demo", "demo", workers=2, batch=2, device="cpu"))
    assert summary.done == 4
    ids = [clip.id for clip in clips if "silent" not in clip.id]
    one, other = (TokenCache(tmp_path / name).read(ids) for name in "ab")
    assert np.allclose(one.visual.astype(float), other.visual.astype(float), atol=4e-3)
    assert np.allclose(one.audio, other.audio, atol=1e-5)


def test_several_devices_make_the_same_tokens(folder: Path, tmp_path: Path) -> None:
    clips = listed(folder, "0", "1", "silent", "2", "3", "4")
    extract(clips, tmp_path / "one", DEMO)
    several = extract(clips, tmp_path / "two", replace(DEMO, device="cpu,cpu", workers=2))
    assert (several.done, several.failed_by_kind) == (5, {"no-audio": 1})
    assert (several.times.devices, several.times.workers) == (2, 2)
    assert len(list((tmp_path / "two").glob("shard-*.h5"))) == 2
    ids = [clip.id for clip in clips if "silent" not in clip.id]
    one, two = (TokenCache(tmp_path / name).read(ids) for name in ("one", "two"))
    assert np.allclose(one.visual.astype(float), two.visual.astype(float), atol=4e-3)
    assert np.allclose(one.audio, two.audio, atol=1e-5)


def test_a_device_that_is_not_there_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="cuda:9"):
        extract(listed(folder, "0", "1"), tmp_path / "cache", replace(DEMO, device="cpu,cuda:9", workers=2))
    assert list(tmp_path.iterdir()) == []


def test_a_clip_without_sound_may_be_encoded_with_silence(folder: Path, tmp_path: Path) -> None:
    allowing = replace(DEMO, allow_missing=frozenset({"audio"}))
    summary = extract(listed(folder, "0", "silent"), tmp_path / "cache", allowing)
    assert (summary.done, summary.failures) == (2, [])
    cache = TokenCache(tmp_path / "cache")
    assert cache.flags == {"é/silent": "missing-audio"}
    again = extract(listed(folder, "0", "silent"), tmp_path / "cache", allowing)
    assert (again.done, again.already) == (0, 2)
    quiet, loud = cache.read(["é/silent", "é/0"]).audio
    assert np.isfinite(quiet).all() and not np.allclose(quiet, loud)
