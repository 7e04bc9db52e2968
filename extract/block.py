"""Blocks of rows: one process decodes a block's clips in workers, encodes and writes them, and reports on it.

A block is the unit of extraction, whatever runs it: `Block` goes in and `BlockReport` comes out, both small
plain data. Three stages work at once: while a batch is encoded, workers decode the next clips, those of the
next block too, and a thread writes the tokens of the batch before.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol

import numpy as np

from avcil.errors import DecodeError
from avcil.extract.media.contract import failure
from avcil.extract.options import ExtractOptions
from avcil.extract.prepare import Preparation, PreparedClip
from avcil.extract.sources.clip import Clip
from avcil.extract.tokens import TokenEncoder
from avcil.extract.workers import ClipResult, DecodePool, PoolOptions

LEAST_BLOCK_ROWS = 256
QUEUED_BATCHES = 2  # tokens waiting for the disk; at full size 2.4 MB a clip


@dataclass(frozen=True)
class Block:
    """The clips without tokens among neighbouring rows of a shard; one process at a time may write them."""

    shard: int
    first_row: int
    clips: tuple[Clip, ...]


@dataclass
class StageTimes:
    """Seconds of work in each stage; stages overlap, so they add up to more than `elapsed_s`.

    `decode_s` is summed over `workers` processes, the others over `devices`. `load_s` is host to device;
    `encode_s` is how long the devices were busy with it.
    """

    workers: int = 1
    devices: int = 1
    elapsed_s: float = 0.0
    decode_s: float = 0.0
    load_s: float = 0.0
    encode_s: float = 0.0
    write_s: float = 0.0

    def add(self, other: StageTimes) -> None:
        """Add another's seconds of work, not its elapsed time."""
        self.decode_s += other.decode_s
        self.load_s += other.load_s
        self.encode_s += other.encode_s
        self.write_s += other.write_s

    @property
    def busy(self) -> dict[str, float]:
        """Share of the elapsed time that each stage worked, 0 to 1; the largest one bound the run."""
        elapsed_s = max(self.elapsed_s, 1e-9)
        return {
            "decode": self.decode_s / max(self.workers, 1) / elapsed_s,
            "host to device": self.load_s / self.devices / elapsed_s,
            "encode": self.encode_s / self.devices / elapsed_s,
            "write": self.write_s / self.devices / elapsed_s,
        }

    @property
    def bound_by(self) -> str:
        """The stage that was busiest."""
        return max(self.busy, key=lambda stage: self.busy[stage])


@dataclass
class BlockReport:
    """What became of the clips of a block so far; `ended` says that no more will.

    Attributes:
        stored: ids of the clips whose tokens are in the cache.
        failures: id -> why a clip has no tokens.
        error: what stopped the block; the rest of the report holds nevertheless.
    """

    stored: list[str] = field(default_factory=list)
    failures: dict[str, DecodeError] = field(default_factory=dict)
    times: StageTimes = field(default_factory=StageTimes)
    error: BaseException | None = None
    ended: bool = False


class TokenStore(Protocol):
    """Where tokens go: a `RowWriter`, or what stands for one."""

    def record_flags(self, flags: Mapping[str, str]) -> None:
        """Note something about clips (id -> flag) whose tokens come next."""

    def write(self, ids: Sequence[str], visual: np.ndarray, audio: np.ndarray) -> None:
        """Take the tokens of `ids`: `visual` [n, T, S, D], `audio` [n, D]."""


