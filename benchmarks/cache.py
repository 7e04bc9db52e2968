"""How fast is the cache, and is it ever why training waits?

    python -m benchmarks.cache                            600 clips at full size: 5 GB of disk, 5 GB of RAM
    python -m benchmarks.cache --clips 64 --rows 32       a quick run

In one run on one machine, the files in the page cache unless noted:

* float16, int8: `load_tokens`, as training does: clips into RAM as stored, every checksum verified;
* published: the layout of the published features, one HDF5 file with a float32 dataset [T*S, D] per clip,
  read through h5py into a float32 tensor;
* memmap: rows of an `np.memmap` over the same bytes as the float16 cache's, copied, not verified.

All ways fill memory that is new, as for every step; those marked `reused` fill memory that was filled
before. The ways take turns within a repeat and a ratio is the median of the ratios within the repeats, so
that whatever else the machine does hits all of them. `cpu_` ratios are of CPU time, that of all threads and
of the kernel for the process: what a way costs where others want the cores too. Last, what a batch costs the
training loop, gathered at random and widened to float32.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
import torch

from avcil.cache import CacheClip, CacheInfo, CacheWriter, EncoderInfo, TokenCache, Tokens, TokenSpec
from avcil.cache.row import crc32
from avcil.train.tokens.batches import StepTokens
from avcil.train.tokens.budget import Budget
from avcil.train.tokens.loading import TokenNeeds, TokenSet, load_tokens
from avcil.train.tokens.reading import read_into

SHAPE = (8, 196, 768)  # T, S, D of the published features
PLACES = SHAPE[0] * SHAPE[1]
UNIQUE = 16  # clips that are made up; the rest repeat them, which costs the same to store and to read
CPU = torch.device("cpu")
PLENTY, NOTHING = Budget(0, 1 << 50), Budget(0, 0)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--clips", type=int, default=600, help="clips in every file")
    parser.add_argument("--rows", type=int, default=64, help="clips that are read at a time")
    parser.add_argument("--batch", type=int, default=256, help="clips of a batch")
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--folder", type=Path, default=None, help="where to put the files; default: TMPDIR")
    asked = parser.parse_args()
    rows, batch = min(asked.rows, asked.clips), min(asked.batch, asked.clips)
    with tempfile.TemporaryDirectory(prefix="avcil-benchmark-", dir=asked.folder) as folder:
        result = measure(Path(folder), asked.clips, rows, batch, asked.repeats)
    print(json.dumps(result))


def measure(folder: Path, clips: int, rows: int, batch: int, repeats: int) -> dict[str, object]:
    """All figures of one run."""
    ids = [f"clip-{index:05d}" for index in range(clips)]
    rng = np.random.default_rng(0)
    made_up = rng.standard_normal((UNIQUE, *SHAPE), np.float32), rng.standard_normal((UNIQUE, SHAPE[2]))
    written = {
        "published": write_published(folder / "published.h5", ids, made_up[0]),
        **{dtype: write_cache(folder / dtype, ids, dtype, *made_up) for dtype in ("float16", "int8")},
    }
    caches = {dtype: TokenCache(folder / dtype) for dtype in ("float16", "int8")}
    clip_bytes = {
        "published": int(np.prod(SHAPE)) * 4,
        **{name: one.info.visual.row_bytes + one.info.audio.row_bytes for name, one in caches.items()},
    }
    for name, clips_per_s in written.items():
        print(f"write {name}: {clips_per_s:.0f} clips/s, {clips_per_s * clip_bytes[name] / 1e9:.2f} GB/s")

    ways = reading_ways(folder, ids, caches, rows)
    seconds = interleaved(ways, rng, clips, rows, repeats)
    cold = {f"{name} cold": chilled(folder, ways[name]) for name in COLD}
    seconds |= interleaved(cold, rng, clips, rows, 5)
    rate = {name: rows / statistics.median(one[WALL] for one in times) for name, times in seconds.items()}
    for name, clips_per_s in rate.items():
        print(f"{name}: {clips_per_s:.0f} clips/s")
    loop = batch_costs(caches, ids, rng, batch, 7)
    for name, times in loop.items():
        print(f"batch of {batch}, {name}: {1000 * statistics.median(times):.0f} ms")

    def ratio(one: str, other: str, clock: int = WALL) -> float:
        pairs = zip(seconds[one], seconds[other], strict=True)
        return round(statistics.median(b[clock] / a[clock] for a, b in pairs), 2)

    return {
        "clips": clips,
        "rows": rows,
        "checksum": crc32.__module__,
        "random_read_vs_published": ratio("float16", "published"),
        "random_read_vs_memmap": ratio("float16", "memmap"),
        "write_gb_s": round(written["float16"] * clip_bytes["float16"] / 1e9, 2),
        "read_gb_s": round(rate["float16 sequential"] * clip_bytes["float16"] / 1e9, 2),
        "random_read_gb_s": round(rate["float16"] * clip_bytes["float16"] / 1e9, 2),
        "reused_vs_published": ratio("float16 reused", "published reused"),
        "reused_vs_memmap": ratio("float16 reused", "memmap reused"),
        "verified_vs_not": ratio("float16 one thread", "float16 one thread, not verified"),
        "int8_vs_published": ratio("int8", "published"),
        "int8_write_gb_s": round(written["int8"] * clip_bytes["int8"] / 1e9, 2),
        "write_vs_published": round(written["float16"] / written["published"], 2),
        "cold_vs_published": ratio("float16 cold", "published cold"),
        "cpu_vs_published": ratio("float16", "published", CPU_TIME),
        "cpu_vs_memmap": ratio("float16", "memmap", CPU_TIME),
        "cpu_reused_vs_published": ratio("float16 reused", "published reused", CPU_TIME),
        "cpu_reused_vs_memmap": ratio("float16 reused", "memmap reused", CPU_TIME),
        "clips_per_s": {name: round(value) for name, value in rate.items()},
        "batch_ms": {name: round(1000 * statistics.median(times)) for name, times in loop.items()},
    }


Way = Callable[[np.ndarray], object]
WALL, CPU_TIME = 0, 1
COLD = ("float16", "published", "memmap")


def reading_ways(
    folder: Path, ids: Sequence[str], caches: dict[str, TokenCache], rows: int
) -> dict[str, Way]:
    """Ways to read the clips at some positions."""
    half, small = caches["float16"], caches["int8"]
    raw_path, offset = half.shards[0].shard.path, half.shards[0].shard.offsets["visual"]
    raw_shape = (len(ids), PLACES, SHAPE[2])
    kept = half.empty(rows)
    kept_wide = torch.from_numpy(np.empty((rows, *raw_shape[1:]), np.float32))

    def loaded(cache: TokenCache, order: np.ndarray) -> StepTokens:
        chosen = TokenSet("clips", [ids[row] for row in order], 1)
        return load_tokens(cache, [chosen], TokenNeeds(), CPU, PLENTY)[0][0]

    def published(order: np.ndarray, out: torch.Tensor | None = None) -> torch.Tensor:
        out = torch.empty(len(order), *raw_shape[1:]) if out is None else out
        with h5py.File(folder / "published.h5") as file:
            for i, row in enumerate(order):
                file[ids[row]].read_direct(out[i].numpy())
        return out

    def memmap(order: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        out = np.empty((len(order), *raw_shape[1:]), np.float16) if out is None else out
        raw = np.memmap(raw_path, np.float16, "r", offset, raw_shape)
        for i, row in enumerate(order):
            out[i] = raw[row]
        return out

    def one_thread(order: np.ndarray, verify: bool) -> Tokens:
        return half.read([ids[row] for row in order], out=kept, verify=verify)

    return {
        "float16": lambda order: loaded(half, order),
        "float16 sequential": lambda order: loaded(half, np.arange(len(order))),
        "float16 reused": lambda order: read_into(half, [ids[row] for row in order], kept),
        "float16 one thread": lambda order: one_thread(order, True),
        "float16 one thread, not verified": lambda order: one_thread(order, False),
        "int8": lambda order: loaded(small, order),
        "int8 sequential": lambda order: loaded(small, np.arange(len(order))),
        "published": published,
        "published sequential": lambda order: published(np.arange(len(order))),
        "published reused": lambda order: published(order, kept_wide),
        "memmap": memmap,
        "memmap reused": lambda order: memmap(order, kept.visual.reshape(rows, *raw_shape[1:])),
    }


def interleaved(
    ways: dict[str, Way], rng: np.random.Generator, clips: int, rows: int, repeats: int
) -> dict[str, list[tuple[float, float]]]:
    """Seconds (wall, CPU) of every way in every repeat, each with the same rows; a first round warms up."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        order = rng.permutation(clips)[:rows]
        for name in rng.permutation(list(ways)):
            began = time.perf_counter(), time.process_time()
            ways[name](order)
            ended = time.perf_counter(), time.process_time()
            if repeat:
                seconds[name].append((ended[WALL] - began[WALL], ended[CPU_TIME] - began[CPU_TIME]))
    return seconds


