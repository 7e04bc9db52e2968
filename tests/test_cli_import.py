"""`avcil cache import`: a folder as published becomes a cache that can be trained on."""

from __future__ import annotations

import os
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import typer
from support.golden import draw_data_set, load_golden
from support.released_files import as_npy, wrapped, write_hdf5, write_released, write_splits

from avcil.cache import CacheClip, CacheWriter, TokenCache
from avcil.commands.cache_import import cache_import
from avcil.errors import AvcilError, CacheError, ConfigError
from avcil.extract.recipe import RECIPES
from avcil.published.layout import AUDIO_NAMES, VISUAL_NAMES, listed_clips
from avcil.train.config import ProtocolConfig, RunConfig, TrainingConfig
from avcil.train.plan import plan_run
from avcil.train.run import train_run

CLIPS = [CacheClip(f"clip{i}", f"class {i % 2}", ("train", "val", "test")[i % 3]) for i in range(12)]
RNG = np.random.default_rng(0)
VISUAL = {clip.id: RNG.standard_normal((16, 6)).astype("f4") for clip in CLIPS}
AUDIO = {clip.id: RNG.standard_normal(6).astype("f4") for clip in CLIPS}
SPLITS = os.environ.get("AVCIL_TEST_SPLITS")
published = pytest.mark.skipif(not SPLITS, reason="AVCIL_TEST_SPLITS names no folder of split files")


def run(*arguments: str | Path) -> None:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(cache_import)
    app([str(argument) for argument in arguments], standalone_mode=False)


def test_a_folder_as_published_for_ave(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(write_released(tmp_path, CLIPS, VISUAL, AUDIO), "--out", tmp_path / "cache")
    shown = capsys.readouterr()
    assert "12 clips of 2 classes" in shown.out and "recipe released-ave" in shown.out
    assert "12 clips imported, 0.00 GB read in" in shown.out and "0 failed" in shown.out
    assert shown.err == ""
    cache = TokenCache(tmp_path / "cache")
    assert cache.info.recipe == RECIPES["released-ave"].to_dict()
    assert cache.info.visual.shape == (8, 2, 6) and cache.info.visual.dtype == "float16"
    assert cache.info.visual_encoder.name == "videomae-released"
    assert {(c.id, c.label, c.split) for c in cache.present()} == {(c.id, c.label, c.split) for c in CLIPS}
    assert [clip.label for clip in cache.clips] == ["class 0"] * 6 + ["class 1"] * 6


def test_files_side_by_side_hdf5_and_splits_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "splits").mkdir()
    (tmp_path / "features").mkdir()
    write_splits(tmp_path / "splits", CLIPS)
    write_hdf5(tmp_path / "features" / VISUAL_NAMES[1], VISUAL | {"other": VISUAL["clip0"]})
    audio = {key: value for key, value in AUDIO.items() if key != "clip3"}
    np.save(tmp_path / "features" / AUDIO_NAMES[0], wrapped(audio), allow_pickle=True)
    folders = tmp_path / "features", "--splits", tmp_path / "splits", "--out", tmp_path / "cache"
    run(*folders, "--tokens", "float32")
    shown = capsys.readouterr()
    assert "11 clips imported" in shown.out and "1 failed" in shown.out
    assert "note: 1 clips have features and stand in no split" in shown.err
    assert f"failed: clip3: missing: not in {AUDIO_NAMES[0]}" in shown.err
    cache = TokenCache(tmp_path / "cache")
    assert cache.info.recipe == RECIPES["released"].to_dict()
    assert cache.failures == {"clip3": ("missing", f"not in {AUDIO_NAMES[0]}")}
    assert cache.read(["clip4"]).visual.tobytes() == VISUAL["clip4"].tobytes()
    with pytest.raises(CacheError, match=r"holds other tokens; visual\.dtype"):
        run(*folders)
    with pytest.raises(ConfigError, match="recipe is 'relaesed'; it must be auto or one of"):
        run(*folders, "--recipe", "relaesed")


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch HERE",)


