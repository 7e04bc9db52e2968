"""Flags are never lost with tokens on the disk, whatever a writer is killed at, and cost one line each."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from avcil.cache import CacheClip, CacheInfo, CacheWriter, RowWriter, TokenCache, TokenSpec
from avcil.cache.folder import FLAGS_LOG_NAME
from avcil.cache.schema import EncoderInfo
from avcil.errors import CacheError

Make = Callable[[int], tuple[np.ndarray, np.ndarray]]
N, FLAG = 4000, "missing-audio"


def fill(path: Path) -> None:
    """Write clips one by one, every second one with a flag; for a process that is killed."""
    encoder = EncoderInfo("x", "a" * 64)
    info = CacheInfo(
        TokenSpec((1, 1, 2), "float16"), TokenSpec((2,), "float32"), {"name": "x"}, encoder, encoder
    )
    clips = [CacheClip(str(i), "a", "train") for i in range(N)]
    with CacheWriter.open(path, info, clips) as writer:
        for clip_id in writer.missing:
            if int(clip_id) % 2:
                writer.record_flags({clip_id: FLAG})
            writer.write([clip_id], np.ones((1, 1, 1, 2)), np.ones((1, 2)))
            print(clip_id, flush=True)


def test_a_killed_writer_leaves_no_tokens_without_their_flag(tmp_path: Path) -> None:
    path = tmp_path / "c"
    for kill in range(1, 5):
        with subprocess.Popen([sys.executable, __file__, str(path)], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            for _ in range(11 * kill):
                assert child.stdout.readline()
            child.kill()
        assert child.returncode == -9
        cache = TokenCache(path)
        odd = {clip.id for clip in cache.present() if int(clip.id) % 2}
        assert odd and odd <= cache.flags.keys() and len(cache.flags.keys() - odd) <= kill
        assert (path / FLAGS_LOG_NAME).exists()
    with CacheWriter.open(path, cache.info, cache.clips):
        assert not (path / FLAGS_LOG_NAME).exists() and (path / "flags.csv").exists()
    assert TokenCache(path).flags == cache.flags


@pytest.fixture
def writer(tmp_path: Path, info: CacheInfo, clips: list[CacheClip]) -> CacheWriter:
    return CacheWriter.open(tmp_path / "c", info, clips)


def test_the_table_is_written_once(writer: CacheWriter, tmp_path: Path) -> None:
    for i in (1, 0, 3):
        writer.record_flags({f"clip{i}": FLAG})
        assert not (tmp_path / "c/flags.csv").exists()
    assert TokenCache(tmp_path / "c").flags == dict.fromkeys(["clip1", "clip0", "clip3"], FLAG)
    writer.record_flags({"clip0": "other"})
    writer.close()
    assert TokenCache(tmp_path / "c").flags == {"clip1": FLAG, "clip0": "other", "clip3": FLAG}
    assert not (tmp_path / "c" / FLAGS_LOG_NAME).exists()


def test_another_process_flags_the_rows_that_are_its_own(
    writer: CacheWriter, tmp_path: Path, tokens: Make
) -> None:
    rows = RowWriter.of_cache(writer.path, writer.info)
    rows.record_flags({"clip2": FLAG})
    rows.write(["clip2"], *tokens(1))
    rows.close()
    with pytest.raises(CacheError, match="'nobody' was not given"):
        rows.record_flags({"nobody": FLAG})
    writer.close()
    assert TokenCache(tmp_path / "c").flags == {"clip2": FLAG}


def test_a_line_cut_off_is_none_and_a_damaged_one_an_error(writer: CacheWriter, tmp_path: Path) -> None:
    writer.record_flags({"clip2": FLAG, "clip3": FLAG})
    writer._rows.close()
    log = tmp_path / "c" / FLAGS_LOG_NAME
    whole = log.read_bytes()
    assert [json.loads(line)[:2] for line in whole.splitlines()] == [["clip2", FLAG], ["clip3", FLAG]]
    for end in range(len(whole)):
        log.write_bytes(whole[:end])
        assert len(TokenCache(tmp_path / "c").flags) == whole[:end].count(b"\n")
    for place in range(len(whole) - 1):
        changed = bytearray(whole)
        changed[place] ^= 1
        log.write_bytes(changed)
        with pytest.raises(CacheError, match=r"flags\.log, line [123], is damaged: .*; delete it"):
            TokenCache(tmp_path / "c")


def test_a_full_disk_is_one_error(writer: CacheWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CacheError, match=r"cannot write .*flags\.log: No space left"):
        writer.record_flags({"clip2": FLAG})


if __name__ == "__main__":
    fill(Path(sys.argv[1]))