def plan_blocks(clips: Iterable[Clip], rows: Mapping[str, tuple[int, int]], batch_size: int) -> list[Block]:
    """Cut the shards into ranges of whole batches and give those that hold `clips`, in order.

    The same row lies in the same block every time; `rows` is id -> shard, row.
    """
    n_rows = batch_size * -(-LEAST_BLOCK_ROWS // batch_size)
    ranges: dict[tuple[int, int], list[Clip]] = defaultdict(list)
    for clip in sorted(clips, key=lambda clip: rows[clip.id]):
        shard, row = rows[clip.id]
        ranges[shard, row - row % n_rows].append(clip)
    return [Block(shard, first, tuple(found)) for (shard, first), found in ranges.items()]


@dataclass(frozen=True)
class BlockRunner:
    """What a process runs blocks with.

    `on_report` is called in the calling thread with the running block's report, after every clip and every
    batch and when the block has `ended`.
    """

    options: ExtractOptions
    encoder: TokenEncoder
    store: TokenStore
    on_report: Callable[[BlockReport], None]

    def run_blocks(self, blocks: Iterable[Block]) -> None:
        """Run one block after the other; raises what stopped one, after its report."""
        options = self.options
        work = Preparation(self.encoder.recipe, options.decoder, options.allow_missing)
        decoding = PoolOptions(options.decode_workers, options.deadline_s, ready=options.batch_size)
        with DecodePool(work, decoding) as pool:
            ahead: tuple[Block, Iterator[ClipResult[PreparedClip]]] | None = None
            for block in chain(blocks, (None,)):
                started = None if block is None else (block, pool.run(block.clips))
                if ahead is not None:
                    report = self.run_block(*ahead)
                    self.on_report(report)
                    if report.error is not None:
                        raise report.error
                ahead = started

    def run_block(self, block: Block, decoded: Iterable[ClipResult[PreparedClip]]) -> BlockReport:
        """Store the tokens of every clip, or note why it has none.

        Interrupted or failing, it stores what was encoded; the error is part of the report.
        """
        report = BlockReport()
        began_s = time.monotonic()
        try:
            with ThreadPoolExecutor(1, "cache-writer") as writer:
                self._run(len(block.clips), decoded, report, writer)
        except BaseException as error:  # a value, so that what was noted goes with it
            report.error = error
        report.times.elapsed_s = time.monotonic() - began_s
        report.ended = True
        return report

    def _run(
        self,
        n_clips: int,
        decoded: Iterable[ClipResult[PreparedClip]],
        report: BlockReport,
        writer: ThreadPoolExecutor,
    ) -> None:
        batch: dict[str, PreparedClip] = {}
        writes: deque[Future[None]] = deque()
        self.on_report(report)
        for n_decoded, result in enumerate(decoded, start=1):
            report.times.decode_s += result.elapsed_s
            if isinstance(result.value, DecodeError):
                report.failures[result.clip.id] = result.value
            else:
                batch[result.clip.id] = result.value
            if len(batch) == self.options.batch_size or (batch and n_decoded == n_clips):
                writes.append(writer.submit(self._write, report, *self._encode(batch, report)))
                batch = {}
                if len(writes) > QUEUED_BATCHES:
                    writes.popleft().result()
            self.on_report(report)
        for write in writes:
            write.result()

    def _encode(
        self, batch: Mapping[str, PreparedClip], report: BlockReport
    ) -> tuple[list[str], np.ndarray, np.ndarray, dict[str, str]]:
        """Ids and tokens of the clips whose tokens are finite, and the flags of those that have some."""
        asked_s = time.monotonic()
        loaded = self.encoder.load(list(batch.values()))
        started_s = time.monotonic()
        report.times.load_s += started_s - asked_s
        tokens = self.encoder.run(*loaded)
        finite = np.isfinite(tokens.visual).all((1, 2, 3)) & np.isfinite(tokens.audio).all(1)
        report.times.encode_s += time.monotonic() - started_s
        for clip_id, is_finite in zip(batch, finite, strict=True):
            if not is_finite:
                detail = "the encoders give infinite or undefined tokens; try another --precision"
                report.failures[clip_id] = failure("not-finite", detail)
        ids = [clip_id for clip_id, is_finite in zip(batch, finite, strict=True) if is_finite]
        flags = {clip_id: " ".join(batch[clip_id].flags) for clip_id in ids if batch[clip_id].flags}
        return ids, tokens.visual[finite], tokens.audio[finite], flags

    def _write(
        self,
        report: BlockReport,
        ids: list[str],
        visual: np.ndarray,
        audio: np.ndarray,
        flags: Mapping[str, str],
    ) -> None:
        """Run in the writer's thread, which alone changes these parts of the report."""
        started_s = time.monotonic()
        if flags:  # first: better a flag without tokens than tokens without their flag
            self.store.record_flags(flags)
        if ids:
            self.store.write(ids, self.encoder.kept(visual), audio)
            report.stored += ids
        report.times.write_s += time.monotonic() - started_s
