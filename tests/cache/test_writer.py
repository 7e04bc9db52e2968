"""Filling a cache: rows, resumption, refusals, full disks."""

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.small_disk import small_disk

from avcil.cache import CacheClip, CacheInfo, CacheWriter, TokenCache
from avcil.errors import CacheError

Make = Callable[[int], tuple[np.ndarray, np.ndarray]]
ODD = [
    "😀",
    'say "hi", now',
    "two\nlines",
    "carriage\r\nreturn\r",
    "<script>alert(1)</script>",
    " x ",
    "=1+1",
    "ß" * 512,
]


def fill(path: Path, info: CacheInfo, clips: list[CacheClip], make: Make) -> tuple[np.ndarray, np.ndarray]:
    visual, audio = make(len(clips))
    with CacheWriter.open(path, info, clips) as writer:
        writer.write([clip.id for clip in clips], visual, audio)
    return visual, audio


def test_tokens_come_back(tmp_path: Path, info: CacheInfo, clips: list[CacheClip], tokens: Make) -> None:
    visual, audio = fill(tmp_path / "c", info, clips, tokens)
    read = TokenCache(tmp_path / "c").read(["clip4", "clip1"])
    assert (read.visual.dtype.name, read.audio.dtype.name) == ("float16", "float32")
    np.testing.assert_array_equal(read.visual, visual[[4, 1]])
    np.testing.assert_array_equal(read.audio, audio[[4, 1]])


def test_any_unicode_is_an_id_and_a_label(tmp_path: Path, info: CacheInfo, tokens: Make) -> None:
    clips = [CacheClip(text, text, "train", source=text) for text in ODD]
    visual, _ = fill(tmp_path / "c", info, clips, tokens)
    cache = TokenCache(tmp_path / "c")
    assert cache.clips == clips
    np.testing.assert_array_equal(cache.read(ODD).visual, visual)


def test_plain_h5py_reads_a_shard(
    tmp_path: Path, info: CacheInfo, clips: list[CacheClip], tokens: Make
) -> None:
    visual, audio = fill(tmp_path / "c", info, clips, tokens)
    with h5py.File(tmp_path / "c/shard-00000.h5", "r") as file:
        np.testing.assert_array_equal(file["visual"][:], visual.reshape(6, 6, 5))
        np.testing.assert_array_equal(file["audio"][:], audio)
        assert [value.decode() for value in file["id"][:]] == [clip.id for clip in clips]
        assert file["crc32"][:].all()


def test_resume_adds_a_shard_and_keeps_rows(
    tmp_path: Path, info: CacheInfo, clips: list[CacheClip], tokens: Make
) -> None:
    visual, audio = fill(tmp_path / "c", info, clips[:2], tokens)
    relabelled = replace(clips[0], label="new", split="test")
    with CacheWriter.open(tmp_path / "c", info, [*clips[2:], relabelled]) as writer:
        assert writer.missing == ["clip2", "clip3", "clip4", "clip5"]
        writer.write(["clip3"], visual[:1], audio[:1])
        assert writer.missing == ["clip2", "clip4", "clip5"]
    cache = TokenCache(tmp_path / "c")
    assert cache.clips == [relabelled, *clips[1:]]
    assert [clip.id for clip in cache.present()] == ["clip0", "clip1", "clip3"]
    np.testing.assert_array_equal(cache.read(["clip1", "clip3"]).visual, visual[[1, 0]])
    assert sorted(path.name for path in (tmp_path / "c").glob("*.h5")) == ["shard-00000.h5", "shard-00001.h5"]


def test_other_tokens_are_refused_by_field(
    tmp_path: Path, info: CacheInfo, clips: list[CacheClip], tokens: Make
) -> None:
    fill(tmp_path / "c", info, clips, tokens)
    other = replace(info, recipe={"name": "other"})
    with pytest.raises(CacheError, match=r"recipe\.name: the cache has 'test', asked for 'other'"):
        CacheWriter.open(tmp_path / "c", other, clips)


def test_an_id_cannot_change_its_source(tmp_path: Path, info: CacheInfo) -> None:
    clip = CacheClip("x", "a", "train", source="a.mp4 0-2 s")
    CacheWriter.open(tmp_path / "c", info, [clip]).close()
    CacheWriter.open(tmp_path / "c", info, [replace(clip, source="")]).close()
    assert TokenCache(tmp_path / "c").clips == [clip]
    with pytest.raises(CacheError, match=r"'x' came from 'a.mp4 0-2 s'.*'b.mp4'"):
        CacheWriter.open(tmp_path / "c", info, [replace(clip, source="b.mp4")])


def test_second_writer_is_refused(tmp_path: Path, info: CacheInfo, clips: list[CacheClip]) -> None:
    with CacheWriter.open(tmp_path / "c", info, clips), pytest.raises(CacheError, match="another process"):
        CacheWriter.open(tmp_path / "c", info, clips)
    CacheWriter.open(tmp_path / "c", info, clips).close()


def test_ids_must_be_unique(tmp_path: Path, info: CacheInfo, clips: list[CacheClip]) -> None:
    with pytest.raises(CacheError, match="'clip0' stands twice"):
        CacheWriter.open(tmp_path / "c", info, [*clips, clips[0]])
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [(np.nan, "not finite"), (-np.inf, "not finite"), (70000.0, "overflow float16"), (-70000.0, "overflow")],
)
def test_numbers_that_cannot_be_stored_name_their_clip_and_store_nothing(
    tmp_path: Path, info: CacheInfo, clips: list[CacheClip], tokens: Make, value: float, message: str
) -> None:
    visual, audio = tokens(2)
    visual[1, 1, 2, 4] = value
    writer = CacheWriter.open(tmp_path / "c", info, clips)
    with writer, pytest.raises(CacheError, match=f"'clip1'.*{message}"):
        writer.write(["clip0", "clip1"], visual, audio)
    assert TokenCache(tmp_path / "c").present() == []


