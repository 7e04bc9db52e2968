"""Opening and reading a cache: what is there, and how damage is told."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from avcil.cache import CacheClip, CacheInfo, CacheWriter, SyntheticSpec, TokenCache, write_synthetic_cache
from avcil.cache.folder import read_manifest
from avcil.cache.shard import open_shard
from avcil.errors import CacheError

SPEC = SyntheticSpec(classes=2, train=3, val=1, test=1, time=2, space=4, width=8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_synthetic_cache(tmp_path / "c", SPEC)
    return tmp_path / "c"


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def test_clips_are_listed_by_split(path: Path) -> None:
    cache = TokenCache(path)
    assert [clip.id for clip in cache.present("test")] == ["test-000-0000", "test-001-0000"]
    assert cache.present() == cache.clips
    assert cache.has("val-000-0000")
    with pytest.raises(CacheError, match="split 'Test'"):
        cache.present("Test")


def test_absent_clips_are_told_apart(path: Path, info: CacheInfo, tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="'nobody' is not in the manifest"):
        TokenCache(path).read(["nobody"])
    CacheWriter.open(tmp_path / "d", info, [CacheClip("x", "a", "train")]).close()
    assert not TokenCache(tmp_path / "d").has("x")
    with pytest.raises(CacheError, match="'x' has no tokens yet"):
        TokenCache(tmp_path / "d").read(["x"])


def test_reading_nothing_gives_no_rows(path: Path) -> None:
    assert TokenCache(path).read([]).visual.shape == (0, 2, 4, 8)


@pytest.mark.parametrize("dataset", ["visual", "audio", "audio_crc32"])
def test_a_flipped_bit_names_id_shard_and_row(path: Path, dataset: str) -> None:
    shard_path = path / "shard-00000.h5"
    shard = open_shard(shard_path, TokenCache(path).info)
    row_bytes = {"visual": 2 * 4 * 8 * 2, "audio": 8 * 4, "audio_crc32": 4}[dataset]
    flip(shard_path, shard.offsets[dataset] + 3 * row_bytes + 1)
    cache = TokenCache(path)
    read: list[Callable[..., object]] = {
        "visual": [cache.read],
        "audio": [cache.read, cache.read_audio],
        "audio_crc32": [cache.read_audio],
    }[dataset]
    for clip in cache.clips:
        if clip.id != shard.ids[3]:
            cache.read([clip.id])
    for function in read:
        with pytest.raises(CacheError, match=rf"shard-00000\.h5, row 3: .*'{shard.ids[3]}'.*checksum"):
            function([shard.ids[3]])
    for unchecked in (cache.read, cache.read_audio):
        unchecked([shard.ids[3]], verify=False)


def test_a_flipped_bit_in_an_id_is_found(path: Path) -> None:
    shard_path = path / "shard-00000.h5"
    flip(shard_path, open_shard(shard_path, TokenCache(path).info).offsets["id"])
    with pytest.raises(CacheError, match=r"shard-00000\.h5 cannot be used: .* ids do not match"):
        TokenCache(path)


def test_audio_alone_equals_audio(path: Path) -> None:
    cache = TokenCache(path)
    ids = [clip.id for clip in cache.clips]
    np.testing.assert_array_equal(cache.read_audio(ids), cache.read(ids).audio)


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.999])
def test_a_shard_cut_short_is_refused(path: Path, keep: float) -> None:
    shard = path / "shard-00000.h5"
    data = shard.read_bytes()
    shard.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(CacheError, match=r"shard-00000\.h5"):
        TokenCache(path)


@pytest.mark.parametrize("name", ["cache.json", "manifest.csv", "failures.csv"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"id,label\r\n", b'id,label,split,source\r\n"'])
def test_damaged_small_files_are_named(path: Path, name: str, content: bytes) -> None:
    (path / name).write_bytes(content)
    with pytest.raises(CacheError, match=name):
        TokenCache(path)


def test_what_is_no_cache_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="no such folder"):
        TokenCache(tmp_path / "nowhere")
    with pytest.raises(CacheError, match=r"no cache\.json"):
        TokenCache(tmp_path)


def test_a_file_of_a_cache_is_told_from_its_folder(path: Path) -> None:
    with pytest.raises(
        CacheError, match=r"cache\.json is not a token cache: it is a file, a cache is a folder"
    ):
        TokenCache(path / "cache.json")


def test_fingerprint_follows_tokens_and_labels(path: Path, tmp_path: Path, info: CacheInfo) -> None:
    prints = {TokenCache(path).fingerprint}
    write_synthetic_cache(tmp_path / "same", SPEC)
    assert TokenCache(tmp_path / "same").fingerprint in prints

    clips = [CacheClip("x", "a", "train"), CacheClip("y", "a", "train")]
    visual, audio = np.ones((1, 2, 3, 5)), np.ones((1, 5))
    with CacheWriter.open(tmp_path / "d", info, clips) as writer:
        for value in (None, "x", "y"):
            if value:
                writer.write([value], visual, audio)
            prints.add(TokenCache(tmp_path / "d").fingerprint)
    for changed in (CacheClip("x", "b", "train"), CacheClip("x", "a", "val")):
        CacheWriter.open(tmp_path / "d", info, [changed]).close()
        prints.add(TokenCache(tmp_path / "d").fingerprint)
    assert len(prints) == 6


def test_fingerprints_do_not_change_from_version_to_version(path: Path) -> None:
    known = "139e2187a8e529f8b4e218bf4a6d480e90149b4dd0fae907579f36930388ed5b"
    assert TokenCache(path).fingerprint == known


def test_clips_that_come_while_a_cache_is_opened(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = TokenCache(path)

    def read_and_be_overtaken(folder: Path) -> dict[str, CacheClip]:
        monkeypatch.undo()
        manifest = read_manifest(folder)
        CacheWriter.open(folder, before.info, [CacheClip("late", "a", "train")]).close()
        return manifest

    monkeypatch.setattr("avcil.cache.folder.read_manifest", read_and_be_overtaken)
    assert TokenCache(path).clips == before.clips
    assert TokenCache(path).clips[-1].id == "late"


def test_a_pickled_cache_opens_anew(path: Path) -> None:
    cache = TokenCache(path)
    data = pickle.dumps(cache)
    assert len(data) < 300
    assert pickle.loads(data).fingerprint == cache.fingerprint
