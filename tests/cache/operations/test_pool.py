"""A cache copied with less of its visual tokens: right numbers, all else taken over, killed and resumed."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avcil.cache import CacheClip, CacheInfo, CacheWriter, Reduction, TokenCache, TokenSpec
from avcil.cache.operations import pool as pooling
from avcil.cache.operations.pool import pool
from avcil.cache.operations.verify import verify
from avcil.cache.reduction import reduced, statistics
from avcil.errors import CacheError

N, SHAPE = 40, (2, 16, 6)
CLIPS = [CacheClip(f"clip {i}", "ab"[i % 2], ("train", "val", "test")[i % 3], f"{i}.mp4") for i in range(N)]


@pytest.fixture(params=["float16", "int8"])
def cache(request: pytest.FixtureRequest, info: CacheInfo, tmp_path: Path) -> TokenCache:
    """All clips but the last have tokens, one of them a flag; the last one failed."""
    path = tmp_path / "cache"
    made = replace(info, visual=TokenSpec(SHAPE, request.param), audio=TokenSpec((6,), "float32"))
    rng = np.random.default_rng(0)
    with CacheWriter.open(path, made, CLIPS, shards=2) as writer:
        ids = [clip.id for clip in CLIPS[:-1]]
        writer.record_flags({"clip 3": "missing-audio"})
        writer.write(ids, rng.standard_normal((N - 1, *SHAPE)), rng.standard_normal((N - 1, 6)))
        writer.record_failure("clip 39", "corrupt", "cut short")
    return TokenCache(path)


def test_statistics_take_the_place_of_tokens(cache: TokenCache, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    made = pool(cache, tmp_path / "pooled", statistics="mean-std", on_progress=lambda *now: calls.append(now))
    assert (made.done, made.already, made.missing, made.clip_bytes) == (39, 0, 1, 2 * 6 * 4 + 6 * 4)
    assert calls[-1] == (39, 39)
    pooled = TokenCache(tmp_path / "pooled")
    ids = [clip.id for clip in cache.present()]
    before, after = cache.read(ids), pooled.read(ids)
    assert after.visual.dtype == np.float32 and after.visual.shape == (39, 1, 2, 6)
    expected = [statistics(tokens, ("mean", "std")) for tokens in before.widened()]
    np.testing.assert_array_equal(after.visual, expected)
    np.testing.assert_array_equal(after.audio, before.audio)
    assert pooled.clips == cache.clips and pooled.failures == cache.failures and pooled.flags == cache.flags
    assert pooled.info.visual_reduction == Reduction(cache.info.visual, statistics="mean-std")
    assert verify(pooled).bad == ()


def test_a_coarser_grid_stays_tokens_and_can_be_pooled(cache: TokenCache, tmp_path: Path) -> None:
    pool(cache, tmp_path / "grid", grid=2)
    grid = TokenCache(tmp_path / "grid")
    assert grid.info.visual == TokenSpec((2, 4, 6), cache.info.visual.dtype)
    pool(grid, tmp_path / "after", statistics="mean-std-max")
    pool(cache, tmp_path / "once", grid=2, statistics="mean-std-max")
    after, once = TokenCache(tmp_path / "after"), TokenCache(tmp_path / "once")
    assert after.info == once.info and after.fingerprint == once.fingerprint
    assert after.info.visual_reduction == Reduction(cache.info.visual, 2, "mean-std-max")
    clip = cache.read(["clip 7"]).widened()[0]
    assert after.info.visual_reduction is not None
    expected = reduced(clip, after.info.visual_reduction)
    np.testing.assert_array_equal(once.read(["clip 7"]).visual[0], expected)


def test_what_cannot_be_reduced_leaves_nothing(cache: TokenCache, tmp_path: Path) -> None:
    pool(cache, tmp_path / "pooled", statistics="mean")
    pool(cache, tmp_path / "grid", grid=2)
    pooled, grid = TokenCache(tmp_path / "pooled"), TokenCache(tmp_path / "grid")
    for source, options, words in (
        (pooled, {"statistics": "mean"}, "reduced already .mean over time and space of .*: take the cache"),
        (grid, {"grid": 1}, "reduced already"),
        (cache, {"grid": 3}, "choose 1 or 2"),
    ):
        with pytest.raises(CacheError, match=words):
            pool(source, tmp_path / "none", **options)
    with pytest.raises(CacheError, match=r"holds other tokens; visual\.dtype"):
        pool(cache, cache.path, statistics="mean")
    assert not (tmp_path / "none").exists()


def test_a_cache_without_tokens_is_refused(info: CacheInfo, tmp_path: Path) -> None:
    CacheWriter.open(tmp_path / "empty", info, CLIPS).close()
    with pytest.raises(CacheError, match="empty has no clip with tokens"):
        pool(TokenCache(tmp_path / "empty"), tmp_path / "none", statistics="mean")
    assert not (tmp_path / "none").exists()


def test_a_damaged_row_is_named_and_the_rest_is_kept(cache: TokenCache, tmp_path: Path) -> None:
    shard = cache.shards[1].shard  # clips with odd numbers
    with shard.path.open("r+b") as file:
        file.seek(shard.offsets["visual"] + 19 * 2)
        file.write(b"\x55\xaa\x55")
    with pytest.raises(CacheError, match="clip 'clip 1' do not match their checksum"):
        pool(cache, tmp_path / "pooled", statistics="mean")
    assert not (tmp_path / "pooled").exists()


def test_later_clips_follow(cache: TokenCache, tmp_path: Path) -> None:
    pool(cache, tmp_path / "pooled", statistics="mean")
    with CacheWriter.open(cache.path, cache.info, CLIPS) as writer:
        writer.write(["clip 39"], np.ones((1, *SHAPE)), np.ones((1, 6)))
    made = pool(TokenCache(cache.path), tmp_path / "pooled", statistics="mean")
    assert (made.done, made.already, made.missing) == (1, 39, 0)
    pooled = TokenCache(tmp_path / "pooled")
    assert not pooled.failures
    np.testing.assert_allclose(pooled.read(["clip 39"]).visual, 1, rtol=1e-3)  # int8 rounds


def die_after(writes: int, source: Path, out: Path) -> None:
    """Pool, and be killed before the next write; run in a process of its own."""
    store, done = CacheWriter.write, 0

    def write(self: CacheWriter, *tokens: object) -> None:
        nonlocal done
        if done == writes:
            os.kill(os.getpid(), signal.SIGKILL)
        done += 1
        store(self, *tokens)  # type: ignore[arg-type]

    CacheWriter.write = write  # type: ignore[method-assign]
    pooling.BATCH = 4
    pool(TokenCache(source), out, statistics="mean-std")


def test_a_killed_copy_goes_on(cache: TokenCache, tmp_path: Path) -> None:
    pool(cache, tmp_path / "whole", statistics="mean-std")
    for writes in (0, 2, 3):
        command = [sys.executable, __file__, str(writes), cache.path, tmp_path / "killed"]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
        assert verify(TokenCache(tmp_path / "killed")).bad == ()
    assert len(TokenCache(tmp_path / "killed").present()) == 20
    made = pool(cache, tmp_path / "killed", statistics="mean-std")
    assert (made.done, made.already) == (19, 20)
    files = {file.name: file.read_bytes() for file in (tmp_path / "killed").iterdir()}
    assert files == {file.name: file.read_bytes() for file in (tmp_path / "whole").iterdir()}


if __name__ == "__main__":
    die_after(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
