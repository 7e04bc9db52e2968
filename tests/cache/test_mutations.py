"""A thousand random mutations of a small cache: an error, or the tokens and labels that were written.

The work is done in child processes, which print each seed before they try it: a crash names its seed.
"""

import json
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from avcil.cache import CacheClip, CacheInfo, CacheWriter, EncoderInfo, TokenCache, TokenSpec
from avcil.errors import CacheError

CLIPS = [CacheClip(f"clip {i}", "ab"[i % 2], ("train", "val", "test")[i % 3]) for i in range(12)]
SHAPE = (4, 10, 32)
CHILDREN, SEEDS = 4, 1000


def make(path: Path) -> None:
    """Two shards, a failure, a flag, and a row that is not written."""
    encoder = EncoderInfo("x", "a" * 64)
    info = CacheInfo(TokenSpec(SHAPE, "int8"), TokenSpec((32,), "float32"), {"name": "x"}, encoder, encoder)
    rng = np.random.default_rng(0)
    for part in (CLIPS[:8], CLIPS[8:]):
        with CacheWriter.open(path, info, part) as writer:
            ids = [clip.id for clip in part[:-1]]
            writer.write(ids, rng.standard_normal((len(ids), *SHAPE)), rng.standard_normal((len(ids), 32)))
            writer.record_failure(part[-1].id, "corrupt", "cut short")
            writer.record_flags({ids[0]: "missing-audio"})


def flip(path: Path, draw: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def overwrite(path: Path, draw: random.Random) -> None:
    data = bytearray(path.read_bytes())
    start = draw.randrange(len(data))
    size = min(draw.choice([1, 4, 64, 512, 4096]), len(data) - start)
    data[start : start + size] = draw.choice([bytes(size), b"\xff" * size, draw.randbytes(size)])
    path.write_bytes(data)


def move_block(path: Path, draw: random.Random) -> None:
    data = bytearray(path.read_bytes())
    size = min(draw.choice([1, 4, 30, 120]), len(data) // 2)
    one, two = draw.randrange(len(data) - size), draw.randrange(len(data) - size)
    data[one : one + size], data[two : two + size] = data[two : two + size], data[one : one + size]
    path.write_bytes(data)


def drop_lines(path: Path, draw: random.Random) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    del lines[draw.randrange(len(lines)) :][: draw.randrange(1, 3)]
    path.write_bytes(b"".join(lines))


def truncate(path: Path, draw: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: draw.randrange(len(data))])


def append(path: Path, draw: random.Random) -> None:
    with path.open("ab") as file:
        file.write(draw.randbytes(draw.choice([1, 100, 5000])))


def delete(path: Path, draw: random.Random) -> None:
    path.unlink()


def swap(path: Path, draw: random.Random) -> None:
    other = draw.choice(sorted(path.parent.iterdir()))
    content = path.read_bytes(), other.read_bytes()
    other.write_bytes(content[0])
    path.write_bytes(content[1])


MUTATIONS: list[Callable[[Path, random.Random], None]] = [
    flip, flip, overwrite, overwrite, move_block, drop_lines, truncate, append, delete, swap
]  # fmt: skip


def try_seeds(folder: Path, first: int) -> None:
    """Mutate copies of a cache and compare all that can be read with what was written."""
    make(folder / "whole")
    whole = TokenCache(folder / "whole")
    tokens = {clip.id: content(whole, clip.id) for clip in whole.present()}
    outcomes = {"refused": 0, "bad row": 0, "lost": 0, "harmless": 0}
    for seed in range(first, SEEDS, CHILDREN):
        print(seed, flush=True)
        draw, damaged = random.Random(seed), folder / "damaged"
        shutil.rmtree(damaged, ignore_errors=True)
        shutil.copytree(folder / "whole", damaged)
        files = [path for path in sorted(damaged.iterdir()) if path.stat().st_size]
        shards = [path for path in files if path.suffix == ".h5"]
        draw.choice(MUTATIONS)(draw.choice(draw.choice([files, shards])), draw)
        outcomes[outcome(damaged, whole, tokens)] += 1
    print(json.dumps(outcomes))


def content(cache: TokenCache, clip_id: str) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in vars(cache.read([clip_id])).items()}


def outcome(damaged: Path, whole: TokenCache, tokens: dict[str, dict[str, bytes]]) -> str:
    try:
        cache = TokenCache(damaged)
    except CacheError:
        return "refused"
    assert cache.clips == whole.clips and cache.info == whole.info
    assert cache.failures in (whole.failures, {}) and cache.flags in (whole.flags, {})
    bad = 0
    for clip in cache.present():
        try:
            assert content(cache, clip.id) == tokens[clip.id]
        except CacheError:
            bad += 1
        try:
            assert cache.read_audio([clip.id]).tobytes() == tokens[clip.id]["audio"]
        except CacheError:
            bad += 1
    with CacheWriter.open(damaged, whole.info, CLIPS) as writer:
        assert set(writer.missing) == {clip.id for clip in CLIPS if not cache.has(clip.id)}
    if bad:
        return "bad row"
    return "harmless" if len(cache.present()) == len(whole.present()) else "lost"


def test_no_mutation_crashes_or_yields_a_wrong_token(tmp_path: Path) -> None:
    def run(first: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-X", "faulthandler", __file__, str(tmp_path / str(first)), str(first)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    total: Counter[str] = Counter()
    with ThreadPoolExecutor(CHILDREN) as pool:
        for child in list(pool.map(run, range(CHILDREN))):
            *seeds, counts = child.stdout.splitlines() or [""]
            assert child.returncode == 0, f"{counts}: exit {child.returncode}\n{child.stderr}"
            assert len(seeds) == SEEDS // CHILDREN
            total.update(json.loads(counts))
    assert sum(total.values()) == SEEDS and all(total.values()), total


if __name__ == "__main__":
    try_seeds(Path(sys.argv[1]), int(sys.argv[2]))