def chilled(folder: Path, way: Way) -> Way:
    """The same with the files out of the page cache; that takes part of the time, for every way alike."""

    def cold(order: np.ndarray) -> object:
        for path in (*folder.glob("*/shard-*.h5"), folder / "published.h5"):
            fd = os.open(path, os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)
        return way(order)

    return cold


def batch_costs(
    caches: dict[str, TokenCache], ids: Sequence[str], rng: np.random.Generator, rows: int, repeats: int
) -> dict[str, list[float]]:
    """Seconds until the next batch is there, drawn at random and widened clip by clip, nothing computed."""

    def epochs(cache: TokenCache, budget: Budget) -> Iterator[None]:
        (tokens,), _ = load_tokens(cache, [TokenSet("clips", ids, rows)], TokenNeeds(), CPU, budget)
        orders = (torch.from_numpy(rng.permutation(len(ids))[:rows]) for _ in range(repeats + 2))
        for batch in tokens.batches(orders, torch.float32):
            assert batch.visual is not None
            for clip in range(rows):  # as the attention does
                batch.visual.widened(torch.float32, clip, clip + 1)
            yield

    seconds: dict[str, list[float]] = {}
    for dtype, cache in caches.items():
        for where, budget in (("in RAM", PLENTY), ("streamed", NOTHING)):
            batches = epochs(cache, budget)
            next(batches), next(batches)  # fill what is used again
            times = seconds[f"{dtype} {where}"] = []
            for _ in range(repeats):
                began_s = time.perf_counter()
                next(batches)
                times.append(time.perf_counter() - began_s)
    return seconds


