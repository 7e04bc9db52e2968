"""Tokens as numpy files: the same numbers, whole or not there."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.small_disk import small_disk

from avcil.cache import CacheClip, CacheInfo, CacheWriter, TokenCache, TokenSpec
from avcil.cache.operations.export import export
from avcil.errors import CacheError


@pytest.fixture(params=["float16", "int8"])
def cache(request: pytest.FixtureRequest, tmp_path: Path, info: CacheInfo) -> TokenCache:
    """40 clips, two of which have no tokens."""
    clips = [CacheClip(f"a/b, {i}", "x", "train" if i % 4 else "test") for i in range(40)]
    rng = np.random.default_rng(0)
    with CacheWriter.open(
        tmp_path / "c", replace(info, visual=TokenSpec((2, 3, 5), request.param)), clips
    ) as writer:
        ids = [clip.id for clip in clips[2:]]
        writer.write(ids, rng.standard_normal((38, 2, 3, 5)), rng.standard_normal((38, 5)))
    return TokenCache(tmp_path / "c")


def values(cache: TokenCache, ids: list[str]) -> np.ndarray:
    tokens = cache.read(ids)
    return tokens.visual if tokens.visual_scale is None else tokens.widened()


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_file_a_clip(cache: TokenCache, tmp_path: Path) -> None:
    assert export(cache, tmp_path / "out", "npz") == 38
    rows = table(tmp_path / "out/clips.csv")
    assert len(list((tmp_path / "out").iterdir())) == 39
    assert [(row["id"], row["label"], row["split"]) for row in rows] == [
        (clip.id, clip.label, clip.split) for clip in cache.present()
    ]
    for row in rows:
        with np.load(tmp_path / "out" / row["file"]) as file:
            np.testing.assert_array_equal(file["visual"], values(cache, [row["id"]])[0])
            np.testing.assert_array_equal(file["audio"], cache.read_audio([row["id"]])[0])


def test_a_file_a_split(cache: TokenCache, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    export(cache, tmp_path / "out", "npy", lambda *now: calls.append(now))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"{split}{end}" for split in ("test", "train") for end in ("-audio.npy", "-visual.npy", ".csv")
    ]
    for split in ("train", "test"):
        ids = [row["id"] for row in table(tmp_path / f"out/{split}.csv")]
        assert ids == [clip.id for clip in cache.present(split)]
        np.testing.assert_array_equal(np.load(tmp_path / f"out/{split}-visual.npy"), values(cache, ids))
        np.testing.assert_array_equal(np.load(tmp_path / f"out/{split}-audio.npy"), cache.read_audio(ids))
    assert calls[-1] == (38, 38)


@pytest.mark.parametrize("form", ["npz", "npy"])
def test_a_full_disk_leaves_nothing(form: str, cache: TokenCache, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    with small_disk(500), pytest.raises(CacheError, match=r"cannot write .*out: File too large"):
        export(cache, tmp_path / "out", form)  # type: ignore[arg-type]
    assert sorted(tmp_path.iterdir()) == before


def test_nothing_is_overwritten_and_forms_are_checked(cache: TokenCache, tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="c exists: choose a new folder"):
        export(cache, tmp_path / "c", "npz")
    with pytest.raises(CacheError, match="'mat': choose one of npz, npy"):
        export(cache, tmp_path / "out", "mat")  # type: ignore[arg-type]


def test_two_exports_of_one_name_are_not_mixed(cache: TokenCache, tmp_path: Path) -> None:
    def second(done: int, total: int) -> None:
        if done == 1:
            with pytest.raises(CacheError, match="out is being written by another process"):
                export(cache, tmp_path / "out", "npz")

    assert export(cache, tmp_path / "out", "npz", second) == 38
    assert len(list((tmp_path / "out").iterdir())) == 39 and not list(tmp_path.glob(".out*"))


def test_what_a_stopped_export_left_is_taken_away(cache: TokenCache, tmp_path: Path) -> None:
    (tmp_path / ".out.tmp").mkdir()
    (tmp_path / ".out.tmp/999999.npz").touch()
    export(cache, tmp_path / "out", "npz")
    assert len(list((tmp_path / "out").iterdir())) == 39


@pytest.mark.parametrize("place", ["/", "link"])
def test_what_cannot_become_a_folder_is_refused_first(
    place: str, cache: TokenCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(CacheError, match=f"^{place} exists: choose a new folder"):
        export(cache, Path(place), "npz")
