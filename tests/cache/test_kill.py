"""A writer killed with SIGKILL, for real: completed rows stay, and the resumed cache is the same bytes."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from avcil.cache import CacheWriter, SyntheticSpec, TokenCache, write_synthetic_cache
from avcil.cache import synthetic as made_up

SPEC = SyntheticSpec(classes=4, train=100, val=0, test=0, time=4, space=25, width=64)
BATCH = 4


def fill(path: Path, announce: bool) -> None:
    """Write what is missing, a few rows at a time; say each batch that is done."""
    keys = {clip.id: key for clip, key in made_up._clips(SPEC)}
    clips = [clip for clip, _ in made_up._clips(SPEC)]
    with CacheWriter.open(path, made_up._info(SPEC), clips) as writer:
        missing = writer.missing
        for start in range(0, len(missing), BATCH):
            ids = missing[start : start + BATCH]
            visual, audio = zip(*(made_up._tokens(SPEC, keys[clip_id]) for clip_id in ids), strict=True)
            writer.write(ids, np.stack(visual), np.stack(audio))
            if announce:
                sys.stdout.write(" ".join(ids) + "\n")
                sys.stdout.flush()


def content(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_a_killed_writer_loses_only_the_batch_in_flight(tmp_path: Path) -> None:
    fill(tmp_path / "whole", announce=False)
    tokens = TokenCache(tmp_path / "whole")
    rng, killed, done = random.Random(5), tmp_path / "killed", set()
    for _ in range(5):
        command = [sys.executable, __file__, str(killed)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for _ in range(rng.randrange(1, 12)):
                done |= set(child.stdout.readline().split())
            time.sleep(rng.uniform(0, 0.004))
            child.kill()
            done |= {clip_id for line in child.stdout for clip_id in line.split()}
        assert child.returncode == -9, "the writer was done before it was killed"
        cache = TokenCache(killed)
        present = [clip.id for clip in cache.present()]
        assert done <= set(present)
        assert len(present) <= len(done) + 5 * BATCH
        np.testing.assert_array_equal(cache.read(present).visual, tokens.read(present).visual)
    assert 0 < len(done) < len(tokens.clips)
    fill(killed, announce=False)
    assert content(killed) == content(tmp_path / "whole")


def test_stopped_at_any_single_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = SyntheticSpec(classes=2, train=2, val=0, test=0, time=1, space=2, width=4)
    write_synthetic_cache(tmp_path / "whole", spec)
    pwrite = os.pwrite
    for last in range(4 * 4 + 2):  # ids, user block, then of four rows visual, audio and their checksums
        budget = iter(range(last))

        def stopping(fd: int, data: memoryview, offset: int, budget: Iterator[int] = budget) -> int:
            if next(budget, None) is None:
                if len(data) > 4:  # four aligned bytes arrive together or not at all
                    pwrite(fd, data[: len(data) // 2], offset)
                raise KeyboardInterrupt
            return pwrite(fd, data, offset)

        path = tmp_path / str(last)
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(os, "pwrite", stopping)
            write_synthetic_cache(path, spec)
        assert path.exists() == (last > 1)
        if path.exists():
            cache = TokenCache(path)
            cache.read([clip.id for clip in cache.present()])
            assert len(cache.present()) == max(0, last - (2 + 4 * 3))
        write_synthetic_cache(path, spec)
        assert content(path) == content(tmp_path / "whole")


if __name__ == "__main__":
    fill(Path(sys.argv[1]), announce=True)