def write_published(path: Path, ids: Sequence[str], visual: np.ndarray) -> float:
    """One float32 dataset per clip, on the disk when it returns; clips/s."""
    began_s = time.perf_counter()
    with h5py.File(path, "w") as file:
        for index, clip_id in enumerate(ids):
            file.create_dataset(clip_id, data=visual[index % UNIQUE].reshape(PLACES, SHAPE[2]))
    with path.open("r+b") as raw:
        os.fsync(raw.fileno())
    return len(ids) / (time.perf_counter() - began_s)


def write_cache(path: Path, ids: Sequence[str], dtype: str, visual: np.ndarray, audio: np.ndarray) -> float:
    """A cache of the same clips; clips/s."""
    encoder = EncoderInfo("made up", "0" * 64)
    info = CacheInfo(TokenSpec(SHAPE, dtype), TokenSpec(SHAPE[2:], "float32"), {}, encoder, encoder)
    began_s = time.perf_counter()
    with CacheWriter.open(path, info, [CacheClip(clip_id, "x", "train") for clip_id in ids]) as writer:
        for start in range(0, len(ids), UNIQUE):
            some = ids[start : start + UNIQUE]
            writer.write(some, visual[: len(some)], audio[: len(some)])
    return len(ids) / (time.perf_counter() - began_s)


if __name__ == "__main__":
    main()