def test_a_malicious_file_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    released = write_released(tmp_path, CLIPS, VISUAL, AUDIO)
    (tmp_path / "evil.npy").write_bytes(as_npy(pickle.dumps(wrapped(VISUAL | {"x": Evil()}), 3)))
    with pytest.raises(CacheError, match=r"evil\.npy: pickle, byte .*it names 'posix\.system'"):
        run(released, "--visual", "evil.npy", "--out", "cache")
    assert not Path("HERE").exists() and not Path("cache").exists()


def test_a_folder_without_features_says_what_to_name(tmp_path: Path) -> None:
    write_splits(tmp_path, CLIPS)
    with pytest.raises(AvcilError, match=r"no visual_pretrained_feature_dict\.npy or .* by --visual"):
        run(tmp_path, "--out", tmp_path / "cache")


@published
@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("AVE", (3294, 391, 394)),
        ("kinetics-sounds", (19220, 1947, 1958)),
        pytest.param("VGGSound_100", (51195, 5000, 5000), marks=pytest.mark.slow),
    ],
)
def test_published_lists(name: str, counts: tuple[int, int, int], tmp_path: Path) -> None:
    """All clips of the published lists, with features of one number a place."""
    assert SPLITS
    splits = Path(SPLITS) / name
    ids = [clip.id for clip in listed_clips(splits)]
    for file, shape in ((VISUAL_NAMES[0], (8, 1)), (AUDIO_NAMES[0], (1,))):
        arrays = {id: np.full(shape, i, "f4") for i, id in enumerate(ids)}
        np.save(tmp_path / file, wrapped(arrays), allow_pickle=True)
    run(tmp_path, "--splits", splits, "--out", tmp_path / "cache", "--tokens", "float32")
    cache = TokenCache(tmp_path / "cache")
    found = Counter(clip.split for clip in cache.present())
    assert (found["train"], found["val"], found["test"]) == counts
    assert [clip.id for clip in cache.present()] == ids
    assert cache.read_audio(ids)[:, 0].tolist() == list(range(len(ids)))


def test_training_on_an_imported_cache_is_training_on_the_features(tmp_path: Path) -> None:
    """The reference's tiny data, in the published format and written directly: the same numbers."""
    groups = load_golden("trajectory")
    if "four_classes" not in groups:
        pytest.skip("this reference set holds no such group")
    data = draw_data_set(groups["four_classes"]["config"]["data"])
    # Clip ids are <split>_c<class>_<index>.
    clips = [CacheClip(id, f"class-{id.split('_c')[1][:2]}", id.split("_")[0]) for id in data]
    visual = {id: tokens.reshape(-1, tokens.shape[-1]) for id, (_, tokens) in data.items()}
    audio = {id: tokens for id, (tokens, _) in data.items()}
    released = write_released(tmp_path, clips, visual, audio)
    run(released, "--out", tmp_path / "imported", "--tokens", "float32")

    imported = TokenCache(tmp_path / "imported")
    with CacheWriter.open(tmp_path / "direct", imported.info, imported.clips) as writer:
        ids = [clip.id for clip in imported.clips]
        writer.write(ids, np.stack([data[id][1] for id in ids]), np.stack([data[id][0] for id in ids]))
    direct = TokenCache(tmp_path / "direct")
    assert direct.fingerprint == imported.fingerprint

    config = RunConfig(
        protocol=ProtocolConfig(step_sizes=(4, 4), memory=20),
        training=TrainingConfig(epochs=2, device="cpu"),
    )
    records = []
    for cache in (direct, imported):
        trained = train_run(plan_run(cache, config), tmp_path / f"run-{cache.path.name}")
        steps = [trained.record(step) for step in range(2)]
        records.append([([epoch.loss for epoch in step.epochs], step.predicted) for step in steps])
    assert records[0] == records[1]