def test_bad_batches_are_refused(
    tmp_path: Path, info: CacheInfo, clips: list[CacheClip], tokens: Make
) -> None:
    visual, audio = tokens(2)
    with CacheWriter.open(tmp_path / "c", info, clips) as writer:
        with pytest.raises(CacheError, match="expected floating-point"):
            writer.write(["clip0"], visual, audio)
        with pytest.raises(CacheError, match="int64"):
            writer.write(["clip0", "clip1"], visual.astype(np.int64), audio)
        with pytest.raises(CacheError, match="'nobody' was not given"):
            writer.write(["clip0", "nobody"], visual, audio)
        with pytest.raises(CacheError, match="twice in one batch"):
            writer.write(["clip0", "clip0"], visual, audio)
        writer.write(["clip0", "clip1"], visual, audio)
        with pytest.raises(CacheError, match="'clip1' has tokens already"):
            writer.write(["clip1", "clip2"], visual, audio)
    with pytest.raises(CacheError, match="closed"):
        writer.write(["clip2", "clip3"], visual, audio)


def test_failures_are_kept_until_a_success(
    tmp_path: Path, info: CacheInfo, clips: list[CacheClip], tokens: Make
) -> None:
    visual, audio = tokens(1)
    with CacheWriter.open(tmp_path / "c", info, clips) as writer:
        writer.record_failure("clip1", "no_audio", 'a "quoted",\nlong story')
        writer.record_failure("clip2", "corrupt", "cut short")
        writer.record_failure("clip3", "missing", "no file \udcff\0")
    with CacheWriter.open(tmp_path / "c", info, clips) as writer:
        assert writer.failures["clip1"] == ("no_audio", 'a "quoted",\nlong story')
        assert "clip1" in writer.missing
        assert writer.failures["clip3"] == ("missing", "no file \\udcff ")
        writer.write(["clip1"], visual, audio)
        writer.write(["clip3"], visual, audio)
    assert TokenCache(tmp_path / "c").failures == {"clip2": ("corrupt", "cut short")}
    with (tmp_path / "c/failures.csv").open(newline="") as file:
        rows = [row[:3] for row in csv.reader(file)]
    assert rows == [["id", "kind", "detail"], ["clip2", "corrupt", "cut short"]]


def test_whatever_is_remarked_can_be_read(tmp_path: Path, info: CacheInfo, clips: list[CacheClip]) -> None:
    odd = "\ud800\0" + "x" * 200_000  # longer than the csv module reads
    with CacheWriter.open(tmp_path / "c", info, clips) as writer:
        writer.record_failure("clip1", odd, odd)
        writer.record_flags({"clip2": odd})
    cache = TokenCache(tmp_path / "c")
    for text in (*cache.failures["clip1"], cache.flags["clip2"]):
        assert text.startswith("\\ud800 xxx")
    with pytest.raises(CacheError, match="the writer is closed"):
        writer.record_flags({"clip2": "late"})  # another one may hold the lock by now
    assert TokenCache(tmp_path / "c").flags == cache.flags


def test_no_shards_have_no_room(tmp_path: Path, info: CacheInfo, clips: list[CacheClip]) -> None:
    with pytest.raises(CacheError, match="0 shards have no room"):
        CacheWriter.open(tmp_path / "c", info, clips, shards=0)


def test_a_full_disk_is_one_error_and_leaves_nothing(
    tmp_path: Path, info: CacheInfo, clips: list[CacheClip], tokens: Make
) -> None:
    fill(tmp_path / "old", info, clips[:1], tokens)
    before = {path.name: path.read_bytes() for path in (tmp_path / "old").iterdir()}
    many = [CacheClip(f"more{i}", "a", "train") for i in range(5000)]
    with small_disk(100_000):
        with pytest.raises(CacheError, match=r"cannot reserve 0\.0004 GB for 5000 clips.*[Ff]ile too large"):
            CacheWriter.open(tmp_path / "new", info, many)
        with pytest.raises(CacheError, match="cannot reserve"):
            CacheWriter.open(tmp_path / "old", info, many)
    assert not (tmp_path / "new").exists()
    assert {path.name: path.read_bytes() for path in (tmp_path / "old").iterdir()} == before


def test_space_is_reserved_before_the_first_row(tmp_path: Path, info: CacheInfo) -> None:
    clips = [CacheClip(f"clip{i}", "a", "train") for i in range(5000)]
    CacheWriter.open(tmp_path / "c", info, clips).close()
    stat = (tmp_path / "c/shard-00000.h5").stat()
    assert stat.st_size > 5000 * info.visual.row_bytes
    assert stat.st_blocks * 512 >= stat.st_size


def test_a_foreign_folder_is_left_alone(tmp_path: Path, info: CacheInfo, clips: list[CacheClip]) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(CacheError, match=r"'thesis.txt'.*not a token cache"):
        CacheWriter.open(tmp_path, info, clips)
    with pytest.raises(CacheError, match="cannot write a cache"):
        CacheWriter.open(tmp_path / "thesis.txt", info, clips)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
