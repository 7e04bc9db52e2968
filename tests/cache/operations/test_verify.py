"""Every bad row is found, named, and missing after a repair."""

from pathlib import Path

import numpy as np
import pytest

from avcil.cache import CacheWriter, SyntheticSpec, TokenCache, write_synthetic_cache
from avcil.cache.operations.verify import BadRow, mark_missing, verify
from avcil.errors import CacheError

SPEC = SyntheticSpec(classes=3, train=20, val=1, test=0, time=2, space=4, width=8)


def damage(path: Path, dataset: str, row: int) -> BadRow:
    shard = TokenCache(path).shards[0].shard
    size = {"visual": 2 * 4 * 8 * 2, "audio": 8 * 4, "audio_crc32": 4, "crc32": 4}[dataset]
    data = bytearray(shard.path.read_bytes())
    data[shard.offsets[dataset] + row * size] ^= 1
    shard.path.write_bytes(data)
    return BadRow(shard.ids[row], shard.path, row)


def test_a_good_cache_is_good(tmp_path: Path) -> None:
    write_synthetic_cache(tmp_path / "c", SPEC)
    calls: list[tuple[int, int]] = []
    found = verify(TokenCache(tmp_path / "c"), on_progress=lambda *now: calls.append(now))
    assert found.bad == () and found.rows == 63 and found.size_bytes == 63 * (2 * 4 * 8 * 2 + 32)
    assert calls[-1] == (63, 63)


def test_bad_rows_are_named_and_redone(tmp_path: Path) -> None:
    write_synthetic_cache(tmp_path / "c", SPEC)
    whole = (tmp_path / "c/shard-00000.h5").read_bytes()
    bad = tuple(
        damage(tmp_path / "c", *place)
        for place in (("visual", 3), ("audio", 17), ("audio_crc32", 40), ("crc32", 62))
    )
    cache = TokenCache(tmp_path / "c")
    found = verify(cache, threads=2)
    assert found.bad == bad and found.rows == 63
    mark_missing(cache, found.bad)
    repaired = TokenCache(tmp_path / "c")
    assert not any(repaired.has(one.id) for one in bad)
    assert verify(repaired).bad == () and verify(repaired).rows == 59
    write_synthetic_cache(tmp_path / "c", SPEC)
    assert (tmp_path / "c/shard-00000.h5").read_bytes() == whole


def test_a_row_that_was_redone_meanwhile_stays(tmp_path: Path) -> None:
    write_synthetic_cache(tmp_path / "c", SPEC)
    damage(tmp_path / "c", "visual", 3)
    cache = TokenCache(tmp_path / "c")
    found = verify(cache)
    for _ in range(2):
        mark_missing(cache, found.bad)
        write_synthetic_cache(tmp_path / "c", SPEC)
        mark_missing(cache, found.bad)
        assert TokenCache(tmp_path / "c").has(found.bad[0].id)


def test_a_cache_that_is_written_is_not_repaired(tmp_path: Path) -> None:
    write_synthetic_cache(tmp_path / "c", SPEC)
    bad = damage(tmp_path / "c", "audio", 2)
    cache = TokenCache(tmp_path / "c")
    with (
        CacheWriter.open(tmp_path / "c", cache.info, cache.clips),
        pytest.raises(CacheError, match="another process"),
    ):
        mark_missing(cache, [bad])
    assert cache.has(bad.id)


def test_a_shard_cut_short_while_it_is_open_is_an_error(tmp_path: Path) -> None:
    write_synthetic_cache(tmp_path / "c", SPEC)
    cache = TokenCache(tmp_path / "c")
    with (tmp_path / "c/shard-00000.h5").open("r+b") as file:
        file.truncate(5000)
    for read in (cache.read, cache.read_audio):
        with pytest.raises(CacheError, match="cut short after it was opened"):
            read([cache.clips[-1].id], verify=False)
    with pytest.raises(CacheError, match="cut short after it was opened"):
        verify(cache)


def test_reading_gives_what_was_checked(tmp_path: Path) -> None:
    write_synthetic_cache(tmp_path / "c", SPEC)
    cache = TokenCache(tmp_path / "c")
    shard = cache.shards[0]
    ids = list(shard.shard.ids)
    np.testing.assert_array_equal(cache.read(ids).visual, shard.parts["visual"])
