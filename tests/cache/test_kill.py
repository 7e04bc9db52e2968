"""A writer killed with SIGKILL, for real: completed rows stay, and the resumed cache is the same bytes.

`python tests/cache/test_kill.py 50` kills 50 times.
"""

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from avcil.cache import CacheWriter, SyntheticSpec, TokenCache, write_synthetic_cache
from avcil.cache import synthetic as made_up
from avcil.cache.operations.verify import verify

SPEC = SyntheticSpec(classes=4, train=100, val=0, test=0, time=4, space=25, width=64)
BATCH, KILLS_A_CACHE = 4, 5


def fill(path: Path) -> None:
    """Write what is missing, a few rows at a time; say each batch that is done."""
    keys = {clip.id: key for clip, key in made_up._clips(SPEC)}
    clips = [clip for clip, _ in made_up._clips(SPEC)]
    print("ready", flush=True)
    with CacheWriter.open(path, made_up._info(SPEC), clips) as writer:
        missing = writer.missing
        for start in range(0, len(missing), BATCH):
            ids = missing[start : start + BATCH]
            visual, audio = zip(*(made_up._tokens(SPEC, keys[clip_id]) for clip_id in ids), strict=True)
            writer.write(ids, np.stack(visual), np.stack(audio))
            print(*ids, flush=True)


def fill_and_kill(path: Path, draw: random.Random) -> set[str]:
    """Start a writer, kill it before its first batch is done or after a few; gives the ids it announced."""
    done: set[str] = set()
    with subprocess.Popen([sys.executable, __file__, str(path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        batches = draw.randrange(13)
        for _ in range(batches):
            done |= set(child.stdout.readline().split())
        time.sleep(draw.uniform(0, 0.004 if batches else 0.03))
        child.kill()
        done |= {clip_id for line in child.stdout for clip_id in line.split()}
    assert child.returncode == -9, "the writer was done before it was killed"
    return done


def kill_and_resume(folder: Path, seed: int) -> int:
    """Fill a cache with a writer that is killed again and again; gives how many rows it had at the end."""
    write_synthetic_cache(folder / "whole", SPEC)
    whole, draw, killed = TokenCache(folder / "whole"), random.Random(seed), folder / "killed"
    done: set[str] = set()
    for kill in range(1, KILLS_A_CACHE + 1):
        done |= fill_and_kill(killed, draw)
        if not (killed / "cache.json").exists():
            assert not done
            continue
        cache = TokenCache(killed)
        present = [clip.id for clip in cache.present()]
        assert done <= set(present) and len(present) <= len(done) + kill * BATCH
        assert verify(cache).bad == ()
        np.testing.assert_array_equal(cache.read(present).visual, whole.read(present).visual)
    assert len(done) < len(whole.clips)
    write_synthetic_cache(killed, SPEC)
    assert content(killed) == content(folder / "whole")
    return len(done)


def content(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


@pytest.mark.parametrize("seed", [0, 1])
def test_a_killed_writer_loses_only_the_batch_in_flight(seed: int, tmp_path: Path) -> None:
    assert kill_and_resume(tmp_path, seed) > 0


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


def kill_many_times(times: int) -> None:
    """Report what `times` kills left; an assertion fails at the first loss."""
    for seed in range(0, times, KILLS_A_CACHE):
        with tempfile.TemporaryDirectory() as folder:
            rows = kill_and_resume(Path(folder), seed)
        print(f"{seed + KILLS_A_CACHE} kills: {rows} rows were completed; all are whole, the end is the same")


if __name__ == "__main__":
    if sys.argv[1].isdecimal():
        kill_many_times(int(sys.argv[1]))
    else:
        fill(Path(sys.argv[1]))
